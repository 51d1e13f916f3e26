"""What the organs of a human abdomen can be like: volume, HU, and where they lie to each other.

The ranges are wider than those of healthy people in the sources, so that disease and surgery rarely leave
them: an organ outside is probably labeled wrong. docs/plausibility.md shows them with the sources in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOURCES: dict[str, str] = {
    "Geraghty 2004": "Geraghty EM et al. Normal organ volume assessment from abdominal CT. Abdom Imaging 29:482",
    "Feng 2017": "Feng LM et al. New formula for predicting standard liver volume in Chinese adults. World J "
    "Gastroenterol 23:4968",
    "Wang 2012": "Wang X et al. Evaluation of normal adrenal gland volume by 64-slice CT. Chin Med Sci J 27:220",
    "Abdom Radiol 2019": "Normal pancreatic volume in adults is influenced by visceral fat, vertebral body width "
    "and age. Abdom Radiol 44:958",
    "Am J Gastroenterol 1992": "Gallbladder volume in adults, and relationship to age, sex, body mass index, and "
    "gallstones. Am J Gastroenterol 87:493",
    "Radiology 2021": "Quantification of liver fat with CT and MRI. Radiology 301:250",
    "PubMed 8079280": "Density of the liver and spleen on CT in hemochromatosis. PubMed 8079280",
}
