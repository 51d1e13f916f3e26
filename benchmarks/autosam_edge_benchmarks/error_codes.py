"""The error codes of the benchmarks, each declared once."""

from autosam_edge.errors import ErrorCode

# Bundle, engine, memory
BUNDLE_NOT_SCORED = ErrorCode(
    "AE-BUNDLE-006",
    "`bench students`: no scored run, or several, have a bundle's weights",
    "Score the run that the bundle was exported from with `autosam-edge score`, once.",
)

# Training
RUN_TWICE = ErrorCode(
    "AE-TRAIN-022",
    "two scored runs have one configuration and one seed",
    "Take one of the two folders out of the results; counted twice, a run would look like two seeds.",
)
CASE_UNKNOWN = ErrorCode(
    "AE-TRAIN-023", "figure 3: the test split has no such case", "Name one of those that the message lists."
)
NNUNET_NUMBER_INVALID = ErrorCode(
    "AE-TRAIN-024",
    "nnU-Net has no data set of this number or name",
    "Give another --id, or name the data set anew.",
)
NOT_SAM = ErrorCode(
    "AE-TRAIN-025",
    "the file is not a checkpoint of SAM",
    "Give a public checkpoint of SAM or MedSAM, copied whole.",
)
METHOD_UNKNOWN = ErrorCode(
    "AE-TRAIN-026",
    "the scores are of a method or data set that no table has",
    "Score the predictions again with `--method` and a name that the tables have.",
)
