"""Python packages for the browser: wheels without the parts that a page never uses, and our own."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import autosam_edge
from autosam_edge.version import __version__

_DROPPED_ENDS = (".pyi", ".pxd", ".h", ".a", ".pyx", "RECORD", "entry_points.txt", "top_level.txt")
_DROPPED_FOLDERS = {"tests", "test_files", "cmdline", "f2py", "_pyinstaller", "__pycache__", "benchmarks"}
_DROPPED_FILES = {"imagecodecs/numcodecs.py", "imagecodecs/zarr.py"}
# Decoders that autosam_edge.dicom.codecs calls; the other compiled parts of imagecodecs are 90 % of it.
_CODECS = {"_shared", "_imcd", "_jpeg8", "_jpeg2k", "_jpegls"}
_OURS_LEFT_OUT = {"bundles", "cli", "__pycache__", "__main__.py"}
# highdicom imports Pillow for what no result needs: color profiles and pictures of slides.
_ANY_NAME = '''"""A stand-in for Pillow, which the browser does not have: names exist, and do nothing."""


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return type(name, (), {})
'''
_PILLOW = {f"PIL/{name}.py": _ANY_NAME for name in ("Image", "ImageCms", "ImageColor")}


def pruned(wheel: bytes) -> bytes:
    """A wheel without tests, headers, types and unused decoders; its license files stay.

    Args:
        wheel: Content of the wheel.

    Returns:
        Content of the smaller wheel; the same input gives the same bytes.
    """
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and _is_used(name)]
        return packed({name: archive.read(name) for name in names})


def _is_used(name: str) -> bool:
    path = PurePosixPath(name)
    if name.endswith(_DROPPED_ENDS) or _DROPPED_FOLDERS & set(path.parts) or name in _DROPPED_FILES:
        return False
    return not (path.parts[0] == "imagecodecs" and path.suffix == ".so") or path.name.split(".")[0] in _CODECS


def own_package() -> bytes:
    """The runtime without command line and bundles, and a stand-in for Pillow, as a zip archive."""
    root = Path(autosam_edge.__file__).parent
    files = {
        path.relative_to(root.parent).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*.py"))
        if not _OURS_LEFT_OUT & set(path.relative_to(root).parts)
    }
    metadata = f"Metadata-Version: 2.1\nName: autosam-edge\nVersion: {__version__}\n".encode()
    folder = f"autosam_edge-{__version__}.dist-info"
    stand_in = {name: text.encode() for name, text in _PILLOW.items()} | {"PIL/__init__.py": b""}
    return packed({**files, **stand_in, f"{folder}/METADATA": metadata})


def packed(files: Mapping[str, bytes]) -> bytes:
    """A zip archive; the same files give the same bytes.

    Args:
        files: Content by the path in the archive.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # the first date that a zip can hold
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return out.getvalue()
