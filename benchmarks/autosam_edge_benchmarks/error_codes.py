"""The error codes of the benchmarks, each declared once."""

from autosam_edge.errors import ErrorCode

# Benchmarks
MACHINE_BUSY = ErrorCode(
    "AE-BENCH-001",
    "this machine cannot be timed now: it is busy, hot, or saves power",
    "Wait until it is quiet, or connect it to the mains; --force measures anyway and marks the row noisy.",
)
MACHINE_DISTURBED = ErrorCode(
    "AE-BENCH-002",
    "other programs used the processor during a measurement, three times",
    "Give the same command again when the machine is quiet; with --rows, what was measured is kept.",
)
ROW_INVALID = ErrorCode(
    "AE-BENCH-003",
    "a file is no row of a benchmark, or there is none",
    "Give a folder of rows that `autosam-edge bench` wrote, or correct the key that the message names.",
)
RESULT_DIFFERS = ErrorCode(
    "AE-BENCH-005",
    "the file of `--out` holds the result of another model, other data or another setting, or is damaged",
    "Give the file of the same measurement, which goes on there, or a new one.",
)
PROCESS_FAILED = ErrorCode(
    "AE-BENCH-006",
    "a process of a measurement failed",
    "Look at the message, the last line that the process wrote; with --rows, what was measured is kept.",
)
PAGE_UNMARKED = ErrorCode(
    "AE-BENCH-007",
    "`bench report`: the page does not have the two marks between which the table stands",
    "Put the lines `<!-- bench -->` and `<!-- end of bench -->` into the page, where the table shall stand.",
)
SERIES_MISSING = ErrorCode(
    "AE-BENCH-008",
    "the scan of a measurement is no folder of a DICOM series with two slices or more",
    "Give the folder of one CT series.",
)
EMULATION_FAILED = ErrorCode(
    "AE-BENCH-004",
    "`bench arm64`: the Arm64 system cannot be made, or a check of verify failed on it",
    "Look at the sentence of the message; the package index and Debian's archive must be reachable.",
)
STUDY_FAILED = ErrorCode(
    "AE-BENCH-009",
    "a study found what must not be: results that differ, a part of a result, a lost scan, or a leak",
    "Report the message as a fault of the program; parts of the study that had ended are in the result.",
)

# Training
RUN_TWICE = ErrorCode(
    "AE-TRAIN-022",
    "two scored runs have the same configuration and the same seed",
    "Remove one of the two folders from the results, so that the run is not counted as two seeds.",
)
CASE_UNKNOWN = ErrorCode(
    "AE-TRAIN-023", "figure 3: the test split has no such case", "Name one of the cases in the message."
)
NNUNET_NUMBER_INVALID = ErrorCode(
    "AE-TRAIN-024",
    "nnU-Net cannot have a data set of this number or name",
    "Use a number from 1 to 999, or prepare the data set with a name of letters, digits, '.', '_' and '-'.",
)
NOT_SAM = ErrorCode(
    "AE-TRAIN-025",
    "the file is not a checkpoint of SAM",
    "Use a public checkpoint of SAM or MedSAM; if it is one, copy it again, because it may be incomplete.",
)
METHOD_UNKNOWN = ErrorCode(
    "AE-TRAIN-026",
    "no table has the method or the data set of the scores",
    "Score the predictions again with the name of a method that the tables have (`method`).",
)

# Everything else
NO_NAMESPACE = ErrorCode(
    "AE-EXTRA-003",
    "`bench network`: this system or this user may not make network namespaces",
    "Run it on Linux with user namespaces, as root, or in a container that may make them (--privileged).",
)
NO_EMULATOR = ErrorCode(
    "AE-EXTRA-004",
    "`bench arm64`: the emulator or Debian's tools are not installed",
    "Run it on Debian or Ubuntu, after `apt-get install qemu-user-static`.",
)
