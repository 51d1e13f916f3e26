"""Icons and the manifest with which a site is put on the home screen."""

from __future__ import annotations

import io
import json

from PIL import Image, ImageDraw

_PAGE, _BODY, _ORGANS = (14, 17, 22), (58, 66, 78), ((168, 98, 72), (158, 108, 232), (255, 216, 64))
_SIDES = (180, 192, 512)  # the home screen of iOS, and of Android


def icons() -> dict[str, bytes]:
    """Content of the icons and of ``site.webmanifest`` by their path in the site."""
    names = {side: f"icons/icon-{side}.png" for side in _SIDES}
    manifest = {
        "name": "autosam-edge",
        "short_name": "autosam-edge",
        "description": "Labels the organs of an abdominal CT on this device. Research use only.",
        "start_url": "./",
        "display": "standalone",
        "background_color": "#0e1116",
        "theme_color": "#0e1116",
        "icons": [
            {"src": name, "sizes": f"{side}x{side}", "type": "image/png", "purpose": "any maskable"}
            for side, name in names.items()
        ],
    }
    drawn = {name: _icon(side) for side, name in names.items()}
    return {**drawn, "site.webmanifest": (json.dumps(manifest, indent=1) + "\n").encode()}


def _icon(side: int) -> bytes:
    """An axial slice in the simplest form: a body with three organs."""
    image = Image.new("RGB", (512, 512), _PAGE)
    draw = ImageDraw.Draw(image)
    draw.ellipse((72, 116, 440, 396), fill=_BODY)
    for color, box in zip(
        _ORGANS, ((110, 160, 280, 330), (330, 200, 400, 290), (240, 300, 290, 350)), strict=True
    ):
        draw.ellipse(box, fill=color)
    out = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()
