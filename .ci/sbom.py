"""Write the SBOM of an environment in which the wheel is installed: CycloneDX 1.6 in JSON, with licenses.

``python .ci/sbom.py PYTHON FILE``: PYTHON is the interpreter of the environment, FILE the SBOM to write. The
interpreter that runs this needs cyclonedx-bom. The exit code is 1 if a license is unknown or is the GPL.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Licenses that a package states only in words, or only in a file, so that cyclonedx-bom leaves them out.
LICENSES = {"protobuf": "BSD-3-Clause"}
_TOOLS = {"pip", "setuptools", "wheel"}  # of the virtual environment, not of the wheel
_GPL = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public License")


def make_sbom(python: str) -> dict[str, Any]:
    """The SBOM of an environment as a JSON object."""
    command = ["environment", "--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml"), python]
    done = subprocess.run([sys.executable, "-m", "cyclonedx_py", *command], check=True, capture_output=True)  # noqa: S603
    sbom: dict[str, Any] = json.loads(done.stdout)
    sbom["components"] = [part for part in sbom["components"] if part["name"] not in _TOOLS]
    for part in sbom["components"]:
        if not part.get("licenses") and part["name"] in LICENSES:
            part["licenses"] = [{"license": {"id": LICENSES[part["name"]]}}]
    return sbom


def licenses_of(part: dict[str, Any]) -> list[str]:
    """Licenses of a component: identifiers, expressions or names."""
    entries = part.get("licenses", [])
    texts = [
        entry.get("expression") or entry["license"].get("id") or entry["license"]["name"] for entry in entries
    ]
    return [str(text) for text in texts]


def license_faults(sbom: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the license of a component, by its name."""
    found = {part["name"]: licenses_of(part) for part in sbom["components"]}
    unknown = {name: "its license is unknown" for name, licenses in found.items() if not licenses}
    return unknown | {
        name: f"its license is {', '.join(licenses)}"
        for name, licenses in found.items()
        if any(_GPL.search(text) for text in licenses)
    }


if __name__ == "__main__":
    made = make_sbom(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(made, indent=1) + "\n")
    if faults := license_faults(made):
        sys.exit("\n".join(f"{name}: {fault}" for name, fault in faults.items()))
