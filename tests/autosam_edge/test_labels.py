"""The label table of BTCV."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts

from autosam_edge.labels import _MORE_COLORS, BTCV_LABELS, is_organ_name, label_table
from autosam_edge.volume import in_sentence

ADJACENT = [
    ("liver", "gallbladder"),
    ("liver", "inferior_vena_cava"),
    ("liver", "kidney_right"),
    ("liver", "adrenal_gland_right"),
    ("liver", "stomach"),
    ("liver", "portal_vein_and_splenic_vein"),
    ("spleen", "stomach"),
    ("spleen", "kidney_left"),
    ("spleen", "pancreas"),
    ("pancreas", "portal_vein_and_splenic_vein"),
    ("pancreas", "stomach"),
    ("aorta", "inferior_vena_cava"),
    ("aorta", "esophagus"),
    ("kidney_left", "adrenal_gland_left"),
    ("kidney_right", "adrenal_gland_right"),
    ("inferior_vena_cava", "adrenal_gland_right"),
]
# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(color: tuple[int, int, int], vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB color as it looks under a kind of vision."""
    share = np.array(color) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_order_is_that_of_btcv() -> None:
    """Values 1 to 13 mean what they mean in the BTCV challenge."""
    assert [label.value for label in BTCV_LABELS] == list(range(1, 14))
    assert [label.name for label in BTCV_LABELS][:4] == [
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
    ]
    assert BTCV_LABELS[5].name == "liver"
    assert BTCV_LABELS[12].name == "adrenal_gland_left"


@pytest.mark.parametrize(
    ("title", "inside"),
    [
        ("Left kidney", "left kidney"),
        ("IVC", "IVC"),
        ("A+ artery", "A+ artery"),
        ("7th-part left", "7th-part left"),
        ("X", "X"),
    ],
)
def test_an_abbreviation_keeps_its_letters_inside_a_sentence(title: str, inside: str) -> None:
    """Only the first letter of a word becomes small."""
    assert in_sentence(title) == inside


def test_titles_read_like_a_report() -> None:
    """A side comes first, and only the first letter is large."""
    assert {label.title for label in BTCV_LABELS} >= {
        "Left kidney",
        "Right adrenal gland",
        "Inferior vena cava",
    }


@pytest.mark.parametrize("label", BTCV_LABELS, ids=lambda label: label.name)
def test_snomed_code_is_the_one_of_dicom(label) -> None:
    """DICOM PS3.16 knows each code under its meaning, except the joint code of two veins."""
    meanings = {
        meaning
        for by_code in concepts["SCT"].values()
        for code, (meaning, _) in by_code.items()
        if code == label.snomed_code
    }
    if label.name == "portal_vein_and_splenic_vein":
        assert label.snomed_code == "110765007"
    else:
        assert label.snomed_meaning in meanings


@pytest.mark.parametrize("label", BTCV_LABELS, ids=lambda label: label.name)
def test_snomed_code_has_a_valid_check_digit(label) -> None:
    """The last digit of a SNOMED CT identifier is a Verhoeff check digit, so a mistyped code is caught."""
    dihedral = [[(a + b) % 5 if b < 5 else 5 + (a + b) % 5 for b in range(10)] for a in range(5)]
    dihedral += [[5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)] for a in range(5, 10)]
    permutation = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        permutation.append([permutation[-1][k] for k in permutation[1]])
    check = 0
    for place, digit in enumerate(reversed(label.snomed_code)):
        check = dihedral[check][permutation[place % 8][int(digit)]]
    assert check == 0


def test_sides_agree_with_names() -> None:
    """A name that ends in a side carries the same side as laterality, and no other label does."""
    for label in BTCV_LABELS:
        side = label.name.rsplit("_", 1)[-1]
        assert label.laterality == (side if side in {"left", "right"} else "")


def test_organs_that_are_not_known_have_colors_of_their_own() -> None:
    """Far from those of known organs, from gray and from each other."""
    table = label_table(["background", "liver", *(f"organ {value}" for value in range(2, 41))])
    colors = [label.color for label in table]
    assert colors[0] == BTCV_LABELS[5].color
    assert len(set(colors[1:])) == len(_MORE_COLORS)
    assert colors[1:] == [label.color for label in label_table(["", *("toe " * 40).split()])][1:]
    seen = [
        lab(color, VISION["normal"]) for color in (*_MORE_COLORS, *(known.color for known in BTCV_LABELS))
    ]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 11
    more = seen[: len(_MORE_COLORS)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(more, 2)) > 20
    assert min(np.hypot(*color[1:]) for color in more) > 45


@pytest.mark.parametrize(
    ("name", "good"),
    [("kidney_left", True), ("Left Kidney", True), ("non-enhancing tumor", True), ("x" * 64, True)]
    + [(name, False) for name in ("", " x", "Tumör", "a/b", "<b>", "=cmd()", "a\n", "x" * 65)],
)
def test_names_that_a_bundle_may_hold(name, good) -> None:
    assert is_organ_name(name) == good


@pytest.mark.parametrize("vision", VISION)
def test_colors_stay_apart_for_every_kind_of_vision(vision: str) -> None:
    """Organs that touch differ by at least 20 in L*a*b*, all others by 11 (2.3 is just noticeable)."""
    seen = {label.name: lab(label.color, VISION[vision]) for label in BTCV_LABELS}
    distance = {
        frozenset(pair): float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))
        for pair in itertools.combinations(seen, 2)
    }
    assert min(distance.values()) > 11
    assert min(distance[frozenset(pair)] for pair in ADJACENT) > 20
