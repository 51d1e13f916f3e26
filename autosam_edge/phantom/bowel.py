"""The hollow organs: esophagus and stomach with labels, small and large bowel without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.phantom.organs import ESOPHAGUS, STOMACH
from autosam_edge.phantom.shapes import Field, Point, Solid, Tube, ellipsoid, point
from autosam_edge.phantom.trunk import FAT_HU

if TYPE_CHECKING:
    from autosam_edge.phantom.patient import Patient
    from autosam_edge.phantom.render import Canvas, Material

_GAS_HU = -960.0
_NO_GAS_MM = -1e3  # a level before the belly


def _hollow(
    canvas: Canvas, *, wall_mm: float, wall_hu: float, content: Material, gas_level_mm: float = _NO_GAS_MM
) -> Material:
    """A wall around fluid or stool, with gas before one level: the patient lies on the back."""
    inverse = 1.0 / canvas.edge_mm

    def material(x: Field, y: Field, z: Field, f: Field) -> Field:
        share = np.clip(0.5 - (f + wall_mm) * inverse, 0, 1)
        inside = content(x, y, z, f) if callable(content) else np.float32(content)
        gas = np.clip(0.5 - (y - gas_level_mm) * inverse, 0, 1)
        inside = inside + gas * (_GAS_HU - inside)
        return np.asarray(wall_hu + share * (inside - wall_hu), dtype=np.float32)

    return material


def paint_small_bowel(canvas: Canvas, patient: Patient) -> None:
    """Loops of jejunum at the left and ileum in the middle and below, on a mesentery with vessels."""
    rng = patient.rng
    for _ in range(32):
        start = rng.uniform((-30, -85, -150), (40, -50, -10))
        end = rng.uniform((-90, -125, -160), (98, -60, -10))
        line = [patient.near(point(p), 0.0) for p in (start, (start + end) / 2 + rng.normal(0, 7, 3), end)]
        canvas.paint(Tube.along(line, [2.0, 1.6, 1.0], steps=3).solid(), patient.enhanced(40.0, 140.0))
    outer = patient.cavity(4.0).field
    loops = int(rng.integers(45, 85))
    for k in range(loops):
        jejunum = 3 * k < loops
        low, high = ((6, -130, -75), (106, -38, 14)) if jejunum else ((-98, -134, -170), (100, -36, -46))
        points = _wander(rng, low, high)
        radius = float(rng.uniform(9.0, 14.5))
        tube = Tube.along(
            [patient.near(p, 0.0) for p in points],
            [radius * float(rng.uniform(0.75, 1.15)) for _ in points],
            steps=3,
        )
        level = (
            float(tube.centers[:, 1].mean()) - float(rng.uniform(-0.1, 0.7)) * radius
            if rng.random() < 0.22
            else _NO_GAS_MM
        )
        content = patient.enteric_hu + float(rng.normal(0, 10))
        if rng.random() < 0.25:  # contrast has not come everywhere; collapsed loops show their wall only
            content = float(rng.uniform(20, 70))
        wall_hu = patient.enhanced(40.0, 100.0 if jejunum else 82.0)
        canvas.paint(
            tube.solid().within(outer),
            _hollow(canvas, wall_mm=2.8, wall_hu=wall_hu, content=content, gas_level_mm=level),
        )
    _paint_duodenum(canvas, patient)


def _wander(rng: np.random.Generator, low: Point, high: Point) -> list[Point]:
    """A winding line in a box: steps of 22 mm whose heading drifts."""
    at = rng.uniform(low, high)
    heading = rng.normal(0, 1, 3) * (1.0, 0.7, 0.5)
    points = [point(at)]
    for _ in range(4):
        heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.7, 3)
        at = np.clip(at + 22.0 * heading / np.linalg.norm(heading), low, high)
        points.append(point(at))
    return points


def _paint_duodenum(canvas: Canvas, patient: Patient) -> None:
    loop = [
        (-30, -82, 20),
        (-52, -68, 22),
        (-60, -54, 0),
        (-58, -48, -26),
        (-40, -48, -42),
        (0, -52, -46),
        (26, -58, -30),
        (34, -72, -10),
    ]
    tube = Tube.along([patient.near(p, 2.0) for p in loop], [10, 11.5, 12, 12, 11, 9, 10, 10])
    canvas.paint(
        tube.solid(),
        _hollow(canvas, wall_mm=3.0, wall_hu=patient.enhanced(40.0, 90.0), content=patient.enteric_hu),
    )


def paint_colon(canvas: Canvas, patient: Patient) -> None:
    """Colon as a frame around the small bowel: stool at the right, gas across, stool again at the left."""
    rng = patient.rng
    sag = float(rng.uniform(-45, 0))
    ascending = [(-92, -52, -165), (-104, -50, -120), (-104, -48, -84), (-97, -54, -56), (-86, -70, -36)]
    across = [
        (-84, -84, -32),
        (-72, -112, -32),
        (-30, -126, -30 + sag),
        (20, -128, -30 + sag),
        (66, -116, -6 + sag / 2),
    ]
    transverse = [*across, (98, -84, 30), (112, -48, 38)]
    descending = [
        (113, -40, 32),
        (116, -18, 8),
        (118, -12, -40),
        (116, -14, -90),
        (104, -30, -150),
        (92, -50, -190),
    ]
    for line, wide, gas in ((ascending, 24.0, 0.4), (descending, 15.0, 0.3), (transverse, 20.0, 0.75)):
        radii = [wide * float(rng.uniform(0.85, 1.15)) for _ in line]
        tube = _haustra(Tube.along([patient.near(p, 4.0) for p in line], radii, steps=7), rng)
        level = (
            float(np.median(tube.centers[:, 1])) - float(rng.uniform(-0.4, 0.6)) * wide
            if rng.random() < gas
            else _NO_GAS_MM
        )
        material = _hollow(
            canvas,
            wall_mm=2.6,
            wall_hu=patient.enhanced(40.0, 78.0),
            content=_stool(float(rng.uniform(0, 6)), float(rng.uniform(-10, 60))),
            gas_level_mm=level,
        )
        canvas.paint(tube.solid(2.0).within(patient.cavity(1.0).field), FAT_HU)
        canvas.paint(tube.solid().within(patient.cavity(3.0).field), material)


def _haustra(tube: Tube, rng: np.random.Generator) -> Tube:
    wave = 1.0 + 0.14 * np.sin(np.arange(len(tube.radii)) * float(rng.uniform(1.0, 1.5)))
    return Tube(tube.centers, (tube.radii * wave).astype(np.float32))


def _meal(phase: float, base_hu: float) -> Material:
    """Fluid with lumps of food."""

    def material(x: Field, y: Field, z: Field, _f: Field) -> Field:
        bend = 2.3 * np.sin(x * 0.11 + 0.07 * z + phase) + 1.9 * np.sin(y * 0.13 - 0.09 * z)
        lumps = (
            np.sin(x * 0.27 + bend) * np.sin(y * 0.24 - 0.8 * bend + phase) * np.sin(z * 0.25 + 0.6 * bend)
        )
        return np.asarray(base_hu + (45.0 - 0.4 * base_hu) * np.clip(2.0 * lumps, 0, 1), dtype=np.float32)

    return material


def _stool(phase: float, base_hu: float) -> Material:
    """Stool: lumps with bubbles of gas."""

    def material(x: Field, y: Field, z: Field, _f: Field) -> Field:
        bend = 2.6 * np.sin(x * 0.17 + 0.12 * z + phase) + 2.1 * np.sin(y * 0.19 - 0.14 * z)
        grain = np.sin(x * 0.4 + bend) * np.sin(y * 0.43 - 0.9 * bend + phase) * np.sin(z * 0.45 + 0.7 * bend)
        bubbles = np.clip((grain - 0.35) * 5.0, 0, 1)
        return np.asarray(base_hu + 30.0 * grain - 550.0 * bubbles, dtype=np.float32)

    return material


def paint_stomach(canvas: Canvas, patient: Patient) -> None:
    """Esophagus, and the stomach from the left dome to the pylorus, with fluid and a bubble of gas."""
    rng = patient.rng
    wall_hu = patient.enhanced(38.0, 78.0)
    gullet = [(10, -26, 230), (10, -28, 170), (14, -30, 130), (24, -36, 106), (40, -36, 92)]
    esophagus = Tube.along([patient.near(p, 1.2) for p in gullet], [8.5, 8.5, 8.5, 8.5, 8.0])
    size = float(rng.uniform(0.80, 1.06))
    line = [
        (66, 2, 82),
        (72, -20, 77),
        (74, -60, 60),
        (64, -90, 38),
        (34, -104, 18),
        (2, -102, 10),
        (-22, -88, 16),
    ]
    radii = [37, 38, 34, 27, 22, 18, 11]
    pouch = Tube.along([patient.near(p, 3.0) for p in line], [r * size for r in radii], steps=3)
    inside = patient.cavity(3.0).within(patient.domes(4.0).field, blend_mm=6.0).field
    canvas.paint(pouch.solid(2.0).within(inside), FAT_HU, label=0)
    # One level of fluid for the entire stomach: gas lies before it.
    level = patient.front(float(rng.uniform(-122, -66)))
    fluid = patient.gastric_hu if rng.random() < 0.6 else _meal(float(rng.uniform(0, 6)), patient.gastric_hu)
    filling = _hollow(
        canvas, wall_mm=float(rng.uniform(3.5, 6.5)), wall_hu=wall_hu, content=fluid, gas_level_mm=level
    )
    canvas.paint(pouch.solid().within(inside, blend_mm=4.0), filling, label=STOMACH)
    canvas.paint(esophagus.solid(), patient.enhanced(36.0, 62.0), label=ESOPHAGUS)
    if rng.random() < 0.6:
        z = float(rng.uniform(120, 170))
        air: Solid = ellipsoid((11.0, -29.0, z), (3.0, 2.5, 22.0))
        canvas.paint(air, -700.0, label=None)
