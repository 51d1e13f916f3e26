"""The trunk: table, skin, fat, muscles, bones, lungs and heart. None of it is labeled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.phantom.patient import BOTTOM_MM, TOP_MM, costal_margin, spine_axis
from autosam_edge.phantom.shapes import Field, Point, Solid, Tube, cylinder, ellipsoid, rotation, union

if TYPE_CHECKING:
    from autosam_edge.phantom.patient import Patient
    from autosam_edge.phantom.render import Canvas, Material

FAT_HU, MUSCLE_HU, LUNG_HU, BLOOD_HU = -104.0, 56.0, -860.0, 150.0
_VERTEBRA_MM = 36.0  # height of a lumbar vertebra with its disc


def paint_table(canvas: Canvas, patient: Patient) -> None:
    """A carbon shell with a foam core: a shallow trough under the back."""
    y_back = patient.skin().high[1]

    def trough(x: Field, y: Field, _z: Field) -> Field:
        return np.asarray(y - (y_back + 24.0) + 0.0011 * x * x, dtype=np.float32)

    def shell(x: Field, y: Field, z: Field) -> Field:
        middle = np.abs(trough(x, y, z)) - 9.0
        return np.asarray(np.maximum(np.abs(middle) - 1.2, np.abs(x) - 205.0), dtype=np.float32)

    low, high = (-205.0, y_back - 40.0, BOTTOM_MM), (205.0, y_back + 45.0, TOP_MM)
    canvas.paint(
        Solid(low, high, lambda x, y, z: np.maximum(np.abs(trough(x, y, z)) - 9, np.abs(x) - 205)), -930.0
    )
    canvas.paint(Solid(low, high, shell), 260.0)


def paint_trunk(canvas: Canvas, patient: Patient) -> None:
    """Skin, subcutaneous fat, the muscular wall and the fat inside it."""
    skin = patient.skin()
    canvas.paint(skin, _coated(2.4, shell_hu=35.0, core_hu=FAT_HU))
    canvas.paint(patient.wall_outer(), _wall)
    canvas.paint(patient.cavity(), FAT_HU)


def _wall(x: Field, y: Field, z: Field, f: Field) -> Field:
    """Three flat muscles at the flank with fat between them, and the two straight muscles in front."""
    aside = np.abs(x)
    layers = (aside > 80) & (z < 40) & ((np.abs(f + 4.2) < 0.7) | (np.abs(f + 8.4) < 0.6))
    seams = (y < -60) & ((aside < 3.5) | (np.abs(aside - 78) < 4.0))
    return np.asarray(np.where(layers | seams, -15, MUSCLE_HU), dtype=np.float32)


def _marbled(x: Field, y: Field, z: Field, _f: Field) -> Field:
    """Muscle with streaks of fat along the spine."""
    streak = np.sin(x * 0.33 + 1.3 * np.sin(y * 0.21)) * np.sin(y * 0.37 + 0.02 * z + 1.1 * np.sin(x * 0.17))
    return np.asarray(MUSCLE_HU - 45 * np.clip(streak - 0.2, 0, 1), dtype=np.float32)


def paint_muscles(canvas: Canvas, patient: Patient) -> None:
    """Back muscles, quadratus lumborum and psoas, with the fat between them."""
    bulk = float(patient.rng.uniform(0.88, 1.06))
    for side in (-1.0, 1.0):
        back = ellipsoid((side * 35.0, 48.0, -30.0), (35.0 * bulk, 24.0 * bulk, 380.0))
        canvas.paint(back.grown(2.5), FAT_HU)
        canvas.paint(back, _marbled)
        loin = ellipsoid(
            (side * 76.0, 40.0, -48.0), (22.0, 12.0, 78.0), rotation(y_deg=side * -7.0, z_deg=side * -14.0)
        )
        canvas.paint(loin.grown(2.0), FAT_HU)
        canvas.paint(loin, MUSCLE_HU + 3)
        psoas: list[Point] = [
            (side * 28, 2, 30),
            (side * 36, 2, -20),
            (side * 44, -4, -80),
            (side * 56, -20, -150),
            (side * 66, -35, -200),
        ]
        canvas.paint(Tube.along(psoas, [r * bulk for r in (5, 13, 21, 25, 25)]).solid(), MUSCLE_HU + 5)
    crus_right: list[Point] = [(-8, -22, -45), (-13, -21, 0), (-16, -20, 40), (-17, -22, 80)]
    crus_left: list[Point] = [(18, -16, -30), (24, -14, 10), (26, -12, 40), (30, -14, 80)]
    canvas.paint(Tube.along(crus_right, [3, 6, 7, 4]).solid(), MUSCLE_HU + 6)
    canvas.paint(Tube.along(crus_left, [3, 5, 6, 4]).solid(), MUSCLE_HU + 6)


def paint_skeleton(canvas: Canvas, patient: Patient) -> None:
    """Vertebrae with discs, arches and canal; ribs; iliac wings."""
    phase = float(patient.rng.uniform(-8, 8))

    def body(x: Field, y: Field, z: Field) -> Field:
        waist = np.cos((z - phase) * (2 * np.pi / _VERTEBRA_MM))  # 1 at the disc
        width = 22.5 + 1.6 * waist
        u, v = x / width, (y - spine_axis(z)) / (width * 0.78)
        return np.asarray((np.sqrt(u * u + v * v) - 1) * width * 0.88, dtype=np.float32)

    def bone(x: Field, y: Field, z: Field, f: Field) -> Field:
        level = (z - phase) / _VERTEBRA_MM
        gap = np.abs(level - np.rint(level)) * _VERTEBRA_MM  # distance from the middle of the disc
        trabeculae = 175 + 25 * np.sin(x * 0.9) * np.sin(y * 0.8 + 1) * np.sin(z * 0.7)
        value = np.where((f > -2.2) | (gap < 6.2), 430, trabeculae)
        return np.asarray(np.where(gap < 4.6, 85, value), dtype=np.float32)

    column = Solid((-27.0, -40.0, BOTTOM_MM), (27.0, 60.0, TOP_MM), body)
    arch = cylinder((0.0, 24.0), (19.0, 15.0), low_mm=BOTTOM_MM, high_mm=TOP_MM)

    def along_spine(shape: Solid) -> Solid:
        return Solid(
            (shape.low[0], shape.low[1] - 10, shape.low[2]),
            (shape.high[0], shape.high[1] + 40, shape.high[2]),
            lambda x, y, z: shape.field(x, y - spine_axis(z), z),
        )

    canvas.paint(along_spine(arch), _coated(2.5))
    canvas.paint(column, bone)
    canal = cylinder((0.0, 24.5), (11.5, 8.5), low_mm=BOTTOM_MM, high_mm=TOP_MM)
    canvas.paint(along_spine(canal), 25.0)
    _paint_processes(canvas, phase)
    _paint_ribs(canvas, patient)
    _paint_pelvis(canvas, patient)


def _paint_processes(canvas: Canvas, phase: float) -> None:
    """Spinous and transverse processes."""
    for k in range(-5, 7):
        z = phase + _VERTEBRA_MM * (k + 0.45)
        y = float(spine_axis(np.asarray([z], dtype=np.float32))[0])
        spinous = Tube.along([(0, y + 36, z + 2), (0, y + 52, z - 6), (0, y + 64, z - 12)], [4.0, 3.2, 4.5])
        canvas.paint(spinous.solid(), _coated(1.6))
        for side in (-1.0, 1.0):
            process = Tube.along(
                [(side * 14, y + 22, z + 4), (side * 30, y + 27, z + 4), (side * 42, y + 29, z + 5)],
                [5.0, 3.4, 2.6],
            )
            canvas.paint(process.solid(), _coated(1.6))


def _coated(thick_mm: float, *, shell_hu: float = 470.0, core_hu: float = 220.0) -> Material:
    """A shell around a core, as in bone."""

    def material(_x: Field, _y: Field, _z: Field, f: Field) -> Field:
        return np.asarray(np.where(f > -thick_mm, shell_hu, core_hu), dtype=np.float32)

    return material


def _paint_ribs(canvas: Canvas, patient: Patient) -> None:
    """Ribs 12 to 5: from the spine outward along the wall, and downward to the front."""
    shift = float(patient.rng.uniform(-6, 6))
    width, depth = patient.cavity_mm
    ribs = [(20, 0.36), (52, 0.55), (86, 0.86), (119, 0.92), (152, 0.95), (184, 0.97), (216, 1.0), (246, 1.0)]
    for number, (top, reach) in enumerate(ribs):
        angle = np.linspace(0.16, 0.16 + 0.84 * reach, 9) * np.pi * 0.93
        z = top + 12.0 + shift - (88.0 if number else 60.0) * (angle / np.pi) ** 1.1
        x = (width + 6.5) * np.sin(angle) ** 0.9
        y = patient.middle_y_mm + 1.0 + (depth + 6.0) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.9
        for side in (-1.0, 1.0):
            points: list[Point] = [(side * 27.0, 22.0, top + shift + 4.0)]
            points += [(side * float(a), float(b), float(c)) for a, b, c in zip(x, y, z, strict=True)]
            canvas.paint(
                Tube.along(points, [4.5] * 6 + [5.0] * 4, steps=3).solid(),
                _coated(2.0, shell_hu=430.0, core_hu=190.0),
            )


def _paint_pelvis(canvas: Canvas, patient: Patient) -> None:
    """Iliac wings between the iliac and the gluteal muscles."""
    crest = float(patient.rng.uniform(-100, -84))
    for side in (-1.0, 1.0):
        turn = rotation(z_deg=-side * 38.0) @ rotation(y_deg=side * 16.0)
        wing = ellipsoid((side * 92.0, 18.0, crest - 78.0), (9.0, 66.0, 80.0), turn)
        muscle = ellipsoid((side * 96.0, 22.0, crest - 84.0), (34.0, 72.0, 82.0), turn)
        canvas.paint(muscle, _marbled)
        canvas.paint(wing, _coated(2.6))


def paint_chest(canvas: Canvas, patient: Patient) -> None:
    """Lungs above the diaphragm, with vessels; heart and mediastinum between them."""
    domes, cavity = patient.domes(), patient.cavity(-2.0)
    space = cavity.within(costal_margin)
    # The diaphragm and its attachments, thinned by what follows.
    canvas.paint(space.without(domes.field), MUSCLE_HU)
    canvas.paint(domes.within(cavity.field), FAT_HU)

    def mediastinum(x: Field, y: Field, _z: Field) -> Field:
        u, v = (x - 8.0) / 34.0, (y + 30.0) / 150.0
        return np.asarray((np.sqrt(u * u + v * v) - 1) * 34.0, dtype=np.float32)

    ventricles = ellipsoid((28.0, patient.front(-92.0), 168.0), (58.0, 44.0, 62.0), rotation(z_deg=-25.0))
    atria = ellipsoid((-18.0, patient.front(-78.0), 180.0), (36.0, 38.0, 56.0))
    heart = union([ventricles, atria], blend_mm=10.0)
    lung_space = patient.cavity(1.0).within(lambda x, y, z: costal_margin(x, y, z) + 5.0, blend_mm=6.0)
    lungs = lung_space.without(domes.grown(3.5).field, blend_mm=4.0).without(mediastinum, blend_mm=8.0)
    lungs = lungs.without(heart.grown(5.0).field, blend_mm=6.0)
    between = Solid((-30.0, -150.0, 60.0), (46.0, 60.0, TOP_MM), mediastinum).within(patient.cavity().field)
    canvas.paint(between.without(domes.grown(3.0).field), FAT_HU)
    canvas.paint(lungs, _lung_texture)
    canvas.paint(heart.grown(5.0).within(patient.cavity().field).without(domes.grown(3.0).field), FAT_HU)
    blood = patient.enhanced(45.0, BLOOD_HU)
    heart = heart.within(patient.cavity(2.0).field).without(domes.grown(4.0).field)
    canvas.paint(heart, _coated(11.0, shell_hu=112.0, core_hu=blood))


def _lung_texture(x: Field, y: Field, z: Field, f: Field) -> Field:
    """Air with vessels that run outward and thin toward the surface."""
    branch = (
        np.sin(x * 0.31 + 2.1 * np.sin(z * 0.11))
        * np.sin(y * 0.29 + 1.7 * np.sin(z * 0.13 + 1.0))
        * np.sin(z * 0.12 + 0.05 * x)
    )
    depth = np.clip(-f / 60.0, 0, 1)
    vessel = np.clip((branch - 0.86 + 0.3 * (depth - 0.5)) * 8.0, 0, 1)
    return np.asarray(LUNG_HU + 880.0 * vessel * (f < -4), dtype=np.float32)
