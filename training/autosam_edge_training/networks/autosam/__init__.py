"""AutoSAM Adapter, the teacher: SAM's image encoder made three-dimensional, with generated prompts.

One file is one box of the paper's figure 2.

Source: Li et al., Auto-Prompting SAM for Mobile Friendly 3D Medical Image Segmentation, arXiv 2308.14936.
Where the paper leaves something open, ``docs/adr/0015-teacher.md`` says how it is read.
"""

from autosam_edge_training.networks.autosam.autosam import AutoSAM
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.checkpoint import load_teacher, save_teacher
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import RandomWeightsWarning, load_sam
from autosam_edge_training.networks.autosam.trainables import parameters_by_part, trainable_parameters

__all__ = [
    "AutoSAM",
    "RandomWeightsWarning",
    "TeacherConfig",
    "build_autosam",
    "load_sam",
    "load_teacher",
    "parameters_by_part",
    "save_teacher",
    "trainable_parameters",
]
