"""``export --target web``: write the folder that any static host serves."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Iterable
from pathlib import Path

from autosam_edge.bundle import Bundle
from autosam_edge.error_codes import ARTIFACT_MISSING
from autosam_edge.golden import GOLDEN
from autosam_edge.manifest import MANIFEST, Artifact
from autosam_edge.system.atomic_files import explained, refuse_occupied, staged_folder
from autosam_edge.version import __version__
from autosam_edge_export.web.icons import icons
from autosam_edge_export.web.packages import own_package, pruned
from autosam_edge_export.web.third_party import ThirdParty, pinned_files

SITE_LIST = "site.json"
_MARK = "autosam-edge.mjs"  # a site is told by it: site.json is a name that other programs give too
_MODEL, _PYTHON, _PACKAGES = "model/", "vendor/pyodide/", "vendor/packages/"
_NETWORK, _VIEWER = "vendor/onnxruntime-web/", "vendor/viewer/"
_FOLDERS = {"python": _PYTHON, "package": _PACKAGES, "wasm": _NETWORK, "webgpu": _NETWORK, "viewer": _VIEWER}
_LIBRARIES = {"wasm": "ort.wasm.min.mjs", "webgpu": "ort.webgpu.min.mjs"}
_TARGETS = {"wasm": "onnx", "webgpu": "onnx-2d"}  # the graph of the latter runs on a GPU as a whole


def write_site(
    bundle: Bundle, out: Path, third_party: ThirdParty, *, precision: str = "fp32"
) -> dict[str, object]:
    """Write a site that labels CT scans in the browser.

    Args:
        bundle: Bundle with an ``onnx`` artifact of the precision; one of ``onnx-2d`` in addition brings
            WebGPU.
        out: Folder to write. It must not exist, or hold a site, which is replaced at the end.
        third_party: Finder of the files of others.
        precision: Number format of the artifacts.

    Returns:
        Report of JSON values: ``site``, ``files``, ``megabytes`` and ``providers``.

    Raises:
        BundleError: The bundle has no such artifact (AE-BUNDLE-005), or a file of it is damaged.
        ExportError: A file of others is not at hand (AE-EXPORT-016).
        OutputError: The folder holds something else, or cannot be written.
    """
    artifacts = _artifacts(bundle, precision)
    with explained(out.name):  # before anything is fetched, which takes long
        refuse_occupied(out, unless=_MARK)
    files = _own_files() | icons() | _model_files(bundle, artifacts)
    on_demand = {"autosam-edge.d.mts"}
    packages = [f"{_PACKAGES}autosam_edge.zip"]
    files[packages[0]] = own_package()
    for file in pinned_files():
        if file.group == "webgpu" and "webgpu" not in artifacts:
            continue
        path, content = _FOLDERS[file.group] + file.name, third_party.read(file)
        if file.group == "package":
            content = pruned(content)
            packages.append(path)
        if file.group == "webgpu":
            on_demand.add(path)
        files[path] = content
    if "webgpu" in artifacts:
        on_demand.add(_MODEL + artifacts["webgpu"].path)
    site = {
        "software": f"autosam-edge {__version__}",
        "python": {"folder": _PYTHON, "packages": packages},
        "model": {
            "folder": _MODEL,
            "files": sorted(_golden_files(bundle)),
            "patch": list(bundle.manifest.input.patch),
        },
        "providers": {name: _provider(name, artifact) for name, artifact in artifacts.items()},
        "files": _listed(files, on_demand),
    }
    version = hashlib.sha256(json.dumps(site, sort_keys=True).encode()).hexdigest()[:16]
    files[SITE_LIST] = (json.dumps({"version": version, **site}, indent=1) + "\n").encode()
    worker = (importlib.resources.files(__package__) / "site" / "service-worker.js").read_text("utf-8")
    files["service-worker.js"] = worker.replace("@VERSION@", version).encode()
    with staged_folder(out, replaces=_MARK) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return {
        "site": str(out),
        "files": len(files),
        "megabytes": _megabytes(files.values()),
        "megabytes_kept_offline": _megabytes(files[name] for name in files.keys() - on_demand),
        "providers": ", ".join(artifacts),
    }


def _megabytes(contents: Iterable[bytes]) -> float:
    return round(sum(map(len, contents)) / 1e6, 1)


def _artifacts(bundle: Bundle, precision: str) -> dict[str, Artifact]:
    """The artifact of each provider."""
    by_name = {artifact.name: artifact for artifact in bundle.manifest.artifacts}
    wanted = {provider: f"{target}/{precision}" for provider, target in _TARGETS.items()}
    if wanted["wasm"] not in by_name:
        raise ARTIFACT_MISSING(f"the bundle has no artifact {wanted['wasm']}, it holds {', '.join(by_name)}.")
    return {provider: by_name[name] for provider, name in wanted.items() if name in by_name}


def _provider(name: str, artifact: Artifact) -> dict[str, object]:
    return {
        "library": _NETWORK + _LIBRARIES[name],
        "artifact": artifact.name,
        "path": artifact.path,
        "all_on_provider": name == "webgpu",
    }


def _own_files() -> dict[str, bytes]:
    """Our own files of the site, but for the service worker, which names the version of all others."""
    folder = importlib.resources.files(__package__) / "site"
    return {
        entry.name: entry.read_bytes()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.is_file() and entry.name != "service-worker.js"
    }


def _golden_files(bundle: Bundle) -> list[str]:
    """The files of a bundle that Python reads in the browser."""
    golden = GOLDEN.partition("/")[0]
    return [
        MANIFEST,
        "parity.json",
        *(name for name in bundle.manifest.files if name.startswith(f"{golden}/")),
    ]


def _model_files(bundle: Bundle, artifacts: dict[str, Artifact]) -> dict[str, bytes]:
    names = [*_golden_files(bundle), *(artifact.path for artifact in artifacts.values())]
    content = {name: bundle.read(name) for name in names if name != MANIFEST}
    content[MANIFEST] = bundle.manifest_text
    return {_MODEL + name: data for name, data in content.items()}


def _listed(files: dict[str, bytes], on_demand: set[str]) -> dict[str, dict[str, object]]:
    """Size and hash of each file, for the service worker."""
    return {
        name: {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **({"on_demand": True} if name in on_demand else {}),
        }
        for name, content in sorted(files.items())
    }
