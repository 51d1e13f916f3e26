"""A model of a bundle becomes an engine; one from elsewhere is first tried in a process of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.bundle import Bundle, bundles_of_package
from autosam_edge.engines.selection import make_engine
from autosam_edge.error_codes import BUNDLE_ALTERED, TRIAL_FAILED
from autosam_edge.manifest import MANIFEST
from autosam_edge.system.child_process import ChildFailed, can_run_child, run_child
from autosam_edge.system.file_hash import file_digest

if TYPE_CHECKING:
    from autosam_edge.engines.artifact_engine import ArtifactEngine
    from autosam_edge.manifest import Artifact

_TRIAL_SECONDS = 120.0
# Python and a runtime, which for ExecuTorch is torch as well; and what a runtime needs while it loads.
_TRIAL_BASE_MB, _TRIAL_FACTOR = 1500.0, 3.0
_passed: set[tuple[str, str]] = set()
"""Manifest and artifact of each model that passed its trial; only this process remembers it."""


def load_engine(bundle: Bundle, artifact: Artifact, threads: int | None = None) -> ArtifactEngine:
    """Read an artifact, verify its hashes and its interface, and load it into its engine.

    The first load of a bundle that is none of the package happens in a child process as well, which
    runs one tile of air: a model that hangs, crashes or fills the memory does so there. There is no such
    trial where no child can be started (:func:`~autosam_edge.system.child_process.can_run_child`).

    Raises:
        BundleError: A file is damaged (AE-BUNDLE-004) or is no allowed model (AE-BUNDLE-007).
        EngineError: The model does not load (AE-ENGINE-002), its tensors are not those of the manifest
            (AE-ENGINE-003), or it failed its trial (AE-ENGINE-008).
    """
    tried = (bundle.manifest_sha256, artifact.name)
    if bundle.manifest_sha256 not in _own_manifests() and tried not in _passed and can_run_child():
        _try(bundle, artifact)
        _passed.add(tried)
    return _load(bundle, artifact, threads)


def _load(bundle: Bundle, artifact: Artifact, threads: int | None) -> ArtifactEngine:
    model, sha256 = bundle.read_artifact(artifact.path), bundle.manifest.sha256_of(artifact.path)
    engine = make_engine(artifact.target, model, sha256=sha256, precision=artifact.precision, threads=threads)
    engine.require_interface(bundle.manifest.input.patch, bundle.model.classes)
    return engine


@cache
def _own_manifests() -> frozenset[str]:
    """SHA-256 of the manifests of the package."""
    return frozenset(file_digest(path / MANIFEST) for path in bundles_of_package().values())


def _try(bundle: Bundle, artifact: Artifact) -> None:
    memory_mb = _TRIAL_BASE_MB + _TRIAL_FACTOR * bundle.working_set_mb(artifact)
    arguments = [str(bundle.path.absolute()), bundle.manifest_sha256, artifact.name]
    try:
        run_child(__name__, arguments, seconds=_TRIAL_SECONDS, memory_mb=memory_mb)
    except ChildFailed as error:
        raise TRIAL_FAILED(
            f"{artifact.name} failed its trial in a process of its own: {error.detail}."
        ) from error


def run_in_child(arguments: list[str], data: bytes) -> bytes:  # noqa: ARG001  the interface of run_child
    """Load an artifact and run one tile of air: the trial itself."""
    path, manifest_sha256, name = arguments
    bundle = Bundle(Path(path))
    if bundle.manifest_sha256 != manifest_sha256:
        raise BUNDLE_ALTERED("the bundle changed while it was opened.")
    air = np.full(bundle.manifest.input.patch, bundle.manifest.input.window_hu[0], dtype=np.float32)
    _load(bundle, bundle.manifest.artifact(name), 1).run(air)
    return b""
