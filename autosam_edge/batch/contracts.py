"""The folders and files by which hospital routers and challenges call a container.

Each contract says where the scans are and where the results go. In all of them the work of a run stands in a
hidden folder of the output, as nothing else can be written in a container with a read-only root.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np
import pydicom

from autosam_edge.atomic_files import staged_file, write_file
from autosam_edge.batch.batch import Batch
from autosam_edge.batch.folder import STATISTICS
from autosam_edge.batch.job import Settings
from autosam_edge.batch.scan import Scanner
from autosam_edge.error_codes import CONTRACT_SETTINGS_INVALID
from autosam_edge.output_formats import DEFAULT_FORMATS, FILE_NAMES, Format
from autosam_edge.read_choices import ReadChoices
from autosam_edge.strict_json import build, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autosam_edge.batch.job import Fault, Job

Contract = Literal["folder", "mercure", "flare", "grand-challenge"]

_WORK = ".autosam-edge"
_FLARE = {
    "liver": 1, "kidney_right": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "inferior_vena_cava": 6,
    "adrenal_gland_right": 7, "adrenal_gland_left": 8, "gallbladder": 9, "esophagus": 10, "stomach": 11,
    "duodenum": 12, "kidney_left": 13,
}  # fmt: skip
"""Values of FLARE 2022 to 2025 by the names of this package."""


@dataclass(frozen=True)
class ContractSettings:
    """What the caller of a container may set, as ``settings.json`` or in mercure's ``task.json``.

    Args:
        formats: Formats to write.
        allow_gap: See :class:`autosam_edge.read_choices.ReadChoices`.
        assume_hu: See there.
        ignore_frame_of_reference: See there.
        accept_implausible: Whether implausible labels are written, with a warning.
        pseudonymize: Whether the DICOM results hold a pseudonym in place of the patient.
    """

    formats: tuple[Format, ...] = ()
    allow_gap: bool = False
    assume_hu: bool = False
    ignore_frame_of_reference: bool = False
    accept_implausible: bool = False
    pseudonymize: bool = False


@dataclass
class Outcome:
    """What came of a call, as ``result.json`` holds it.

    Args:
        scans: One entry for each scan: id, verdict, warnings and organs, or code, message and remedy.
    """

    scans: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of scans that failed."""
        return sum("code" in scan for scan in self.scans)

    @property
    def in_words(self) -> str:
        """One sentence for a notification, without patient data."""
        if self.failed:
            codes = ", ".join(sorted({scan["code"] for scan in self.scans if "code" in scan}))
            return f"{self.failed} of {len(self.scans)} scans could not be segmented: {codes}."
        verdicts = ", ".join(scan["verdict"] or "not judged" for scan in self.scans)
        return f"{len(self.scans)} scans were segmented; the labels are {verdicts}."


