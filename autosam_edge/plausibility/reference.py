"""What the organs of a human abdomen can be like: volume, HU, and where they lie to each other.

The ranges are wider than those of healthy people in the sources, so that disease and surgery rarely leave
them: an organ outside was probably labeled wrong. docs/plausibility.md shows them with the sources in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOURCES: dict[str, str] = {
    "Geraghty 2004": "Geraghty et al., Normal organ volume assessment from abdominal CT, Abdominal Imaging "
    "29:482: means of 711 organs; liver 1411 (women) and 1710 ml (men), spleen 180 and 238, kidneys 157 and "
    "193, pancreas 64 and 87, left adrenal gland 4.4",
    "Feng 2017": "Feng et al., New formula for predicting standard liver volume in Chinese adults, World J "
    "Gastroenterol 23:4968: liver 594 to 2250 ml, spleen 47 to 2892 ml",
    "Caglar 2014": "Caglar et al., Determination of normal splenic volume in relation to age, gender and "
    "body habitus, Folia Morphologica, FM.2014.0038: 198 +/- 88 ml",
    "Pomerania 2018": "Reference values of liver volume in Caucasian population, Eur J Radiol 106:32: 1505 "
    "+/- 385 ml; 1717 +/- 419 ml with steatosis",
    "Wang 2012": "Wang et al., Evaluation of normal adrenal gland volume by 64-slice CT, Chin Med Sci J "
    "27:220: 2.6 to 6.6 ml",
    "Pancreas 2019": "Normal pancreatic volume in adults is influenced by visceral fat, vertebral body width "
    "and age, Abdominal Radiology 44:958: 19 to 140 ml",
    "Gallbladder 1992": "Gallbladder volume in adults, Am J Gastroenterol 87:493: fasting 17 to 23 ml",
    "Starekova 2021": "Starekova et al., Quantification of liver fat content with CT and MRI, Radiology "
    "301:250: liver 65 HU without fat, -3 HU with 40 % fat",
    "PubMed 8079280": "Density of liver and spleen in hemochromatosis: a liver of 125 HU without contrast",
    "Wide": "No study of the whole range: wide around anatomy, contrast phases and the scans of the fit",
}


@dataclass(frozen=True)
class OrganRange:
    """What an organ can be like.

    Args:
        ml: Lowest and highest volume of an organ that is whole in the scan, ml.
        hu: Lowest and highest median, HU, without contrast and in all phases.
        sources: Keys of :data:`SOURCES`.
    """

    ml: tuple[float, float]
    hu: tuple[float, float]
    sources: tuple[str, ...]


ORGANS: dict[str, OrganRange] = {
    "liver": OrganRange(
        (500, 4500), (-40, 250), ("Feng 2017", "Pomerania 2018", "Starekova 2021", "PubMed 8079280")
    ),
    "spleen": OrganRange((15, 4000), (0, 350), ("Feng 2017", "Caglar 2014")),
    "kidney_right": OrganRange((20, 800), (-10, 450), ("Geraghty 2004",)),
    "kidney_left": OrganRange((20, 800), (-10, 450), ("Geraghty 2004",)),
    "pancreas": OrganRange((5, 300), (-80, 300), ("Geraghty 2004", "Pancreas 2019")),
    "gallbladder": OrganRange((0, 300), (-60, 600), ("Gallbladder 1992",)),
    "stomach": OrganRange((10, 3000), (-1000, 2000), ("Wide",)),
    "esophagus": OrganRange((0, 150), (-900, 400), ("Wide",)),
    "aorta": OrganRange((0, 600), (0, 900), ("Wide",)),
    "inferior_vena_cava": OrganRange((0, 400), (-10, 900), ("Wide",)),
    "portal_vein_and_splenic_vein": OrganRange((0, 200), (-10, 500), ("Wide",)),
    "adrenal_gland_right": OrganRange((0, 60), (-80, 300), ("Wang 2012",)),
    "adrenal_gland_left": OrganRange((0, 60), (-80, 300), ("Wang 2012",)),
}

SOLID = ("liver", "spleen", "kidney_right", "kidney_left")
"""Large organs that nothing else looks like: bowel can pass for a stomach, a vessel for a pancreas."""

ABDOMINAL = frozenset(ORGANS) - {"aorta", "inferior_vena_cava", "esophagus"}
"""Organs that lie only in the abdomen. The other three also pass through the chest."""

PASSING = ("aorta", "inferior_vena_cava", "esophagus")
"""Organs that every scan cuts, as they go on into the chest or the pelvis."""

Side = Literal["right of", "in front of", "above"]
AXIS: dict[Side, tuple[int, float]] = {"right of": (0, -1.0), "in front of": (1, -1.0), "above": (2, 1.0)}
"""Axis of an LPS position along which the words point, and its sign."""

PLACES: tuple[tuple[str, Side, str], ...] = (
    ("liver", "right of", "spleen"),
    ("liver", "right of", "stomach"),
    ("kidney_right", "right of", "kidney_left"),
    ("adrenal_gland_right", "right of", "adrenal_gland_left"),
    ("gallbladder", "right of", "spleen"),
    ("inferior_vena_cava", "right of", "aorta"),
    ("stomach", "in front of", "spleen"),
    ("stomach", "in front of", "kidney_left"),
    ("pancreas", "in front of", "kidney_right"),
    ("pancreas", "in front of", "kidney_left"),
    ("liver", "in front of", "kidney_right"),
    ("liver", "above", "kidney_right"),
    ("spleen", "above", "kidney_left"),
    ("esophagus", "above", "liver"),
    ("esophagus", "above", "pancreas"),
    ("liver", "above", "inferior_vena_cava"),
)
"""How the centers of two organs lie to each other in a body."""
