"""The error codes of the runtime, each declared once.

``raise SLICES_MISSING("12 of 160 slices are missing.")`` raises an error of the class that belongs to the
code, with the remedy of the code; ``remedy=`` replaces it where it has to name a value.
"""

from autosam_edge.errors import ErrorCode

# Remedies of several codes
_EXPORT_SERIES_AGAIN = (
    "Export the series again with all attributes of the CT image; nothing is assumed in their place."
)
_GET_BUNDLE_AGAIN = "Get the bundle again from its source, or export it again."

# Input
PATH_MISSING = ErrorCode(
    "AE-INPUT-001", "the path does not exist", "Check the spelling and that the medium is mounted."
)
INPUT_KIND_UNKNOWN = ErrorCode(
    "AE-INPUT-002",
    "empty, of an unknown kind, or not a regular file",
    "Give a DICOM folder or zip, or a CT volume as NIfTI, NRRD or MetaImage.",
)
INPUT_UNREADABLE = ErrorCode(
    "AE-INPUT-003", "cannot be read, or the zip cannot be unpacked", "Check the permissions and the medium."
)
SERIES_WITHOUT_DICOM = ErrorCode(
    "AE-INPUT-005", "a series was named, but the input is not DICOM", "Leave `series` out."
)
ZIP_UNSAFE = ErrorCode(
    "AE-INPUT-006",
    "the zip has a path leading out, a link, a device or a name twice",
    "Do not trust this archive; pack the series again.",
)
ZIP_TOO_LARGE = ErrorCode(
    "AE-INPUT-007",
    "the zip has too many entries or bytes, or expands too much",
    "Pack one series only, or unpack it and give the folder.",
)
ZIP_DAMAGED = ErrorCode(
    "AE-INPUT-008",
    "the zip is damaged, encrypted or uses an unknown method",
    "Copy the archive again, or unpack it and give the folder.",
)
LINK_LEADS_OUT = ErrorCode(
    "AE-INPUT-009",
    "a symbolic link whose target is missing or lies outside of the input",
    "Copy the files that the links stand for into the folder (cp -rL), or give the folder that holds both.",
)
FILE_COMPRESSED = ErrorCode(
    "AE-INPUT-011",
    "a DICOM file inside gzip",
    "Unpack the files of the series, for example with gunzip, and read it again.",
)
COMPANION_MISSING = ErrorCode(
    "AE-INPUT-012",
    "the header has its voxels in another file, and they are not one file in the header's folder",
    "Put both files into one folder under their own names, and give the header.",
)
VOLUME_TOO_LARGE = ErrorCode(
    "AE-INPUT-013", "more than 2**30 voxels in NIfTI, NRRD or MetaImage", "Give a smaller volume."
)
VOLUME_NOT_FINITE = ErrorCode(
    "AE-INPUT-014",
    "the HU of a volume made in Python hold NaN or infinity",
    "Replace NaN padding by -1024, and correct what made the values.",
)
VOLUME_GRID_INVALID = ErrorCode(
    "AE-INPUT-015",
    "a volume made in Python has a grid that no CT has",
    "Correct the affine: its columns are the steps from voxel to voxel along D, H and W, in mm.",
)

