"""The icon of the page, an axial slice with a labeled liver: as SVG and, for home screens, as PNG."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

SIZES = (180, 192, 512)
"""Edge of each PNG in pixels: iOS takes 180, a web app manifest 192 and 512."""

_UNITS = 512  # of the drawing below
_GROUND, _OUTLINE, _LABEL = "#171d21", "#e6ecef", "#5fc9c1"
_BODY = (256, 256, 200, 154)  # center x, center y, half axes
_SPINE = (256, 343, 37, 37)
_KIDNEY = (373, 261, 37, 56)
_LIVER = (
    ((102, 256), (102, 186), (162, 155), (235, 160)),
    ((235, 160), (289, 165), (298, 200), (263, 226)),
    ((263, 226), (216, 258), (198, 324), (158, 338)),
    ((158, 338), (120, 345), (102, 307), (102, 256)),
)  # cubic Bezier curves: start, two handles, end
_STROKE_BODY, _STROKE_KIDNEY = 24, 20
_OVERSAMPLED = 4


def icons() -> dict[str, bytes]:
    """Content of ``icon.svg`` and of a PNG of each size, by path in the site."""
    drawn = {"icons/icon.svg": _svg().encode()}
    large = _draw(_OVERSAMPLED * _UNITS)
    for size in SIZES:
        png = io.BytesIO()
        large.resize((size, size), Image.Resampling.LANCZOS).save(png, "PNG", optimize=True)
        drawn[f"icons/icon-{size}.png"] = png.getvalue()
    return drawn


def _svg() -> str:
    path = f"M{_LIVER[0][0][0]} {_LIVER[0][0][1]}" + "".join(
        "C" + " ".join(f"{x} {y}" for x, y in curve[1:]) for curve in _LIVER
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_UNITS} {_UNITS}">'
        f'<rect width="{_UNITS}" height="{_UNITS}" rx="112" fill="{_GROUND}"/>'
        f'<ellipse {_axes(_BODY)} fill="none" stroke="{_OUTLINE}" stroke-width="{_STROKE_BODY}"/>'
        f'<path d="{path}Z" fill="{_LABEL}"/>'
        f'<ellipse {_axes(_SPINE)} fill="{_OUTLINE}"/>'
        f'<ellipse {_axes(_KIDNEY)} fill="none" stroke="{_OUTLINE}" stroke-width="{_STROKE_KIDNEY}"/></svg>\n'
    )


def _axes(ellipse: tuple[int, int, int, int]) -> str:
    return 'cx="{}" cy="{}" rx="{}" ry="{}"'.format(*ellipse)


def _draw(size: int) -> Image.Image:
    """The icon without round corners, which home screens cut themselves."""
    scale = size / _UNITS
    image = Image.new("RGB", (size, size), _GROUND)
    draw = ImageDraw.Draw(image)

    def box(ellipse: tuple[int, int, int, int], beyond: float = 0) -> tuple[float, ...]:
        x, y, a, b = ellipse
        return tuple(scale * v for v in (x - a - beyond, y - b - beyond, x + a + beyond, y + b + beyond))

    for ellipse, stroke in ((_BODY, _STROKE_BODY), (_KIDNEY, _STROKE_KIDNEY)):
        draw.ellipse(box(ellipse, stroke / 2), outline=_OUTLINE, width=round(scale * stroke))
    draw.polygon([(scale * x, scale * y) for curve in _LIVER for x, y in _points(curve)], fill=_LABEL)
    draw.ellipse(box(_SPINE), fill=_OUTLINE)
    return image


def _points(curve: tuple[tuple[int, int], ...], count: int = 64) -> list[tuple[float, float]]:
    """Points of a cubic Bezier curve, without its end."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = curve
    points = []
    for i in range(count):
        t = i / count
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        points.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return points
