"""The codes of the warnings, each declared once; ``THICK_SLICES("Slices are 5 mm apart.")`` makes a warning.

Numbers: 001 to 019 choice of the series and its files, 020 to 039 values, 040 to 059 grid, 060 to 079 formats
other than DICOM, 080 to 099 the run, 100 to 139 plausibility of the labels, 140 to 159 results.
"""

from autosam_edge.scan_warning import WarningCode

# Choice of the series and its files
FILES_PASSED_OVER = WarningCode(
    "AE-WARN-001",
    "info",
    "files that are not part of the CT series were passed over",
    "Nothing, if the kinds listed are expected.",
)
SERIES_CHOSEN = WarningCode(
    "AE-WARN-002",
    "info",
    "one of several series was read",
    "Check that it is the wanted one; name another with `series`.",
)
SERIES_DERIVED = WarningCode(
    "AE-WARN-003",
    "caution",
    "the series is a secondary derivation, such as a reformat",
    "Give the original series.",
)
COPIES_IGNORED = WarningCode(
    "AE-WARN-004", "info", "exact copies of slices were ignored", "Nothing; the copies hold the same values."
)
FRAME_OF_REFERENCE_MISSING = WarningCode(
    "AE-WARN-005", "info", "FrameOfReferenceUID is missing", "Do not overlay the result on other series."
)

# Values
PHOTOMETRIC_UNUSUAL = WarningCode(
    "AE-WARN-020",
    "caution",
    "PhotometricInterpretation is MONOCHROME1; the values were not inverted",
    "Check on the picture that bone is bright.",
)
LOSSY_COMPRESSION = WarningCode(
    "AE-WARN-021",
    "caution",
    "the images were compressed with loss",
    "Give the original images, if they exist.",
)
UNDECLARED_PADDING = WarningCode(
    "AE-WARN-022",
    "info",
    "values below -1500 HU that no header declares as padding became air",
    "Nothing, if they lie outside of the patient.",
)
BITS_IGNORED = WarningCode(
    "AE-WARN-023", "info", "bits outside of BitsStored were ignored", "Nothing; the standard asks for it."
)
PADDING_NOT_APPLIED = WarningCode(
    "AE-WARN-024",
    "caution",
    "the declared padding lies within the range of tissue and was not applied",
    "Look at the picture for areas that are not tissue.",
)
NOTHING_BELOW_WATER = WarningCode(
    "AE-WARN-025",
    "doubtful",
    "no voxel is below 0 HU, so the values may not be Hounsfield units",
    "Give the values in HU; the labels of other units are wrong.",
)

# Grid
THICK_SLICES = WarningCode(
    "AE-WARN-040",
    "caution",
    "slices are 5 mm or more apart",
    "Give a thinner reconstruction; small organs are uncertain.",
)

# Formats other than DICOM
EXCESS_BYTES = WarningCode(
    "AE-WARN-060",
    "caution",
    "the file holds bytes after its voxels, which were not read",
    "Check that the file holds one volume and was written to its end.",
)
EXTRA_AXES = WarningCode(
    "AE-WARN-061", "info", "axes of length 1 beyond the third were left out", "Nothing; no voxel is lost."
)
ALIGNED_FORM_IGNORED = WarningCode(
    "AE-WARN-062",
    "caution",
    "sform and qform give different places, and the one of the scanner was used",
    "To compare with images of the other space, give a file that is in that space only.",
)
ORIENTATION_LETTERS_IGNORED = WarningCode(
    "AE-WARN-063",
    "caution",
    "AnatomicalOrientation contradicts the matrix of the MetaImage, which was used",
    "Check on the picture that the liver is on the right side of the patient.",
)
NORMALIZED_VALUES = WarningCode(
    "AE-WARN-064",
    "doubtful",
    "all values lie near 0, as after a normalization or in a label image",
    "Give the values in HU; the labels of other units are wrong.",
)
DISPLAY_VALUES = WarningCode(
    "AE-WARN-065",
    "doubtful",
    "all values lie from 0 to 255, as in a picture for display",
    "Give the values in HU; the labels of other units are wrong.",
)
OFFSET_VALUES = WarningCode(
    "AE-WARN-066",
    "doubtful",
    "the values look like HU + 1024",
    "Subtract 1024, or convert again from DICOM with the rescale intercept.",
)
BRIGHT_VALUES = WarningCode(
    "AE-WARN-067",
    "doubtful",
    "a large part of the scan is as bright as bone: other units, or bright and dark are exchanged",
    "Give the values in HU; the labels of other units are wrong.",
)
LITTLE_AIR = WarningCode(
    "AE-WARN-068",
    "doubtful",
    "fewer voxels than in any CT of a body are below -100 HU, so the values may not be Hounsfield units",
    "Check that the scan is a CT in HU that was not cut out of its surroundings.",
)

# The run
PARTS_REMOVED = WarningCode(
    "AE-WARN-080",
    "info",
    "labels that lay apart from the surest part of their organ were removed",
    "Look at the organs named, if the volumes are large.",
)

# Results
SYNTHETIC_SCAN = WarningCode(
    "AE-WARN-140", "info", "the scan is synthetic", "Do not read the Dice values as accuracy on patients."
)