# DICOM
NO_DICOM = ErrorCode("AE-DICOM-001", "no DICOM file", "Give the folder that holds the CT series.")
NO_CT = ErrorCode(
    "AE-DICOM-002",
    "DICOM, but no CT image; the kinds found are listed",
    "Give a CT series; the model knows no other kind of image.",
)
SEVERAL_SERIES = ErrorCode(
    "AE-DICOM-003",
    "several series; they are listed",
    "Name one with `series`: its number in this list, its SeriesNumber or its hash.",
)
SERIES_NOT_FOUND = ErrorCode(
    "AE-DICOM-004", "the series named fits none, or several", "Give the hash of the series; it fits only one."
)
DICOM_DAMAGED = ErrorCode(
    "AE-DICOM-005",
    "a file or its pixel data is truncated, damaged or cannot be decoded",
    "Copy the series again; nothing is filled in for lost data.",
)
ATTRIBUTE_INVALID = ErrorCode(
    "AE-DICOM-006", "an attribute is malformed, or a required one is missing", _EXPORT_SERIES_AGAIN
)
RESCALE_MISSING = ErrorCode(
    "AE-DICOM-007",
    "Rescale Slope or Intercept is missing, so HU are unknown",
    "Export it again with its rescale attributes; or `assume_hu` takes the rescale from the air.",
)
NOT_HU = ErrorCode(
    "AE-DICOM-008",
    "the values are not HU (Rescale Type, Modality LUT, impossible values)",
    _EXPORT_SERIES_AGAIN,
)
PIXEL_FORMAT_INVALID = ErrorCode(
    "AE-DICOM-009",
    "8-bit, color, wrong bits, or several frames in a classic CT image",
    "Give the original CT images, not a screenshot or a secondary capture of them.",
)
TRANSFER_SYNTAX_UNSUPPORTED = ErrorCode(
    "AE-DICOM-010",
    "the transfer syntax is unknown, or its decoder is not installed",
    "Export the series uncompressed; or pip install 'autosam-edge[dicom]', if the message says so.",
)
TOO_FEW_SLICES = ErrorCode("AE-DICOM-011", "fewer than three slices", "Give the folder of a whole series.")
ORIENTATIONS_DIFFER = ErrorCode(
    "AE-DICOM-012",
    "slices of several orientations",
    "Remove localizers and reformats from the series, or give one orientation only.",
)
MATRICES_DIFFER = ErrorCode(
    "AE-DICOM-013", "slices of several matrices or pixel spacings", "Give the images of one reconstruction."
)
IDENTITIES_DIFFER = ErrorCode(
    "AE-DICOM-014",
    "several patients, studies or frames of reference in one series",
    "Separate them; images of different patients or coordinate systems are never merged.",
)
POSITION_TWICE = ErrorCode(
    "AE-DICOM-015",
    "different images at one position",
    "Export each phase, time point or reconstruction as one series of its own.",
)
SLICES_MISSING = ErrorCode(
    "AE-DICOM-016",
    "slices are missing",
    "Copy the series again, whole; or let `allow_gap` fill the gap by interpolation.",
)
SLICES_UNEVEN = ErrorCode(
    "AE-DICOM-017",
    "the slices are unevenly spaced",
    "Reconstruct the series anew on the scanner as one regular stack.",
)
STACK_SHEARED = ErrorCode(
    "AE-DICOM-018",
    "a tilt beyond 35 degrees, another shear, or a slice out of line",
    "Reconstruct the series anew on the scanner as one straight stack.",
)
ORIENTATION_INVALID = ErrorCode(
    "AE-DICOM-019",
    "the orientation's axes are not orthonormal",
    "Export the series again; its orientation is damaged.",
)
SPACING_INVALID = ErrorCode(
    "AE-DICOM-020",
    "impossible spacing: zero, not finite, or above 10 mm",
    "Give a volumetric CT series; a wrong spacing would make every measured volume wrong.",
)
DICOM_TOO_LARGE = ErrorCode(
    "AE-DICOM-021",
    "too large for memory, or a deflation bomb",
    "Give a reconstruction with a smaller matrix or fewer slices.",
)
FILE_CHANGED = ErrorCode(
    "AE-DICOM-022",
    "a file changed, vanished or was still arriving",
    "Wait until the series has arrived whole, then read it again.",
)
TOO_MANY_FILES = ErrorCode(
    "AE-DICOM-023",
    "more than 20,000 files or 12 levels of folders",
    "Give the folder of one study or one series.",
)
SEVERAL_STACKS = ErrorCode(
    "AE-DICOM-024",
    "several stacks, a concatenation, or several multi-frame objects",
    "Export each phase or reconstruction as one series of its own, whole.",
)