def detect(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[Contract, Path, Path] | None:
    """Find the contract by which a container is called.

    Args:
        environment: Environment variables.
        root: Root of the file system.

    Returns:
        The contract, its input and its output folder; None if there is none of them.
    """
    if "MERCURE_IN_DIR" in environment:
        return "mercure", Path(environment["MERCURE_IN_DIR"]), Path(environment["MERCURE_OUT_DIR"])
    for name, source, out in (
        ("flare", "workspace/inputs", "workspace/outputs"),
        ("grand-challenge", "input/images", "output"),
        ("folder", "in", "out"),
    ):
        if (root / source).is_dir():
            return name, root / source, root / out  # type: ignore[return-value]  # mypy widens the tuple
    return None


def run_contract(
    contract: Contract, source: Path, out: Path, settings: Settings, *, socket: str = ""
) -> Outcome:
    """Segment the scans of a call, and put the results where its contract wants them.

    Args:
        contract: The contract.
        source: Input folder.
        out: Output folder.
        settings: What does not come from the caller, such as the engine.
        socket: Name of the output image's socket, for Grand-Challenge.

    Returns:
        What came of it; ``result.json`` holds it, too.

    Raises:
        BatchError: The settings of the caller are not valid (AE-BATCH-006).
        AutosamEdgeError: The model cannot be loaded, or the inputs cannot be listed.
    """
    settings = _with_choices(settings, _caller_settings(contract, source), contract)
    batch = Batch([source], out / _WORK, settings)
    outcome = Outcome()
    try:
        batch.update_index()
        scanner = Scanner(batch.folder, settings) if batch.jobs else None
        for job in batch.jobs:
            fault = scanner.segment(job) if scanner else None
            if fault is None:
                single = len(batch.jobs) == 1
                place = {"folder": "" if single else job.id, "grand-challenge": f"images/{socket}"}
                _place(contract, batch.folder.scans / job.id, job, out / place.get(contract, ""))
            outcome.scans.append(_entry(job, fault, batch.folder.scans / job.id))
    finally:
        shutil.rmtree(out / _WORK, ignore_errors=True)
    content: dict[str, Any] = {"failed": outcome.failed, "scans": outcome.scans}
    if contract == "mercure":
        content["__mercure_notification"] = {"text": outcome.in_words}
    name = "results.json" if contract == "grand-challenge" else "result.json"
    write_file((json.dumps(content, indent=2) + "\n").encode(), out / name)
    return outcome


def _caller_settings(contract: Contract, source: Path) -> ContractSettings:
    path = source / ("task.json" if contract == "mercure" else "settings.json")
    if not path.exists():
        return ContractSettings()
    try:
        content: Any = parse_json(path.read_bytes())
        if contract == "mercure":
            process = content.get("process") or {}
            process = process[0] if isinstance(process, list) else process  # of several modules, the first
            content = process.get("settings") or {}
        return build(ContractSettings, {**vars(ContractSettings()), "formats": [], **content}, path.name)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        what = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise CONTRACT_SETTINGS_INVALID(f"{path.name} is not valid: {what}.") from error


def _with_choices(settings: Settings, caller: ContractSettings, contract: Contract) -> Settings:
    formats: tuple[Format, ...] = {
        "folder": caller.formats or DEFAULT_FORMATS,
        "mercure": caller.formats or ("dicom-seg",),
        "flare": ("nifti",),
        "grand-challenge": ("metaimage",),
    }[contract]
    choices = ReadChoices(caller.allow_gap, caller.assume_hu, caller.ignore_frame_of_reference)
    return replace(
        settings,
        formats=formats,
        choices=choices,
        accept_implausible=caller.accept_implausible or contract in ("flare", "grand-challenge"),
        pseudonymize=caller.pseudonymize,
    )


def _place(contract: Contract, results: Path, job: Job, out: Path) -> None:
    """Put the results of one scan where the contract wants them."""
    if contract == "folder":
        for file in sorted(results.iterdir()):
            if file.name in FILE_NAMES.values():
                _copy(file, out / file.name)
    elif contract == "mercure":
        for file in sorted(results.glob("*.dcm")):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            _copy(file, out / f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm")
    elif contract == "flare":
        name = Path(job.files[0]).name.replace("_0000.nii", ".nii")
        _write_flare(results / FILE_NAMES["nifti"], results / STATISTICS, out / name)
    else:
        _copy(results / FILE_NAMES["metaimage"], out / f"{Path(job.files[0]).stem}.mha")


def _copy(source: Path, target: Path) -> None:
    with staged_file(target) as stage:
        shutil.copyfile(source, stage)


def _write_flare(labels: Path, statistics: Path, target: Path) -> None:
    """Write the labels under FLARE's numbers; organs that FLARE does not have become background."""
    organs = json.loads(statistics.read_text(encoding="utf-8"))["organs"]
    table = np.zeros(256, np.uint8)
    for organ in organs:
        table[organ["label"]] = _FLARE.get(organ["name"], 0)
    image = nib.load(labels)
    values = table[np.asarray(image.dataobj)]
    with staged_file(target.with_name(f"{target.name.removesuffix('.gz')}.gz")) as stage:
        named = stage.with_name(f"{stage.name}.nii.gz")  # nibabel goes by the name
        nib.Nifti1Image(values, image.affine, image.header).to_filename(named)
        named.replace(stage)


def _entry(job: Job, fault: Fault | None, results: Path) -> dict[str, Any]:
    if fault is not None:
        return {"scan": job.id, "code": fault.code, "message": fault.message, "remedy": fault.remedy}
    content = json.loads((results / STATISTICS).read_text(encoding="utf-8"))
    return {
        "scan": job.id,
        "verdict": (content["plausibility"] or {}).get("verdict"),
        "warnings": content["warnings"],
        "organs": {organ["name"]: organ["ml"] for organ in content["organs"]},
    }
