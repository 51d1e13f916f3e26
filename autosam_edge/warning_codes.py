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
FRAMES_OF_REFERENCE_IGNORED = WarningCode(
    "AE-WARN-006",
    "caution",
    "slices of several frames of reference were read as one volume, as asked for",
    "Check on the picture that organs go on from slice to slice.",
)
SERIES_JOINED = WarningCode(
    "AE-WARN-007",
    "caution",
    "series of one image each were read as one series, as asked for",
    "Check on the picture that organs go on from slice to slice.",
)
PARTS_JOINED = WarningCode(
    "AE-WARN-008",
    "caution",
    "the series consists of parts, such as two acquisitions one after the other",
    "Look at the borders of the parts: organs may be displaced there, or differ in contrast.",
)
SPECTRAL_IMAGES = WarningCode(
    "AE-WARN-009",
    "caution",
    "the images are computed from several energies, such as virtual monoenergetic or non-contrast images",
    "Give the conventional images, if they exist; HU of organs depend on the energy.",
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
    "the declared padding is malformed, or is a value of tissue, bone or metal, and was not applied",
    "Look at the picture for areas that are not tissue.",
)
NOTHING_BELOW_WATER = WarningCode(
    "AE-WARN-025",
    "doubtful",
    "no voxel is below 0 HU, so the values may not be Hounsfield units",
    "Give the values in HU; the labels of other units are wrong.",
)
TRANSFER_SYNTAX_WRONG = WarningCode(
    "AE-WARN-026",
    "info",
    "the transfer syntax that a file names is not that of its data, which can be read all the same",
    "Correct the export: other software may refuse the files.",
)
EXCESS_BYTES = WarningCode(
    "AE-WARN-027",
    "info",
    "bytes beyond the pixels of Rows x Columns were ignored",
    "Nothing, if the images look right; the standard lets readers ignore them.",
)
RESCALE_ASSUMED = WarningCode(
    "AE-WARN-028",
    "caution",
    "RescaleSlope or RescaleIntercept is missing; `assume_hu` supplied it from the position of the air",
    "Check on the picture that the organs look as on other scans.",
)
RESCALE_TYPE_UNUSUAL = WarningCode(
    "AE-WARN-029",
    "caution",
    "RescaleType is HU_MOD or US, not HU; the values look like HU",
    "Give the conventional images, if the series is a spectral or corrected one.",
)
CONSTANT_PADDING = WarningCode(
    "AE-WARN-030",
    "caution",
    "one constant value fills the corners that a scanner does not reconstruct; it became air",
    "Look at the picture for areas that are not tissue.",
)
NO_TISSUE = WarningCode(
    "AE-WARN-031",
    "doubtful",
    "hardly any voxel has the HU of soft tissue",
    "Check the rescale attributes, and that the scan shows a patient; the labels are probably wrong.",
)
GRAY_LEVELS = WarningCode(
    "AE-WARN-032",
    "doubtful",
    "all values lie within 0 to 255, so they may be the gray levels of a screen",
    "Give the original CT images; the labels of gray levels are wrong.",
)
BURNED_IN_ANNOTATION = WarningCode(
    "AE-WARN-033",
    "caution",
    "the images say that text is burned into their pixels (BurnedInAnnotation YES); it may name the patient",
    "Look at the picture before you pass it on: no pseudonym takes a name out of pixels.",
)
ANIMAL = WarningCode(
    "AE-WARN-034",
    "caution",
    "the images say that the patient is an animal (PatientSpeciesDescription, AnatomicalOrientationType)",
    "Check every organ on the picture: the model was trained on scans of people.",
)

# Grid
THICK_SLICES = WarningCode(
    "AE-WARN-040",
    "caution",
    "slices are 5 mm or more apart",
    "Give a thinner reconstruction; small organs are uncertain.",
)
TILT_CORRECTED = WarningCode(
    "AE-WARN-041",
    "caution",
    "the slices are tilted against the stack (gantry tilt), which was corrected",
    "Look at the picture; the network saw few tilted scans in its training.",
)
POSITIONS_ROUNDED = WarningCode(
    "AE-WARN-042",
    "info",
    "positions of slices are rounded or slightly uneven; a regular grid was fitted to them",
    "Nothing; a slice lies within a quarter of a voxel of its place.",
)
SLICES_FILLED = WarningCode(
    "AE-WARN-043",
    "caution",
    "missing slices were filled by interpolation, as `allow_gap` asks",
    "Do not rely on labels of the slices named; a DICOM SEG has no frames for them.",
)
SHORT_SCAN = WarningCode(
    "AE-WARN-044",
    "caution",
    "the scan covers less than 60 mm along the body",
    "Give a longer scan; organs that its ends cut are uncertain.",
)

