"""Values that options and parameters take, without heavy imports, so that the command line starts fast."""

from typing import Literal

Layout = Literal["btcv", "amos", "decathlon", "partial"]
"""How a data set is laid out on the disk."""

Targets = Literal["occupancy", "labels"]
"""What a prepared voxel holds: the share of every organ, or the label with the largest share."""

Split = Literal["training", "validation", "test"]
"""Part of a data set."""

AbsentOrganRule = Literal["skip", "challenge"]
"""Score of an organ that the truth lacks: none, or 1 if the prediction lacks it too and 0 otherwise."""

Unit = Literal["case_organ", "case"]
"""What a significance test pairs: an organ of a case, or a case with the mean over its organs."""

Reduction = Literal["voxel", "element"]
"""Mean of the distillation loss: over the voxels (classes summed), or over all elements."""

RunKind = Literal["student", "teacher", "distill"]
"""What a run trains: a student on labels alone, the AutoSAM teacher, or a student with a teacher."""

Distance = Literal["squared", "divergence", "labels"]
"""How far a student is from its teacher: equation 2 of the paper, the Kullback-Leibler divergence, or the
segmentation loss with the teacher's probabilities in place of the labels."""

Student = Literal["swinunetr-tiny", "swinunetr-small", "pocketnet", "pocketnet-wide"]
"""Network of a student."""
