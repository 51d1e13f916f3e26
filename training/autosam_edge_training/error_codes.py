"""The error codes of the training package, each declared once."""

from autosam_edge.errors import ErrorCode

# Input
DATA_FILE_MISSING = ErrorCode(
    "AE-INPUT-010",
    "a folder lacks the file that a data set must have",
    "Give the folder of the data set, or the one that `data prepare` wrote.",
)

# Data sets
DATA_LAYOUT_UNKNOWN = ErrorCode(
    "AE-DATA-001",
    "the folder is not laid out as the data set is, or holds a case that the data set does not have",
    "Give the folder as the data set ships it; see docs/training.md.",
)
CASE_FILE_MISSING = ErrorCode(
    "AE-DATA-002",
    "an image without label, a label without image, or a file that is missing",
    "Copy the data set whole.",
)
CASE_TWICE = ErrorCode(
    "AE-DATA-004",
    "a case is there twice, by name or by its image: in two splits, or in one",
    "Keep each case once, in one split.",
)
SPLIT_EMPTY = ErrorCode(
    "AE-DATA-005", "a split that is needed is empty", "Score another split, or prepare the data set with one."
)
DATA_DESCRIPTION_INVALID = ErrorCode(
    "AE-DATA-006",
    "`manifest.json`, `prepared.json` or `dataset.json` has unknown or missing keys, or wrong values",
    "Write it again with `data prepare`, or correct it.",
)
PREPARED_DATA_DAMAGED = ErrorCode(
    "AE-DATA-007",
    "a prepared folder is damaged: an array is missing, cut short or another one",
    "Run `data prepare` into a new folder.",
)
DATA_FILE_CHANGED = ErrorCode(
    "AE-DATA-008",
    "a file of the data set is not the one that was prepared",
    "Restore the file, or run `data prepare` again.",
)
PREDICTION_MISSING = ErrorCode(
    "AE-DATA-010",
    "no prediction of a case, or two",
    "Give one NIfTI file per case, named like the case, its image or its label.",
)
NO_COMMON_ORGAN = ErrorCode(
    "AE-DATA-011",
    "a model and a data set have no organ in common",
    "Give a method and a data set that name their organs in the same way.",
)
SCORES_INVALID = ErrorCode(
    "AE-DATA-012", "a `cases.csv` that cannot be used", "Give a cases.csv that `autosam-edge evaluate` wrote."
)
SCORES_NOT_PAIRED = ErrorCode(
    "AE-DATA-013",
    "scores that cannot be paired: other data, or another truth",
    "Score all methods on the same split of the same data.",
)

# Training
RECIPE_INVALID = ErrorCode(
    "AE-TRAIN-001",
    "a recipe has a key that is unknown, missing or wrong; each is named",
    "Give a YAML file like training/recipes/*.",
)
RUN_DIFFERS = ErrorCode(
    "AE-TRAIN-002",
    "the folder holds a run of another recipe or on other data, or a damaged one",
    "Go on with the recipe and the data that it began with, or give a new folder.",
)
RUN_IN_USE = ErrorCode(
    "AE-TRAIN-031", "another process trains in the folder", "Wait until it has ended, or give another folder."
)
RUN_MISSING = ErrorCode(
    "AE-TRAIN-003", "the folder is not that of a run", "Give the folder that `train` or `distill` wrote."
)
BATCH_NOT_DIVISIBLE = ErrorCode(
    "AE-TRAIN-004",
    "the processes cannot share the batch evenly",
    "Set schedule.batch to a multiple of the processes.",
)
STUDENT_INVALID = ErrorCode(
    "AE-TRAIN-005",
    "there is no such student, it does not take the arguments, or the weights are another's",
    "Correct student, arguments or --init.",
)
GRADIENT_NOT_FINITE = ErrorCode(
    "AE-TRAIN-006",
    "the gradient is not finite; the weights were not touched",
    "Train with precision: fp32, or with a smaller lr.",
)
NETWORK_FILE_INVALID = ErrorCode(
    "AE-TRAIN-007", "the file holds no trained network", "Give the safetensors file that a run wrote."
)
NETWORK_INPUT_DIFFERS = ErrorCode(
    "AE-TRAIN-008",
    "a network was trained on another grid, window or label table",
    "Use a network and data that were prepared in the same way.",
)
CACHE_DIFFERS = ErrorCode(
    "AE-TRAIN-009",
    "cached probabilities are of another teacher or other data, or damaged",
    "Make them again with `autosam-edge distill --cache` and a new folder.",
)
SAM_FILE_MISSING = ErrorCode(
    "AE-TRAIN-010",
    "there is no readable file at the path of the SAM checkpoint",
    "Check the path that was given for SAM's checkpoint; the message names the public files.",
)
PICKLE_UNSAFE = ErrorCode(
    "AE-TRAIN-011",
    "a checkpoint's pickle holds other things than tensors, code perhaps; nothing in it was run",
    "Do not use the file; download SAM's again.",
)
CHECKPOINT_DAMAGED = ErrorCode(
    "AE-TRAIN-012",
    "a checkpoint is damaged, or is not a table of tensors by name",
    "Copy or download it again.",
)
SAM_SIZE_DIFFERS = ErrorCode(
    "AE-TRAIN-014",
    "the SAM checkpoint is of another ViT: keys are missing, unknown or of another shape",
    "Give the checkpoint of the size that the config's vit names: b, l or h.",
)
TEACHER_FILE_INVALID = ErrorCode(
    "AE-TRAIN-015",
    "not a teacher's checkpoint, damaged, or its weights are not those of its config",
    "Give the teacher.safetensors that training wrote.",
)
SAM_FILE_NEEDED = ErrorCode(
    "AE-TRAIN-016",
    "a teacher's checkpoint holds only what trained, and its SAM file is not given or another one",
    "Give the SAM checkpoint that the teacher was trained on.",
)
RUN_FILE_INVALID = ErrorCode(
    "AE-TRAIN-020",
    "`run.json` of a scored run is missing, or a key is missing, unknown or wrong",
    "Score the run again; for the predictions of others, `autosam-edge baseline record` writes it.",
)
RUN_FILES_DIFFER = ErrorCode(
    "AE-TRAIN-021",
    "`run.json`, `cases.csv` and `summary.json` of a scored run are not of one run",
    "Score the run again; no figure is edited by hand.",
)
SAMPLING_UNSUITABLE = ErrorCode(
    "AE-TRAIN-027",
    "the recipe's sampling does not fit the data: masses, intensity changes or phantoms need BTCV's",
    "Leave that out of the recipe's sampling.",
)
FOREIGN_TEACHER_INVALID = ErrorCode(
    "AE-TRAIN-029",
    "a folder of another tool cannot teach: a case, a class name or an organ is missing",
    "Give one .npz, .nii.gz or folder of masks per training case, and dataset.json with the class names.",
)
NETWORKS_DIFFER = ErrorCode(
    "AE-TRAIN-030",
    "the weights of these networks have no mean: their networks, labels, spacings or windows differ",
    "Give students of one network that were trained on from each other.",
)
CASES_SEEN = ErrorCode(
    "AE-TRAIN-028",
    "a network would be scored on cases that it was trained on",
    "Score cases that it has not seen.",
)
