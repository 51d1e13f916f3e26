"""The error codes of the export package, each declared once."""

from autosam_edge.errors import ErrorCode

# Export
TARGET_UNKNOWN = ErrorCode(
    "AE-EXPORT-001", "unknown target or precision", "Choose one of those that the message lists."
)
STUDENT_FILE_INVALID = ErrorCode(
    "AE-EXPORT-002", "the checkpoint is not a student's", "Give the student.safetensors that training wrote."
)
ARTIFACT_DIFFERS = ErrorCode(
    "AE-EXPORT-003",
    "an artifact is not equal to the student; each figure outside of its tolerance is named",
    "Train the student further if its training is short: it may decide too little between its classes. "
    "Otherwise give `volumes` like those of its training.",
)
NOTHING_TO_COMPARE = ErrorCode(
    "AE-EXPORT-004",
    "no organ was found in the comparison volumes, so nothing is proven",
    "Train the student, or give `volumes` in which it finds organs.",
)
ARTIFACT_FAILS = ErrorCode(
    "AE-EXPORT-005", "the artifact does not run", "Export it again with the pinned versions."
)
PATCH_UNSUITABLE = ErrorCode(
    "AE-EXPORT-006",
    "the student does not take the patch",
    "Use the patch that it was trained on; sides are multiples of 32 (of 16 for networks of MONAI), "
    "512 at most.",
)
OPERATOR_UNSUPPORTED = ErrorCode(
    "AE-EXPORT-007",
    "the student cannot be traced with this patch, or its export lacks an operator or rank",
    "Choose another target, or the `patch` that it was trained on.",
)
MIL_UNSUPPORTED = ErrorCode(
    "AE-EXPORT-008",
    "a Core ML program has operators, parameters or values that the interpreter does not know; each is named",
    "Convert for another opset, or add it to autosam_edge_export/mil/compute_ops.py or layout_ops.py.",
)
COREML_DAMAGED = ErrorCode("AE-EXPORT-009", "a Core ML package is damaged", "Export it again.")
PACKAGES_CONFLICT = ErrorCode(
    "AE-EXPORT-010",
    "packages of a target do not work together, such as coremltools with this numpy",
    "pip install 'numpy>=2.0,<2.4' 'coremltools>=9.0'",
)
DELEGATE_TOO_SMALL = ErrorCode(
    "AE-EXPORT-011",
    "a delegate takes too little of the work, so the rest would run in slow kernels",
    "Rewrite what it leaves in the edge form, or choose another target.",
)
INT8_NOT_POSSIBLE = ErrorCode(
    "AE-EXPORT-012",
    "int8 is not possible: the calibration tiles show no organ, or no convolution keeps its accuracy in int8",
    "Give scans in `calibration` in which the student finds organs.",
)
BF16_NOT_SUPPORTED = ErrorCode(
    "AE-EXPORT-013",
    "bf16 on a processor without it, where OpenVINO computes float32 in its place",
    "Leave bf16 out, or export on a processor with bfloat16 or AVX-512.",
)
DECISION_WEIGHTS_INVALID = ErrorCode(
    "AE-EXPORT-014",
    "the decision weights are not valid, or they or the expected Dice name an organ that the student lacks",
    "Give the files that `fit-decision-weights` and `bench confidence` wrote for this student.",
)
PLAUSIBILITY_INVALID = ErrorCode(
    "AE-EXPORT-015",
    "a file holds no thresholds of the plausibility check",
    "Give the file that `bench plausibility` wrote for this student.",
)
WEB_FILE_MISSING = ErrorCode(
    "AE-EXPORT-016",
    "a file of others that a web site needs is not at hand, or has another SHA-256 than the pinned one",
    "Allow `download`, or put the file into the folder that `pyodide` names.",
)
CONFIDENCE_INVALID = ErrorCode(
    "AE-EXPORT-017",
    "a file holds no map to the expected Dice",
    "Give the file that `bench confidence` wrote for this student.",
)
DESCRIPTION_INVALID = ErrorCode(
    "AE-EXPORT-018",
    "the name, a text, a label or the patch is none that a manifest may hold; the message names it",
    "Change what the message names; the names of the organs are those of the data set.",
)
