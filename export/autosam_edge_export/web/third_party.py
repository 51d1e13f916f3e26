"""Files of others: each is pinned by its SHA-256 in ``third_party.json`` and found where it is at hand.

A source is ``npm:NAME@VERSION:MEMBER``, ``pypi:NAME==VERSION`` (the wheel itself),
``pypi:NAME==VERSION:MEMBER`` (a file inside the wheel) or an address. Packages are fetched by ``npm`` and
``pip``, so that the registries that a person has set up are used.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path

from autosam_edge.strict_json import build_list, parse_json
from autosam_edge.system.atomic_files import write_file
from autosam_edge_export.error_codes import WEB_FILE_MISSING

_LOCK = Path(__file__).with_name("third_party.json")
_SECONDS = 20  # without an answer from an address
_PLATFORM = ("--platform", "pyemscripten_2025_0_wasm32", "--python-version", "313")  # Pyodide 0.29


@dataclass(frozen=True)
class PinnedFile:
    """One file of others.

    Args:
        name: Name of the file.
        group: What it is for: ``python`` (Pyodide), ``package`` (a wheel), ``wasm`` or ``webgpu`` (ONNX
            Runtime Web), ``viewer``.
        size: Size, bytes.
        sha256: SHA-256, hexadecimal.
        license: SPDX identifier.
        sources: Where it is found, the first that answers wins.
    """

    name: str
    group: str
    size: int
    sha256: str
    license: str
    sources: tuple[str, ...]


@cache
def pinned_files() -> tuple[PinnedFile, ...]:
    """All files of others that a site holds, as ``third_party.json`` lists them."""
    return tuple(build_list(PinnedFile, parse_json(_LOCK.read_bytes()), _LOCK.name))


class ThirdParty:
    """Finds pinned files and compares each with its SHA-256.

    Args:
        folders: Folders to look into first, such as a copy of Pyodide's distribution; a file counts if its
            SHA-256 is right.
        cache: Folder that keeps what is downloaded; None keeps nothing.
        download: Whether files that are not at hand are downloaded.
        log: Function that is called with one line per download.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        cache: Path | None = None,
        *,
        download: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folders, self._cache, self._download, self._log = folders, cache, download, log
        self._stack = ExitStack()
        self._packages: dict[str, Path | None] = {}

    def read(self, file: PinnedFile) -> bytes:
        """The content of a file.

        Raises:
            ExportError: It is not at hand and is not, or cannot be, downloaded (AE-EXPORT-016).
        """
        kept = [self._cache / file.sha256] if self._cache else []
        for path in (*(folder / file.name for folder in self._folders), *kept):
            if path.is_file() and _is_right(content := path.read_bytes(), file):
                return content
        if self._download:
            for source in file.sources:
                self._log(f"fetching {file.name} from {source}")
                content = self._fetch(source)
                if _is_right(content, file):
                    if self._cache:
                        write_file(content, self._cache / file.sha256)
                    return content
        raise _missing(file, tried=self._download)

    def __enter__(self) -> ThirdParty:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was downloaded and not kept."""
        self._stack.close()

    def _fetch(self, source: str) -> bytes:
        """Content of a source; empty if it cannot be had."""
        kind, _, rest = source.partition(":")
        if kind not in ("npm", "pypi"):
            try:
                with urllib.request.urlopen(source, timeout=_SECONDS) as answer:  # noqa: S310  pinned
                    return bytes(answer.read())
            except (OSError, HTTPException):  # an answer that ends early is the latter
                return b""
        package, _, member = rest.partition(":")
        if package not in self._packages:
            self._packages[package] = self._package(kind, package)
        archive = self._packages[package]
        if archive is None:
            return b""
        return _member(archive, member) if member else archive.read_bytes()

    def _package(self, kind: str, package: str) -> Path | None:
        """The archive of a package; None if it cannot be had."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="autosam-edge-web-")))
        npm = [shutil.which("npm") or "npm", "pack", "--silent"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command = [*npm, package] if kind == "npm" else [*pip, *_PLATFORM, package]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            return None
        return next(iter(folder.iterdir()), None)


def _is_right(content: bytes, file: PinnedFile) -> bool:
    return len(content) == file.size and hashlib.sha256(content).hexdigest() == file.sha256


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name) if name in wheel.namelist() else b""
    with tarfile.open(archive) as package:
        found = package.extractfile(name) if name in package.getnames() else None
        return found.read() if found else b""


def _missing(file: PinnedFile, *, tried: bool) -> Exception:
    places = " or ".join(file.sources)
    what = "was found at none of its sources with the right SHA-256" if tried else "is not at hand"
    how = "Check the network, and that npm and pip are installed" if tried else "Allow `download` to fetch it"
    remedy = f"{how}; or put {file.name} into the folder that `pyodide` names. It comes from {places}."
    return WEB_FILE_MISSING(f"{file.name} {what}.", remedy=remedy)
