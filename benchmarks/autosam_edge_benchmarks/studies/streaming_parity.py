"""The streaming pipeline compared with a direct one.

The direct one is MONAI's sliding window on the torch student, probabilities of the whole volume, and linear
interpolation of every voxel.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.utils import sliding_window_inference

from autosam_edge.bundle import Bundle
from autosam_edge.pipeline.body_box import body_box
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.pipeline.restore import axis_maps
from autosam_edge.pipeline.tiles import TilePlan
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Volume
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_training.networks.hu_input import DeviceForm
from autosam_edge_training.networks.students import load_student


def plain_labels(bundle: Bundle, volume: Volume) -> npt.NDArray[np.uint8]:
    """Segment a scan directly, with all probabilities of the model's grid in memory.

    Returns:
        Labels (D, H, W) uint8 on the scan's grid.
    """
    contract = bundle.manifest.input
    orientation = volume.grid.orientation
    resampler = Resampler.of_scan(volume.grid, contract.spacing_mm, contract.window_hu)
    scan = orientation.to_canonical(volume.hu)
    box = body_box(scan, resampler)
    hu = resampler.whole(scan)[box]
    tiles = TilePlan(hu.shape, contract.patch, contract.overlap, contract.rows_beyond_ends)
    before = tiles.pad_before[0]
    image = torch.from_numpy(hu[tiles.source_rows])[None, None]
    student, facts = load_student(bundle.path / "student.safetensors")
    form = DeviceForm(student, facts.input.intensity).eval()
    with torch.inference_mode():
        probability = sliding_window_inference(
            image,
            contract.patch,
            1,
            lambda tile: form(tile).softmax(1),
            overlap=contract.overlap,
            mode=contract.blend,
            cval=contract.window_hu[0],
        )[0].numpy()[:, before : before + len(hu)]
    probability *= np.array(bundle.model.class_weights, np.float32)[:, None, None, None]

    labels = np.zeros(volume.shape, dtype=np.uint8)
    canonical = orientation.to_canonical(labels)
    slices, lines, columns = axis_maps(resampler, box)
    for index in range(slices.covered.stop - slices.covered.start):
        row, fraction = slices.cell(index)
        above = np.minimum(row + 1, probability.shape[1] - 1)
        rows = (np.broadcast_to(place, probability.shape[2:])[None, None] for place in (row, above))
        lower, upper = (np.take_along_axis(probability, place, axis=1)[:, 0] for place in rows)
        plane = lower * (1 - fraction) + upper * fraction
        for axis, line in ((1, lines), (2, columns)):
            upper = np.minimum(line.lower + 1, plane.shape[axis] - 1)
            f = line.fraction.reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
            plane = plane.take(line.lower, axis) * (1 - f) + plane.take(upper, axis) * f
        canonical[slices.covered.start + index, lines.covered, columns.covered] = plane.argmax(0)
    return labels


def measure_streaming_parity(bundle: Bundle, volume: Volume) -> Result:
    """Measure the share of voxels with the same label in both pipelines, before the one-part rule.

    Args:
        bundle: Bundle folder with a float32 ONNX artifact, which the runtime runs, and the student's weights.
    """
    result = new_result("streaming parity")
    # Float32 in both, so that only the pipelines differ.
    exact = open_session(bundle, engine="onnx", precision="fp32")
    alone = dataclasses.replace(exact.model, one_part=())  # the network alone is compared
    streamed = Session(alone, exact.engine).segment(volume)
    plain = plain_labels(bundle, volume)
    organ = (streamed.labels > 0) | (plain > 0)
    same = streamed.labels == plain
    return {
        **result,
        "scan": volume.grid.described(),
        "model": bundle.manifest.name,
        "agreement": float(np.count_nonzero(same)) / same.size,
        "agreement_in_organs": float(np.count_nonzero(same & organ)) / max(1, int(np.count_nonzero(organ))),
        "voxels": same.size,
        "different": int(same.size - np.count_nonzero(same)),
    }
