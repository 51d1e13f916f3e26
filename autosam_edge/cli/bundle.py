"""``autosam-edge bundle sign`` and ``autosam-edge bundle verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.cli.options import AsJson, bundle_path

app = typer.Typer(help="Sign a bundle, and check who signed one; needs `[sign]`.", no_args_is_help=True)
BundlePath = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", parser=bundle_path, help="Model bundle (*.edge): a folder or a zip."),
]


@app.command("sign")
def sign_bundle(
    path: BundlePath,
    key: Annotated[Path, typer.Option("--key", help="Ed25519 private key, PEM without a password.")],
    as_json: AsJson = False,
) -> None:
    """Check every hash of a bundle, and sign its manifest with a private key."""
    bundle = open_bundle(path)
    bundle.sign(key)
    _show(bundle, "signed", as_json=as_json)


@app.command("verify")
def verify_signature(
    path: BundlePath,
    key: Annotated[Path, typer.Option("--key", help="Ed25519 public key, PEM.")],
    as_json: AsJson = False,
) -> None:
    """Check that the owner of a key signed a bundle, and that every hash in it is right."""
    bundle = open_bundle(path, require_signature=key)
    bundle.verify()
    _show(bundle, "the signature and every hash are correct", as_json=as_json)


def _show(bundle: Bundle, outcome: str, *, as_json: bool) -> None:
    model = {"model": bundle.manifest.name, "model_sha256": bundle.manifest_sha256}
    print(json.dumps(model) if as_json else f"{bundle.manifest.name} {bundle.manifest.version}: {outcome}")