# NIfTI, NRRD and MetaImage
NIFTI_DAMAGED = ErrorCode(
    "AE-NIFTI-001",
    "damaged: the header breaks the format, or the voxels are not what it tells of",
    "Copy the file again or convert the scan anew.",
)
NIFTI_NOT_3D = ErrorCode("AE-NIFTI-002", "not three-dimensional", "Give one 3D CT volume.")
NIFTI_ORIENTATION_INVALID = ErrorCode(
    "AE-NIFTI-003",
    "no orientation, an unusable affine, or not in millimeters",
    "Convert the scan again from DICOM.",
)
NIFTI_VALUES_INVALID = ErrorCode(
    "AE-NIFTI-004",
    "complex or colored values, NaN or infinity, or beyond 32 bits",
    "Give HU; replace NaN padding by -1024.",
)
GRIDS_DIFFER = ErrorCode(
    "AE-NIFTI-005",
    "image and label, or image and prediction, lie on different grids",
    "Give the scan that the labels were made on; resample neither.",
)
NIFTI_GRID_INVALID = ErrorCode(
    "AE-NIFTI-006",
    "a grid that no CT has: a tilt above 35 degrees, a spacing below 0.01 or above 10 mm, under 3 slices",
    "Convert again from DICOM, in mm.",
)
NIFTI_FORMS_DIFFER = ErrorCode(
    "AE-NIFTI-007",
    "sform, qform and pixdim contradict each other, so place or size of the voxels is unknown",
    "Convert the scan again from DICOM, or set the code of the wrong form to 0.",
)
NRRD_DAMAGED = ErrorCode(
    "AE-NRRD-001",
    "damaged: the header breaks the format, or the voxels are not what it tells of",
    "Copy the file again, or save the volume as one .nrrd file.",
)
NRRD_NOT_3D = ErrorCode("AE-NRRD-002", "not three-dimensional", "Give one 3D CT volume.")
NRRD_ORIENTATION_INVALID = ErrorCode(
    "AE-NRRD-003",
    "the space, its directions, origin or units are missing or unusable",
    "Convert the scan again from DICOM, for example with 3D Slicer.",
)
NRRD_VALUES_INVALID = ErrorCode(
    "AE-NRRD-004", "the values cannot be HU", "Give HU; replace NaN padding by -1024."
)
NRRD_GRID_INVALID = ErrorCode("AE-NRRD-005", "a grid that no CT has", "Convert again from DICOM, in mm.")
METAIMAGE_DAMAGED = ErrorCode(
    "AE-MHA-001",
    "damaged: the header breaks the format, or the voxels are not what it tells of",
    "Copy the file again, or save the volume as one .mha file.",
)
METAIMAGE_NOT_3D = ErrorCode("AE-MHA-002", "not one three-dimensional volume", "Give one 3D CT volume.")
METAIMAGE_ORIENTATION_INVALID = ErrorCode(
    "AE-MHA-003",
    "the matrix, the origin, the spacing or the unit is missing or unusable",
    "Convert the scan again from DICOM, for example with 3D Slicer.",
)
METAIMAGE_VALUES_INVALID = ErrorCode(
    "AE-MHA-004", "the values cannot be HU", "Give a CT in HU; replace NaN padding by -1024."
)
METAIMAGE_GRID_INVALID = ErrorCode("AE-MHA-005", "a grid that no CT has", "Convert again from DICOM, in mm.")

# Data sets
LABEL_VALUE_INVALID = ErrorCode(
    "AE-DATA-003", "a label that is no class or no whole number", "Give a label image of this data set."
)
DATA_LABELS_DIFFER = ErrorCode(
    "AE-DATA-009", "organs have other numbers, or images are not CT", "Give data with the same label numbers."
)

