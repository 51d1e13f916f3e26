"""MONAI's usual pipeline with the student of this project.

Load, orientation, spacing, sliding window with Gaussian weights, inverse transforms of the probabilities,
argmax, NIfTI. Spacing, tiles, overlap and weights are those of the bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.utils import sliding_window_inference
from monai.transforms.compose import Compose
from monai.transforms.io.array import SaveImage
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.post.array import AsDiscrete
from monai.transforms.post.dictionary import Invertd
from monai.transforms.spatial.dictionary import Orientationd, Spacingd
from monai.transforms.utility.dictionary import EnsureChannelFirstd

from autosam_edge.bundle import Bundle, open_bundle

Network = Callable[[torch.Tensor], torch.Tensor]


def _network(bundle: Bundle, engine: str, threads: int) -> Network:
    """The student as a function from HU (1, 1, X, Y, Z) to logits (1, C, X, Y, Z), in MONAI's axes."""
    if engine == "torch":
        from autosam_edge_training.networks.hu_input import DeviceForm
        from autosam_edge_training.networks.students import load_student

        student, facts = load_student(bundle.path / "student.safetensors")
        logits: Network = DeviceForm(student, facts.input.intensity).eval()
    else:
        from autosam_edge.engines.load import load_engine
        from autosam_edge.engines.selection import select_artifact

        loaded = load_engine(bundle, select_artifact(bundle, "onnx", "fp32"), threads)

        def logits(tile: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(loaded.run(tile[0, 0].contiguous().numpy()).copy())[None]

    # The student sees (slice, row, column) as in LPS; MONAI's axes are (column, row, slice) of RAS.
    return lambda tile: logits(tile.permute(0, 1, 4, 3, 2).flip(3, 4)).flip(3, 4).permute(0, 1, 4, 3, 2)


def main(bundle_path: str, scan: str, out: str, engine: str, threads: str) -> None:
    """Segment one scan.

    Args:
        bundle_path: Bundle with the student's weights.
        scan: Folder of a DICOM series.
        out: NIfTI file to write.
        engine: ``torch`` or ``onnx``.
        threads: Number of threads.
    """
    torch.set_num_threads(int(threads))
    bundle = open_bundle(bundle_path)
    contract = bundle.manifest.input
    network = _network(bundle, engine, int(threads))
    before = Compose(
        [
            LoadImaged("image", reader="PydicomReader"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=contract.spacing_mm[::-1], mode="bilinear"),
        ]
    )
    after = Compose([Invertd("probability", transform=before, orig_keys="image", nearest_interp=False)])
    with torch.inference_mode():
        data = before({"image": scan})
        probability = sliding_window_inference(
            data["image"][None],
            contract.patch[::-1],
            1,
            lambda tile: network(torch.as_tensor(tile)).softmax(1),
            overlap=contract.overlap,
            mode=contract.blend,
            cval=contract.window_hu[0],
        )[0]
        data["probability"] = MetaTensor(probability, meta=data["image"].meta)
        labels = AsDiscrete(argmax=True)(after(data)["probability"])
        save = SaveImage(output_postfix="", output_dtype="uint8", separate_folder=False, print_log=False)
        save(labels, filename=out.removesuffix(".nii.gz"))


if __name__ == "__main__":
    main(*sys.argv[1:])
