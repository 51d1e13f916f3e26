"""The solid organs and the great vessels, with their labels in the order of BTCV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.phantom.patient import retroperitoneum
from autosam_edge.phantom.shapes import (
    Field,
    FieldFunction,
    Point,
    Solid,
    Tube,
    ellipsoid,
    point,
    rotation,
    union,
)
from autosam_edge.phantom.trunk import FAT_HU

if TYPE_CHECKING:
    import numpy.typing as npt

    from autosam_edge.phantom.patient import Patient
    from autosam_edge.phantom.render import Canvas, Material

SPLEEN, KIDNEY_RIGHT, KIDNEY_LEFT, GALLBLADDER, ESOPHAGUS, LIVER, STOMACH = 1, 2, 3, 4, 5, 6, 7
AORTA, VENA_CAVA, PORTAL_VEIN, PANCREAS, ADRENAL_RIGHT, ADRENAL_LEFT = 8, 9, 10, 11, 12, 13


def paint_liver(canvas: Canvas, patient: Patient) -> None:
    """Liver under the right dome, with fissure and hepatic veins."""
    parts = [
        ellipsoid(patient.near((-78.0, -38.0, 62.0), 3.0), patient.sized((78.0, 88.0, 82.0), 0.05)),
        ellipsoid(patient.near((-110.0, -34.0, 14.0), 4.0), patient.sized((36.0, 62.0, 56.0), 0.10)),
        ellipsoid(
            patient.near((-6.0, -104.0, 70.0), 4.0),
            patient.sized((82.0, 42.0, 40.0), 0.08),
            rotation(y_deg=-8.0, z_deg=-8.0),
        ),
    ]
    hollow = ellipsoid(patient.near((-36.0, -70.0, 2.0), 3.0), patient.sized((58.0, 72.0, 44.0), 0.05))
    kidney_bed = ellipsoid((-64.0, 34.0, 2.0), (44.0, 46.0, 68.0))
    liver = (
        union(parts, blend_mm=24.0)
        .within(patient.cavity(1.0).field, blend_mm=4.0)
        .within(patient.domes(0.0).field, blend_mm=4.0)
        .without(retroperitoneum, blend_mm=10.0)
        .without(hollow.field, blend_mm=14.0)
        .without(kidney_bed.field, blend_mm=12.0)
        .without(_fissure, blend_mm=5.0)
    )
    liver = _uneven(liver, patient, 1.6)
    canvas.paint(liver, patient.enhanced(55.0, 112.0), label=LIVER)
    caudate = ellipsoid((-22.0, -48.0, 66.0), (13.0, 15.0, 22.0))
    canvas.paint(caudate, patient.enhanced(55.0, 112.0, 0.0), label=LIVER)
    vein_hu = patient.enhanced(40.0, 168.0)
    inside = liver.grown(-5.0).field
    _paint_vessel_trees(canvas, patient, inside, vein_hu)
    courses = [
        ((-112.0, -10.0, 68.0), (-75.0, -22.0, 92.0)),
        ((-72.0, -98.0, 70.0), (-52.0, -66.0, 98.0)),
        ((30.0, -105.0, 78.0), (-4.0, -80.0, 98.0)),
    ]
    for end, bend in courses:
        tube = Tube.along(
            [(-28.0, -46.0, 108.0), patient.near(bend, 4.0), patient.near(end, 5.0)], [6.5, 5.0, 2.2]
        )
        canvas.paint(tube.solid().within(inside), vein_hu, label=None)


def _paint_vessel_trees(canvas: Canvas, patient: Patient, inside: FieldFunction, hu: float) -> None:
    """Small branches of the portal and hepatic veins in the liver; they count as liver."""
    rng = patient.rng
    for root, count in (((-70.0, -46.0, 64.0), 14), ((-24.0, -84.0, 70.0), 5), ((-45.0, -55.0, 98.0), 9)):
        for _ in range(count):
            way = rng.normal(0, 1, 3) * (1.0, 1.0, 0.8)
            end = np.add(root, way / np.linalg.norm(way) * rng.uniform(35, 75))
            bend = np.add(root, end) / 2 + rng.normal(0, 7, 3)
            branch = Tube.along([root, point(bend), point(end)], [3.4, 2.2, 1.0], steps=2)
            canvas.paint(branch.solid().within(inside), hu, label=None)


def _uneven(shape: Solid, patient: Patient, amplitude_mm: float) -> Solid:
    """The solid with a slow wave on its surface."""
    a, b, c = patient.rng.uniform(0, 2 * np.pi, 3).tolist()

    def field(x: Field, y: Field, z: Field) -> Field:
        wave = np.sin(x * 0.085 + a) + np.sin(y * 0.09 + b) + np.sin(z * 0.1 + c)
        return np.asarray(shape.field(x, y, z) + amplitude_mm * 0.6 * wave, dtype=np.float32)

    return Solid(shape.low, shape.high, field)


def _fissure(x: Field, y: Field, z: Field) -> Field:
    """The cleft of the round ligament: a wedge of fat from below and from the front."""
    depth = np.maximum(z - 64.0, y + 84.0)
    bend = 16.0 + 0.12 * (y + 110) + 3.0 * np.sin(y * 0.09 + z * 0.05)
    width = np.clip(4.5 - 0.05 * (z + 10), 0.5, 5.0)
    return np.asarray(np.maximum(np.abs(x + bend) - width, depth), dtype=np.float32)


def paint_spleen(canvas: Canvas, patient: Patient) -> None:
    """Spleen: a crescent between the left dome and the stomach."""
    turn = rotation(x_deg=-18.0, z_deg=30.0)
    # It leans on the wall of the trunk.
    x, y, z = patient.near((patient.cavity_mm[0] - 38.0, 24.0, 53.0), 4.0)
    outer = ellipsoid((x, y, z), patient.sized((50.0, 69.0, 71.0), 0.10), turn)
    inner = ellipsoid((x - 46.0, y - 32.0, z), (26.0, 50.0, 70.0), turn)
    spleen = outer.without(inner.field, blend_mm=8.0)
    spleen = (
        _uneven(spleen, patient, 1.5)
        .within(patient.cavity(2.0).field, blend_mm=4.0)
        .within(patient.domes(0.5).field, blend_mm=4.0)
    )
    canvas.paint(spleen, patient.enhanced(48.0, 122.0), label=SPLEEN)


def paint_kidneys(canvas: Canvas, patient: Patient) -> None:
    """Kidneys beside the psoas, with sinus fat, pelvis and vessels, in a bed of fat."""
    cortex_hu = patient.enhanced(32.0, 192.0)
    medulla_hu = patient.enhanced(32.0, float(patient.rng.uniform(120.0, 182.0)))
    for side, center, label in (
        (-1.0, (-70.0, 22.0, -12.0), KIDNEY_RIGHT),
        (1.0, (67.0, 20.0, 2.0), KIDNEY_LEFT),
    ):
        at = patient.near(center, 4.0)
        turn = rotation(x_deg=-8.0, y_deg=-side * 10.0, z_deg=-side * 28.0)
        whole = ellipsoid(at, patient.sized((26.0, 31.0, 54.0), 0.07), turn)
        gate = turn @ np.array([-side, -0.27, 0.0])  # the hilum looks at the spine and a little to the front

        def outward(
            distance_mm: float, lift_mm: float, at: Point = at, gate: npt.NDArray[np.float64] = gate
        ) -> Point:
            return at[0] + float(gate[0]) * distance_mm, at[1] + float(gate[1]) * distance_mm, at[2] + lift_mm

        sinus = ellipsoid(outward(15.0, 0.0), (17.0, 9.5, 24.0), turn)
        canvas.paint(whole.grown(9.0), FAT_HU)
        canvas.paint(
            whole.without(sinus.field, blend_mm=6.0),
            _renal_tissue(whole, at[2], cortex_hu, medulla_hu),
            label=label,
        )
        pelvis = [outward(10.0, -2.0), outward(20.0, -4.0), outward(28.0, -14.0)]
        canvas.paint(Tube.along(pelvis, [4.0, 5.5, 2.5]).solid(), 15.0)
        for lift in (-12.0, 12.0):
            canvas.paint(
                Tube.along([outward(22.0, 3.0), outward(10.0, lift)], [3.0, 1.8]).solid(),
                patient.enhanced(40.0, 150.0),
            )


def _renal_tissue(whole: Solid, middle_z_mm: float, cortex_hu: float, medulla_hu: float) -> Material:
    """Cortex, and the medulla from about 8 mm of depth on."""

    def material(x: Field, y: Field, z: Field, _f: Field) -> Field:
        pyramids = np.sin((z - middle_z_mm) * 0.42) * 2.5
        depth = np.clip((pyramids - whole.field(x, y, z) - 8.0) * 0.5, 0, 1)
        return np.asarray(cortex_hu + (medulla_hu - cortex_hu) * depth, dtype=np.float32)

    return material


def paint_pancreas(canvas: Canvas, patient: Patient) -> None:
    """Pancreas from the duodenum to the hilum of the spleen, lobulated."""
    gland = Tube.along(
        [
            patient.near(p, 2.0)
            for p in (
                (-36, -60, -12),
                (-34, -62, 4),
                (-14, -70, 16),
                (14, -72, 24),
                (42, -46, 30),
                (68, -18, 38),
                (90, 2, 45),
            )
        ],
        [15.5, 15.5, 11.0, 11.5, 12.5, 12.0, 9.5],
    ).solid()
    uncinate = Tube.along([(-34.0, -52.0, -16.0), (-16.0, -50.0, -18.0)], [9.0, 5.0]).solid()
    smooth = union([gland, uncinate], blend_mm=6.0)

    def lobes(x: Field, y: Field, z: Field) -> Field:
        bumps = np.sin(x * 0.62) * np.sin(y * 0.66 + 1) * np.sin(z * 0.58 + 2)
        return np.asarray(smooth.field(x, y, z) + 1.9 * bumps, dtype=np.float32)

    tissue_hu = patient.enhanced(40.0, 98.0)

    def tissue(x: Field, y: Field, z: Field, _f: Field) -> Field:
        clefts = np.sin(x * 0.9 + 1) * np.sin(y * 0.8) * np.sin(z * 0.7)
        return np.asarray(tissue_hu - 45.0 * np.clip(clefts, 0, 1), dtype=np.float32)

    canvas.paint(Solid(smooth.low, smooth.high, lobes).grown(3.0), FAT_HU)
    canvas.paint(Solid(smooth.low, smooth.high, lobes), tissue, label=PANCREAS)


def paint_gallbladder(canvas: Canvas, patient: Patient) -> None:
    """Gallbladder: a pear under the liver, its bottom to the front."""
    points = [patient.near(p, 2.0) for p in ((-48, -58, 34), (-58, -74, 22), (-66, -98, 12), (-69, -110, 8))]
    scale = float(patient.rng.uniform(0.85, 1.3))
    pear = Tube.along(points, [3.0 * scale, 9.0 * scale, 15.0 * scale, 13.0 * scale]).solid()
    canvas.paint(pear.grown(1.2), 70.0, label=None)
    canvas.paint(pear, float(patient.rng.uniform(4, 18)), label=GALLBLADDER)


def _blade(apex: Point, tip: Point, *, height_mm: float, thick_mm: float) -> Solid:
    """One limb of an adrenal gland: a thin upright plate between two lines along z."""
    (ax, ay, az), (bx, by, _) = apex, tip
    ux, uy = bx - ax, by - ay
    length2 = ux**2 + uy**2

    def field(x: Field, y: Field, z: Field) -> Field:
        u, v = x - ax, y - ay
        t = np.clip((u * ux + v * uy) / length2, 0, 1)
        u, v = u - t * ux, v - t * uy
        w = np.maximum(np.abs(z - az) - height_mm / 2 * (1 - 0.4 * t), 0)
        return np.asarray(np.sqrt(u * u + v * v + w * w) - thick_mm / 2 * (1 - 0.25 * t), dtype=np.float32)

    reach = thick_mm
    low = (min(ax, bx) - reach, min(ay, by) - reach, az - height_mm / 2 - reach)
    high = (max(ax, bx) + reach, max(ay, by) + reach, az + height_mm / 2 + reach)
    return Solid(low, high, field)


def paint_adrenals(canvas: Canvas, patient: Patient) -> None:
    """Adrenal glands above and before the kidneys: a body and two limbs that open to the back."""
    hu = patient.enhanced(28.0, 74.0)
    plans = (
        (ADRENAL_RIGHT, (-33.0, -16.0, 44.0), (-48.0, 10.0, 44.0), (-33.0, 12.0, 44.0)),
        (ADRENAL_LEFT, (38.0, -24.0, 38.0), (53.0, -2.0, 38.0), (37.0, 2.0, 38.0)),
    )
    for label, apex, lateral, medial in plans:
        shift = np.subtract(patient.near(apex, 1.5), apex)
        start, *ends = (point(np.add(p, shift)) for p in (apex, lateral, medial))
        gland = union([_blade(start, end, height_mm=22.0, thick_mm=5.2) for end in ends], blend_mm=2.0)
        canvas.paint(gland.grown(4.0), FAT_HU)
        canvas.paint(gland, hu, label=label)


def paint_veins(canvas: Canvas, patient: Patient) -> None:
    """Inferior vena cava with the renal and iliac veins."""
    hu = patient.enhanced(40.0, float(patient.rng.uniform(105.0, 150.0)))
    right: list[Point] = [(-48.0, 6.0, -8.0), (-25.0, -34.0, -4.0)]
    left: list[Point] = [(44.0, 4.0, 4.0), (22.0, -38.0, 4.0), (4.0, -43.0, 2.0), (-20.0, -34.0, 0.0)]
    for side, renal in ((-1.0, right), (1.0, left)):
        canvas.paint(Tube.along(renal, [4.5] * len(renal)).solid(), hu)
        canvas.paint(
            Tube.along([(-22, -28, -92), (side * 28, -26, -130), (side * 46, -30, -190)], [9, 7, 6]).solid(),
            hu,
        )
    middle = [
        (-22, -27, -92),
        (-24, -31, -50),
        (-26, -34, 0),
        (-29, -36, 50),
        (-29, -40, 90),
        (-27, -46, 116),
        (-23, -55, 138),
    ]
    cava = Tube.along([patient.near(p, 1.5) for p in middle], [10, 10, 11, 11.5, 12, 12.5, 13])
    canvas.paint(cava.solid(), hu, label=VENA_CAVA)


def paint_portal_system(canvas: Canvas, patient: Patient) -> None:
    """Portal vein with its two first branches, splenic vein, and the mesenteric vein that feeds them."""
    hu = patient.enhanced(42.0, 164.0)
    meeting = patient.near((-14.0, -57.0, 14.0), 1.5)
    hilum = patient.near((-44.0, -56.0, 56.0), 2.0)
    canvas.paint(Tube.along([hilum, (-32.0, -57.0, 38.0), meeting], [5.5, 8.5, 7.0]).solid(), FAT_HU)
    canvas.paint(
        Tube.along([meeting, (-8.0, -62.0, -30.0), (-6.0, -70.0, -90.0)], [6.0, 5.0, 3.5]).solid(), hu
    )
    trunk = Tube.along([meeting, (-30.0, -57.0, 36.0), hilum], [7.6, 8.0, 8.0]).solid()
    right = Tube.along([hilum, (-66.0, -46.0, 64.0), (-92.0, -36.0, 66.0)], [6.6, 5.4, 3.2]).solid()
    left = Tube.along([hilum, (-34.0, -76.0, 66.0), (-16.0, -88.0, 70.0)], [5.0, 4.2, 3.0]).solid()
    to_spleen: list[Point] = [
        meeting,
        (14.0, -58.0, 22.0),
        (42.0, -36.0, 31.0),
        (70.0, -8.0, 41.0),
        (92.0, 10.0, 50.0),
    ]
    splenic = Tube.along(to_spleen, [6.2, 5.6, 5.3, 4.8, 4.2]).solid()
    for vein in (trunk, right, left, splenic):
        canvas.paint(vein, hu, label=PORTAL_VEIN)


def paint_arteries(canvas: Canvas, patient: Patient) -> None:
    """Aorta to its fork and the arteries that leave it; calcified spots in some patients."""
    hu = patient.enhanced(42.0, float(patient.rng.uniform(145.0, 205.0)))
    branches: list[tuple[list[Point], list[float]]] = [
        ([(14, -32, 42), (10, -50, 46), (-14, -58, 48)], [4, 3.5, 2.5]),
        ([(10, -50, 46), (40, -44, 44), (84, 0, 56)], [3.2, 2.8, 2.2]),
        ([(12, -34, 24), (8, -54, 8), (6, -64, -40), (4, -72, -90)], [4, 3.8, 3.4, 2.4]),
        ([(12, -28, 8), (-26, -18, 0), (-52, 4, -6)], [3.2, 2.8, 2.2]),
        ([(12, -28, 8), (34, -10, 6), (48, 4, 4)], [3.2, 2.8, 2.2]),
        ([(5, -27, -84), (-22, -32, -125), (-44, -34, -190)], [7, 6, 5]),
        ([(5, -27, -84), (30, -32, -125), (50, -34, -190)], [7, 6, 5]),
    ]
    for points, radii in branches:
        canvas.paint(Tube.along(points, radii).solid(), hu)
    radius = float(patient.rng.uniform(8.5, 11.5))
    line = [
        (22, -2, 230),
        (21, -6, 160),
        (18, -16, 100),
        (13, -26, 50),
        (9, -29, 0),
        (6, -29, -50),
        (5, -27, -86),
    ]
    widths = [radius + more for more in (2.0, 2.0, 1.5, 1.0, 0.0, -0.5, -0.5)]
    aorta = Tube.along([patient.near(p, 1.2) for p in line], widths)
    canvas.paint(aorta.solid(2.5), FAT_HU, label=None)
    canvas.paint(aorta.solid(), hu, label=AORTA)
    if patient.rng.random() < 0.5:
        for k in range(4, len(aorta.centers), 3):
            angle = float(patient.rng.uniform(0, 2 * np.pi))
            x, y, z = (float(v) for v in aorta.centers[k])
            spot = ellipsoid((x + radius * np.cos(angle), y + radius * np.sin(angle), z), (1.8, 1.8, 3.0))
            canvas.paint(spot, 550.0, label=None)