# Bundle, engine, memory
BUNDLE_MISSING = ErrorCode("AE-BUNDLE-001", "there is no bundle at the path", "Check the path of the bundle.")
BUNDLE_INCOMPLETE = ErrorCode("AE-BUNDLE-002", "not a bundle, or a file is missing in it", _GET_BUNDLE_AGAIN)
MANIFEST_INVALID = ErrorCode("AE-BUNDLE-003", "the manifest breaks the schema", _GET_BUNDLE_AGAIN)
BUNDLE_ALTERED = ErrorCode(
    "AE-BUNDLE-004", "a file was altered: its SHA-256 is not the manifest's", _GET_BUNDLE_AGAIN
)
ARTIFACT_MISSING = ErrorCode(
    "AE-BUNDLE-005",
    "the bundle holds no artifact for this target and precision",
    "Choose one that the bundle holds, or export the bundle with this target.",
)
MODEL_FILE_REFUSED = ErrorCode(
    "AE-BUNDLE-007",
    "a model's file has another format, refers to data outside, or holds an operator or graph not allowed",
    "Do not trust this bundle; get it again from its source, or export it again.",
)
SIGNATURE_INVALID = ErrorCode(
    "AE-BUNDLE-008",
    "the bundle is not signed, or not by the owner of the key that was given",
    "Do not trust this bundle; get it again from its source, or give the public key of who signed it.",
)
KEY_INVALID = ErrorCode(
    "AE-BUNDLE-009",
    "the file holds no Ed25519 key of the kind that is needed",
    "Make a pair of keys as docs/bundle.md shows: sign with the private one, check with the public one.",
)
BUNDLE_AND_TIER = ErrorCode(
    "AE-BUNDLE-010",
    "a bundle was named, and a tier of the package",
    "Leave out `bundle` or `tier`: a tier is a model of the package.",
)
TIER_MISSING = ErrorCode(
    "AE-BUNDLE-011",
    "this installation holds no model of the tier",
    "Leave out `tier`, which takes the fast model, or install a version that holds both tiers.",
)
TIME_BUDGET_ALONE = ErrorCode(
    "AE-BUNDLE-012",
    "a time budget was given for a model that runs alone, so there are no faster labels to fall back to",
    "Leave out `time_budget_s`, or use the standard tier of the package, which the fast one can replace.",
)
ENGINE_UNKNOWN = ErrorCode(
    "AE-ENGINE-001", "no engine has this name", "Use `onnx` or `openvino`, or pass an engine."
)
MODEL_NOT_LOADED = ErrorCode(
    "AE-ENGINE-002", "the model does not load", "Export again, or install a newer onnxruntime or openvino."
)
MODEL_SHAPE_WRONG = ErrorCode(
    "AE-ENGINE-003",
    "the shape of the model's tensors differs from the manifest",
    "Export the bundle with this version of autosam-edge.",
)
ENGINE_FAILED = ErrorCode(
    "AE-ENGINE-004",
    "the engine failed on a tile",
    "Close other programs if memory is short, or export the bundle again.",
)
OUTPUT_NOT_FINITE = ErrorCode(
    "AE-ENGINE-005",
    "the network gave values that are not finite",
    "Use the fp32 artifact, or export the bundle again.",
)
ENGINE_NOT_USABLE = ErrorCode(
    "AE-ENGINE-006",
    "the engine is not installed, or no artifact can be selected automatically",
    "Install the engine as the message says, or choose another `engine`.",
)
VERIFICATION_FAILED = ErrorCode(
    "AE-ENGINE-007",
    "this device does not compute what the model computed at export",
    "Do not use the artifact on this device; choose another `engine`. Where a check around the network "
    "failed, export the bundle again.",
)
TRIAL_FAILED = ErrorCode(
    "AE-ENGINE-008",
    "a model from elsewhere hung, crashed or took too much memory in its trial in a process of its own",
    "Do not trust this bundle; get it again from its source, or choose another `engine`.",
)
THREADS_TOO_MANY = ErrorCode(
    "AE-ENGINE-009",
    "more threads than the process may use cores; they would only wait for each other",
    "Leave `threads` out, or give at most the number of cores.",
)
SITE_FILE_MISSING = ErrorCode(
    "AE-ENGINE-010",
    "in the browser: a file of the site cannot be loaded",
    "Connect to the network and open the page again, or export the site again.",
)
ENGINE_BROKEN = ErrorCode(
    "AE-ENGINE-011",
    "an installed engine or decoder does not load or, as `doctor` found, crashes, hangs or computes wrongly",
    "Install its package again (pip install --force-reinstall), or uninstall it and use another `engine`.",
)
MEMORY_UNKNOWN = ErrorCode(
    "AE-MEMORY-002",
    "a memory limit for an artifact whose memory was not measured at export",
    "Leave `max_memory_mb` out, or choose another artifact with `engine` and `precision`.",
)
BUDGET_TOO_SMALL = ErrorCode(
    "AE-MEMORY-001",
    "the scan needs more memory than the limit; the message names the need",
    'Raise `max_memory_mb`, or give fewer slices; `tier="fast"` needs less memory than `tier="standard"`.',
)
OUT_OF_MEMORY = ErrorCode(
    "AE-MEMORY-003",
    "the device ran out of memory",
    "Close other programs. With `max_memory_mb`, a run that needs more is refused before it starts.",
)

# Output
OUTPUT_NOT_WRITABLE = ErrorCode(
    "AE-OUTPUT-001",
    "the folder cannot be written",
    "Give a folder that you may write to, on a disk that is not read-only.",
)
OUTPUT_OCCUPIED = ErrorCode(
    "AE-OUTPUT-002",
    "the path, or the name of a result in it, is taken by something else, such as the input",
    "Give another output folder.",
)
DISK_FULL = ErrorCode(
    "AE-OUTPUT-003", "the disk or the quota is full", "Free some space, or name a folder on another disk."
)
OUTPUT_IN_INPUT = ErrorCode(
    "AE-OUTPUT-004", "the output lies inside the input folder", "Give an output folder outside of the input."
)
SEG_NOT_POSSIBLE = ErrorCode(
    "AE-OUTPUT-005",
    "a DICOM format needs input in DICOM, and a DICOM SEG at least one organ",
    "Give a DICOM series, or leave the DICOM formats out of `formats`.",
)
SEG_SOURCE_UNUSABLE = ErrorCode(
    "AE-OUTPUT-006",
    "the source files vanished, changed, or lack what a DICOM format needs",
    "Keep the series unchanged and run again, or leave the DICOM formats out of `formats`.",
)