# Formats other than DICOM
BYTES_AFTER_VOXELS = WarningCode(
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
BRIGHT_VALUES = WarningCode(
    "AE-WARN-065",
    "doubtful",
    "a large part of the scan is as bright as bone: other units, or bright and dark are exchanged",
    "Give the values in HU; the labels of other units are wrong.",
)
LITTLE_AIR = WarningCode(
    "AE-WARN-066",
    "doubtful",
    "fewer voxels than in any CT of a body are below -100 HU, or more than padding fills are below -1500 HU, "
    "so the values may not be Hounsfield units",
    "Check that the scan is a CT in HU that was not cut out of its surroundings.",
)

# The run
PARTS_REMOVED = WarningCode(
    "AE-WARN-080",
    "info",
    "labels that lay apart from the surest part of their organ were removed",
    "Look at the organs named, if the volumes are large.",
)

NO_BODY = WarningCode(
    "AE-WARN-081",
    "doubtful",
    "no body was found: the scan shows only air",
    "Check that the values are in HU and that the right series was given.",
)
TIME_WAS_SHORT = WarningCode(
    "AE-WARN-082",
    "caution",
    "the time budget was too short for the more accurate model, so the labels are those of the faster one",
    "Give more time with `time_budget_s`, or none, if the more accurate labels matter more than the time.",
)

# Plausibility of the labels
WRONG_BODY_PART = WarningCode(
    "AE-WARN-100",
    "doubtful",
    "hardly anything of the abdomen, or too few of its organs, was found",
    "Give a scan of the abdomen; do not use these labels.",
)
NETWORK_UNSURE = WarningCode(
    "AE-WARN-101",
    "doubtful",
    "the network is less sure of its organs than on the scans that it knows",
    "Look at every organ on the picture: this may be another body part or image, or rare anatomy.",
)
VALUES_NOT_HU = WarningCode(
    "AE-WARN-102",
    "doubtful",
    "hardly any voxel is below -100 HU, or organs have impossible values, so these are probably not "
    "Hounsfield units",
    "Give a CT in HU; MR and images without a rescale cannot be labeled.",
)
ORGANS_ARRANGED_WRONGLY = WarningCode(
    "AE-WARN-103",
    "doubtful",
    "organs do not lie to each other, or do not fit each other, as in a body",
    "Check the orientation and the spacing in the header.",
)
ARRANGEMENT_UNUSUAL = WarningCode(
    "AE-WARN-105",
    "caution",
    "one sign that organs do not lie or fit together as in most bodies",
    "Look at the organs named: this can be rare anatomy, such as a large spleen.",
)
WRONG_SIZE = WarningCode(
    "AE-WARN-104",
    "doubtful",
    "the liver is larger or smaller than any liver",
    "Check the spacing and the orientation in the header.",
)
NOTHING_FOUND = WarningCode(
    "AE-WARN-106",
    "doubtful",
    "no organ was found, or a few ml of all organs together",
    "Look at the scan, and give a CT of the abdomen in HU.",
)
ORGAN_VOLUME_UNUSUAL = WarningCode(
    "AE-WARN-110",
    "doubtful",
    "an organ that is whole in the scan has an unusual volume",
    "Look at this organ on the picture: its labels or the spacing may be wrong.",
)
ORGAN_HU_UNUSUAL = WarningCode(
    "AE-WARN-111",
    "doubtful",
    "an organ has HU that this organ does not have",
    "Look at this organ on the picture; check the unit of the values.",
)
OF_THE_VERDICT = frozenset(
    code.code
    for code in (
        WRONG_BODY_PART,
        NETWORK_UNSURE,
        VALUES_NOT_HU,
        ORGANS_ARRANGED_WRONGLY,
        ARRANGEMENT_UNUSUAL,
        WRONG_SIZE,
        NOTHING_FOUND,
        ORGAN_VOLUME_UNUSUAL,
        ORGAN_HU_UNUSUAL,
    )
)
"""Codes of the rules that lead to the verdict."""
ORGAN_CUT = WarningCode(
    "AE-WARN-112",
    "caution",
    "the edge of the scan cuts an organ",
    "Take its volume as a lower bound; its labels near the edge are less sure.",
)
PASSING_ORGAN_CUT = WarningCode(
    "AE-WARN-113",
    "info",
    "the edge of the scan cuts the esophagus or a large vessel",
    "Nothing; these go on into the chest or the pelvis. Their volume is that of the part in the scan.",
)
ORGAN_NOT_FOUND = WarningCode(
    "AE-WARN-114",
    "caution",
    "an organ whose place is in the scan was not found",
    "Look at its place on the picture, if it was not removed.",
)
ORGAN_OUTSIDE = WarningCode(
    "AE-WARN-115",
    "info",
    "an organ was not found and may lie outside of the scan",
    "Give a longer or wider scan, if this organ matters.",
)
LOW_EXPECTED_DICE = WarningCode(
    "AE-WARN-116",
    "caution",
    "the labels of an organ are expected to agree badly with those of a person",
    "Look at this organ on the picture; do not use its volume before a person has corrected the labels.",
)

# Results
SYNTHETIC_SCAN = WarningCode(
    "AE-WARN-140", "info", "the scan is synthetic", "Do not read the Dice values as accuracy on patients."
)
SEG_LEFT_OUT = WarningCode(
    "AE-WARN-141",
    "caution",
    "no DICOM SEG was written, as the images do not share one valid frame of reference",
    "Use the NIfTI file, or export the series again with one FrameOfReferenceUID.",
)
PREVIEW_LEFT_OUT = WarningCode(
    "AE-WARN-142",
    "info",
    "no preview was drawn, as Pillow is not installed",
    "`pip install pillow` brings it.",
)
