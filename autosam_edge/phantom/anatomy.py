"""The order in which an abdomen is painted: what comes later lies over what came before, in HU and in labels.

Coordinates: mm; x to the patient's left, y to posterior, z to superior; the origin is the vertebral body at
the level of the kidneys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.phantom.bowel import paint_colon, paint_small_bowel, paint_stomach
from autosam_edge.phantom.organs import (
    paint_adrenals,
    paint_arteries,
    paint_gallbladder,
    paint_kidneys,
    paint_liver,
    paint_pancreas,
    paint_portal_system,
    paint_spleen,
    paint_veins,
)
from autosam_edge.phantom.patient import Patient
from autosam_edge.phantom.trunk import paint_chest, paint_muscles, paint_skeleton, paint_table, paint_trunk

if TYPE_CHECKING:
    import numpy as np

    from autosam_edge.phantom.render import Canvas


def paint_abdomen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint one patient, drawn from ``rng``, on an empty canvas."""
    patient = Patient.draw(rng)
    paint_table(canvas, patient)
    paint_trunk(canvas, patient)
    paint_chest(canvas, patient)
    paint_muscles(canvas, patient)
    paint_skeleton(canvas, patient)
    paint_small_bowel(canvas, patient)
    paint_colon(canvas, patient)
    paint_liver(canvas, patient)
    paint_spleen(canvas, patient)
    paint_kidneys(canvas, patient)
    paint_pancreas(canvas, patient)
    paint_adrenals(canvas, patient)
    paint_veins(canvas, patient)
    paint_portal_system(canvas, patient)
    paint_arteries(canvas, patient)
    paint_gallbladder(canvas, patient)
    paint_stomach(canvas, patient)