OUTPUT_BUSY = ErrorCode(
    "AE-OUTPUT-007",
    "another process has blocked the folder for 20 s",
    "Wait until the other run has ended, or give another output folder.",
)
OUTPUT_UNNAMED = ErrorCode(
    "AE-OUTPUT-008", "the output folder is an empty text", "Name a folder; the working directory is `.`."
)
REPORT_NOT_PRINTED = ErrorCode(
    "AE-OUTPUT-009",
    "the report cannot be printed, as the disk behind stdout is full or stdout is broken",
    "Free some space, or print the report elsewhere.",
)

# Plausibility of the labels
BODY_PART_IMPLAUSIBLE = ErrorCode(
    "AE-PLAUSIBLE-001",
    "the scan shows another body part than the abdomen, or an image that the network does not know",
    "Give a CT of the abdomen. To write the labels all the same, with a warning, use `accept_implausible`.",
)
VALUES_IMPLAUSIBLE = ErrorCode(
    "AE-PLAUSIBLE-002",
    "the values are not Hounsfield units, such as those of an MR, or HU with an offset",
    "Give a CT in HU. To write the labels all the same, with a warning, use `accept_implausible`.",
)
ARRANGEMENT_IMPLAUSIBLE = ErrorCode(
    "AE-PLAUSIBLE-003",
    "the organs do not lie or fit together as in a body: the scan is mirrored, turned, upside down or scaled",
    "Correct the header, or convert again from DICOM. For a situs inversus, use `accept_implausible`.",
)
SIZE_IMPLAUSIBLE = ErrorCode(
    "AE-PLAUSIBLE-004",
    "the liver is larger or smaller than any liver: the spacing or the orientation is wrong",
    "Correct the spacing or the orientation in the header. If both are right, use `accept_implausible`.",
)
LABELS_EMPTY = ErrorCode(
    "AE-PLAUSIBLE-005",
    "no organ was found: the scan shows another part of the body, too small a part of the abdomen, values "
    "that are not Hounsfield units, or only air or noise",
    "Look at the scan; give a CT of the abdomen in HU. `accept_implausible` writes the empty labels.",
)

# Batch
SCANS_FAILED = ErrorCode(
    "AE-BATCH-001",
    "some scans of a batch failed; the others are done",
    "The table names the code and the remedy of each; `--retry CODE` tries them again.",
)
BATCH_OTHER_SETTINGS = ErrorCode(
    "AE-BATCH-002",
    "the folder holds results of a batch with other settings",
    "Give the settings of before, or another folder: all scans of a table share one model and its settings.",
)
BATCH_IN_USE = ErrorCode(
    "AE-BATCH-003", "another process works on this batch", "Wait until it ends, or use `--part`."
)
BATCH_LIST_INVALID = ErrorCode(
    "AE-BATCH-004",
    "a list of scans that cannot be read",
    'Give a CSV file with a column named "path" or "series", or a text file with one series in each line.',
)
WORKER_DIED = ErrorCode(
    "AE-BATCH-005",
    "the process that worked on the scan ended, as by lack of memory or a crash of a library",
    "Try the scan alone with `autosam-edge segment`, and with fewer workers or `--max-memory`.",
)
CONTRACT_SETTINGS_INVALID = ErrorCode(
    "AE-BATCH-006",
    "the settings that the caller of a container gives are not valid",
    "docs/containers.md lists the settings.",
)
RESULTS_ELSEWHERE = ErrorCode(
    "AE-BATCH-007",
    "workers of the cluster did not write into the folder of the batch",
    "Give a folder that every computer of the cluster has under the same path.",
)

CLUSTER_UNREACHABLE = ErrorCode(
    "AE-BATCH-008",
    "the scheduler of the cluster cannot be reached, or ended during the run",
    "Check the address and start the scheduler; the same command goes on where it stopped.",
)

# Audit
AUDIT_BROKEN = ErrorCode(
    "AE-AUDIT-001",
    "the record of what ran was changed",
    "Take the record from a copy, or rename it: a new one begins. Its hashes still check results.",
)

# Everything else
EXTRA_MISSING = ErrorCode(
    "AE-EXTRA-001",
    "a command's extra is not installed",
    "`pip install 'autosam-edge[...]'`, as the message says.",
)
CHECKOUT_NEEDED = ErrorCode(
    "AE-EXTRA-002",
    "the paper's tables and baselines are not in the installed package",
    "Get the project's source, run `pip install -e '.[train]'` in its folder, and run the command there.",
)

CANCELLED = ErrorCode(
    "AE-CANCEL-001",
    "stopped on request; no unfinished result was left",
    "Run the command again; a batch, a service or a training goes on where it stopped.",
)
INTERNAL_ERROR = ErrorCode(
    "AE-INTERNAL-001", "an unexpected error", "Report what `AUTOSAM_EDGE_TRACEBACK=1` shows."
)
