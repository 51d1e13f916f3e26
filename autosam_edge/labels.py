"""The thirteen organs of BTCV, in BTCV order, under TotalSegmentator's names, and other label tables.

Every data set numbers organs in its own way, so tables are matched by name and never by value. Codes are
SNOMED CT (scheme ``SCT``), as in DICOM PS3.16 CID 7151 and TotalSegmentator's own table, so a segmentation
means the same in any viewer; a side is a modifier (CID 244) and not a code of its own. The portal and the
splenic vein are one label in BTCV, hence SNOMED's concept of both and not the portal vein alone.

Colors follow habit where there is one (arteries red, veins blue, gallbladder green). Organs that touch keep
apart in lightness as well as in hue, so that they also differ for a reader with protanopia, deuteranopia or
tritanopia; a test measures it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from autosam_edge.volume import Label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BTCV_LABELS: tuple[Label, ...] = (
    Label(1, "spleen", "78961009", "Spleen", "", (158, 108, 232)),
    Label(2, "kidney_right", "64033007", "Kidney", "right", (238, 116, 36)),
    Label(3, "kidney_left", "64033007", "Kidney", "left", (255, 216, 64)),
    Label(4, "gallbladder", "28231008", "Gallbladder", "", (112, 206, 96)),
    Label(5, "esophagus", "32849002", "Esophagus", "", (255, 184, 170)),
    Label(6, "liver", "10200004", "Liver", "", (168, 98, 72)),
    Label(7, "stomach", "69695003", "Stomach", "", (250, 104, 174)),
    Label(8, "aorta", "15825003", "Aorta", "", (222, 44, 40)),
    Label(9, "inferior_vena_cava", "64131007", "Inferior vena cava", "", (78, 92, 248)),
    Label(
        10, "portal_vein_and_splenic_vein", "110765007", "Portal vein and splenic vein", "", (108, 186, 255)
    ),
    Label(11, "pancreas", "15776009", "Pancreas", "", (208, 246, 132)),
    Label(12, "adrenal_gland_right", "23451007", "Adrenal gland", "right", (0, 136, 140)),
    Label(13, "adrenal_gland_left", "23451007", "Adrenal gland", "left", (92, 240, 240)),
)

_ANY = ("91723000", "Anatomical structure")  # of DICOM's CID 7150, for what has no code of its own here
# Organs of AMOS that BTCV does not have. Label 15 is the prostate or the uterus; SNOMED CT has no code for
# either of the two.
_MORE = (
    Label(0, "duodenum", "38848004", "Duodenum", "", (60, 160, 110)),
    Label(0, "urinary_bladder", "89837001", "Urinary bladder", "", (236, 232, 170)),
    Label(0, "prostate", *_ANY, "", (176, 60, 130)),
)
_BY_NAME = {label.name: label for label in (*BTCV_LABELS, *_MORE)}
# For organs that are not known here: far in L*a*b* from the colors above, from gray and from each other.
_MORE_COLORS = (
    (244, 40, 244),
    (64, 244, 40),
    (148, 148, 52),
    (40, 244, 184),
    (232, 160, 244),
    (40, 124, 232),
    (172, 232, 40),
    (244, 172, 100),
    (244, 40, 100),
    (208, 52, 184),
    (232, 112, 124),
    (40, 244, 112),
    (172, 64, 244),
    (184, 196, 40),
    (148, 124, 208),
    (148, 232, 160),
    (244, 136, 100),
    (244, 160, 40),
    (232, 124, 244),
    (124, 172, 88),
    (220, 196, 100),
    (100, 208, 40),
    (244, 40, 160),
    (184, 100, 184),
)
# Names of data sets, after lower case and underscores.
_ALIASES = {
    "right_kidney": "kidney_right",
    "rkid": "kidney_right",
    "left_kidney": "kidney_left",
    "lkid": "kidney_left",
    "gall_bladder": "gallbladder",
    "gall": "gallbladder",
    "oesophagus": "esophagus",
    "eso": "esophagus",
    "sto": "stomach",
    "arota": "aorta",
    "postcava": "inferior_vena_cava",
    "ivc": "inferior_vena_cava",
    "portal_and_splenic_vein": "portal_vein_and_splenic_vein",
    "portal_and_splenic_veins": "portal_vein_and_splenic_vein",
    "right_adrenal_gland": "adrenal_gland_right",
    "left_adrenal_gland": "adrenal_gland_left",
    "bladder": "urinary_bladder",
    "prostate/uterus": "prostate",
}
ORGAN_NAME_RULE = (
    "1 to 64 characters of A to Z, a to z, 0 to 9, space, '_', '+' and '-', the first a letter or a digit"
)


def is_organ_name(name: str) -> bool:
    """Whether a bundle may give an organ this name, see :data:`ORGAN_NAME_RULE`."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_ +-]{0,63}", name) is not None


def total_segmentator_name(name: str) -> str:
    """``kidney_right`` of ``Right Kidney``; an unknown name is kept, in lower case with underscores.

    An underscore stands for blanks, hyphens, slashes, ampersands and parentheses. Two names mean the same
    organ where this form of them is equal.
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    known = _ALIASES.get(plain)
    return known or re.sub(r"[_/&()]+", "_", plain).strip("_")


def label_table(names: Sequence[str]) -> tuple[Label, ...]:
    """Make the label table of a manifest from organ names.

    Args:
        names: Names in the order of their values, the background first. An organ that is not known here
            becomes an "Anatomical structure", with a color by its value.
    """
    return tuple(
        replace(_BY_NAME.get(name) or Label(0, name, *_ANY, "", color), value=value)
        for value, (name, color) in enumerate(zip(names[1:], itertools.cycle(_MORE_COLORS)), start=1)
    )


def are_abdominal(table: Iterable[Label]) -> bool:
    """Whether every organ of a table is one that is known here; of others nobody knows where they lie."""
    return all(label.name in _BY_NAME for label in table)
