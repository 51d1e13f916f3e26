"""nnU-Net's predictor and TotalSegmentator's fast mode, in an environment of their own.

The network has the shape of TotalSegmentator's 3 mm network (task 297: PlainConvUNet, patch 112 x 112 x 128,
118 classes) and random weights: they cost the same time, and no weights of others are needed. nnU-Net's
predictor resamples the logits of all classes at once, so there the network has the 14 classes of our student.

Arguments: ``prepare FOLDER``, or ``nnunet``/``totalsegmentator``, FOLDER, SCAN, OUT, THREADS.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLASSES = {"nnunet": 14, "totalsegmentator": 118}
_PATCH, _SPACING_MM = [112, 112, 128], [3.0, 3.0, 3.0]
_TASK = "Dataset297_TotalSegmentator_total_3mm_1559subj"
_MODEL = "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"


def _plans() -> dict[str, Any]:
    """Plans of nnU-Net by its own rule for patch and spacing."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, pools, kernels, _, _ = get_pool_and_conv_props(_SPACING_MM, _PATCH, 4, 999999)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": _PATCH,
        "median_image_size_in_voxels": [160.0, 140.0, 140.0],
        "spacing": _SPACING_MM,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": _architecture(pools, kernels),
        "batch_dice": False,
    }
    return {
        "dataset_name": _TASK,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": _SPACING_MM,
        "original_median_shape_after_transp": [160, 140, 140],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "max": 3071.0, "mean": 50.0, "median": 50.0, "min": -1024.0,
                "percentile_00_5": -1000.0, "percentile_99_5": 1000.0, "std": 300.0,
            }
        },
    }  # fmt: skip


def _architecture(pools: Sequence[Sequence[int]], kernels: Sequence[Sequence[int]]) -> dict[str, object]:
    """nnU-Net's plain network for these steps and kernels, one a stage."""
    stages = len(pools)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(32 * 2**stage, 320) for stage in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(kernel) for kernel in kernels],
            "strides": [list(pool) for pool in pools],
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def prepare(folder: Path) -> None:
    """Write one model folder for each tool; a folder that is whole is kept.

    Args:
        folder: Folder for the models.
    """
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    folder.mkdir(parents=True, exist_ok=True)
    # TotalSegmentator reports every run to its authors unless this file says no.
    (folder / "config.json").write_text(
        json.dumps({"totalseg_id": "not sent", "send_usage_stats": False, "prediction_counter": 0})
    )
    plans = _plans()
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    for tool, classes in CLASSES.items():
        model = folder / tool / _TASK / _MODEL
        (model / "fold_0").mkdir(parents=True, exist_ok=True)
        checkpoint = model / "fold_0" / "checkpoint_final.pth"
        if checkpoint.is_file():
            continue
        torch.manual_seed(0)
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            1,
            classes,
            allow_init=True,
            deep_supervision=False,
        )
        labels = {"background": 0, **{f"organ{value}": value for value in range(1, classes)}}
        dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
        (model / "plans.json").write_text(json.dumps(plans))
        (model / "dataset.json").write_text(json.dumps(dataset))
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": "3d_fullres"},
                "inference_allowed_mirroring_axes": None,
            },
            partial,
        )
        partial.replace(checkpoint)


def nnunet(folder: Path, scan: Path, out: Path, threads: int) -> None:
    """Segment with nnU-Net's predictor; SimpleITK reads the series."""
    import SimpleITK
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(threads)
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder / "nnunet" / _TASK / _MODEL), (0,))
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(scan)))
    voxels = SimpleITK.GetArrayFromImage(image)[None].astype("float32")
    labels = predictor.predict_single_npy_array(voxels, {"spacing": list(image.GetSpacing())[::-1]})
    result = SimpleITK.GetImageFromArray(labels)
    result.CopyInformation(image)
    SimpleITK.WriteImage(result, str(out))


def total_segmentator(folder: Path, scan: Path, out: Path, threads: int) -> None:
    """Segment with TotalSegmentator's own function in its fast mode, without changes."""
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(folder / "totalsegmentator")
    os.environ["TOTALSEG_HOME_DIR"] = str(folder)
    import torch
    from totalsegmentator.python_api import totalsegmentator

    torch.set_num_threads(threads)
    totalsegmentator(
        scan, out, ml=True, fast=True, device="cpu", quiet=True, nr_thr_resamp=threads, nr_thr_saving=threads
    )


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "prepare":
        prepare(Path(place))
    else:
        tool = {"nnunet": nnunet, "totalsegmentator": total_segmentator}[what]
        tool(Path(place), Path(rest[0]), Path(rest[1]), int(rest[2]))
