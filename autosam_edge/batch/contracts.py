"""The folders and files by which hospital routers and challenges call a container.

Each contract says where the scans are and where the results go. In all of them the work of a run stands in a
hidden folder of the output, as nothing else can be written in a container with a read-only root.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np
import pydicom

from autosam_edge.batch.batch import Batch
from autosam_edge.batch.folder import STATISTICS
from autosam_edge.batch.index import ID_LETTERS, mode_of_input
from autosam_edge.batch.job import Fault, Settings
from autosam_edge.batch.scan import Scanner
from autosam_edge.dicom.find import INPUTS_OF_THEIR_OWN
from autosam_edge.error_codes import CONTRACT_SETTINGS_INVALID, INPUT_UNREADABLE, OUTPUT_OCCUPIED
from autosam_edge.errors import CancelledError, OutputError
from autosam_edge.output_formats import FILE_NAMES, Format
from autosam_edge.read_choices import ReadChoices
from autosam_edge.strict_json import build, parse_json
from autosam_edge.system.atomic_files import explained, made_folders, staged_file, staged_results, write_file
from autosam_edge.system.staging import NEW, new_stage
from autosam_edge.write_results import check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from autosam_edge.batch.folder import BatchFolder
    from autosam_edge.batch.job import Job

Contract = Literal["folder", "mercure", "flare", "grand-challenge"]


@dataclass(frozen=True)
class _Rules:
    """What one contract fixes.

    Args:
        folders: Input and output below the root of the file system; None where variables name them.
        formats: Formats if the caller names none; None for the default ones, as far as the input allows.
        challenge: Whether the caller is a challenge: it fixes the format, wants an answer to every scan, and
            finds it by the name of the scan's file.
        settings: Name of the file with the settings of the caller.
        result: Name of the file that says what came of a call.
    """

    folders: tuple[str, str] | None
    formats: tuple[Format, ...] | None
    challenge: bool = False
    settings: str = "settings.json"
    result: str = "result.json"


_RULES: dict[Contract, _Rules] = {
    "mercure": _Rules(None, ("dicom-seg",), settings="task.json"),
    "flare": _Rules(("workspace/inputs", "workspace/outputs"), ("nifti",), challenge=True),
    "grand-challenge": _Rules(
        ("input/images", "output"), ("metaimage",), challenge=True, result="results.json"
    ),
    "folder": _Rules(("in", "out"), None),
}
"""In the order in which they are looked for."""
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
        formats: Formats to write; empty for those of the contract.
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
        passed_over: Number of series of fewer than three slices, which are no scans.
        error: Error that ended the call, so that there is no result at all.
    """

    scans: list[dict[str, object]] = field(default_factory=list)
    passed_over: int = 0
    error: Fault | None = None

    @property
    def failed(self) -> int:
        """Number of scans that failed; an error of the whole call counts as one, so that 0 is a success."""
        return sum("code" in scan for scan in self.scans) if self.error is None else 1

    @property
    def in_words(self) -> str:
        """What came of the call for a notification, without patient data."""
        if not self.passed_over:
            return self._result
        return f"{self._result} Series of fewer than three slices passed over: {self.passed_over}."

    @property
    def _result(self) -> str:
        if self.error is not None:
            return f"No scan could be segmented: {self.error.code}."
        if self.failed:
            codes = ", ".join(sorted({str(scan["code"]) for scan in self.scans if "code" in scan}))
            return f"{self.failed} of {len(self.scans)} scans could not be segmented: {codes}."
        verdicts = ", ".join(str(scan["verdict"] or "not judged") for scan in self.scans)
        scans = "1 scan was" if len(self.scans) == 1 else f"{len(self.scans)} scans were"
        return f"{scans} segmented; the labels are {verdicts}."


def detect(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[Contract, Path, Path] | None:
    """Find the contract by which a container is called.

    Returns:
        The contract, its input and its output folder; None if there is none of them.

    Raises:
        BatchError: Only one of mercure's two variables is set (AE-BATCH-006).
    """
    mercure = [environment.get(name) for name in ("MERCURE_IN_DIR", "MERCURE_OUT_DIR")]
    if mercure[0] and mercure[1]:
        return "mercure", Path(mercure[0]), Path(mercure[1])
    if any(mercure):
        raise CONTRACT_SETTINGS_INVALID(
            "only one of the variables MERCURE_IN_DIR and MERCURE_OUT_DIR is set.",
            remedy="Set both variables, or none of them.",
        )
    for contract, rules in _RULES.items():
        if rules.folders and (root / rules.folders[0]).is_dir():
            return contract, root / rules.folders[0], root / rules.folders[1]
    return None


def run_contract(
    contract: Contract, source: Path, out: Path, settings: Settings, *, socket: str = ""
) -> Outcome:
    """Segment the scans of a call, and put the results where its contract wants them.

    Args:
        settings: What does not come from the caller, such as the engine.
        socket: Name of the output image's socket, for Grand-Challenge.

    Returns:
        What came of it; ``result.json`` holds it, too.

    Raises:
        BatchError: The settings of the caller, or the socket, are not valid (AE-BATCH-006).
        InputError: The input does not exist (AE-INPUT-001), holds no scan (-002), or cannot be read (-003).
        OutputError: See :func:`autosam_edge.write_results.check_writable`.
        AutosamEdgeError: The model cannot be loaded.
    """
    _check_call(contract, source, out, socket)
    try:
        outcome = _segment_all(contract, source, out, settings, socket)
    except CancelledError:
        raise
    except Exception as error:
        with suppress(OutputError):  # the disk may be full
            _clear(contract, source, out)
            _report(contract, Outcome(error=Fault.of(error)), out)
        raise
    _report(contract, outcome, out)
    return outcome


def _check_call(contract: Contract, source: Path, out: Path, socket: str) -> None:
    """Refuse a call that cannot succeed, before anything in the output is touched."""
    mode_of_input(source, "the input folder")
    if contract == "grand-challenge" and (socket in (".", "..") or {"/", "\\"} & set(socket)):
        raise CONTRACT_SETTINGS_INVALID(
            "the socket is not one name.", remedy="Give the slug of the socket, without slashes."
        )
    check_writable(out, input_path=source)
    if (out / result_name(contract)).is_dir():
        raise OUTPUT_OCCUPIED(f"{result_name(contract)} in the output folder is a folder, expected a file.")


def _segment_all(contract: Contract, source: Path, out: Path, settings: Settings, socket: str) -> Outcome:
    """Segment every scan, then put all results into the place of earlier ones."""
    if not os.access(source, os.R_OK | (os.X_OK if source.is_dir() else 0)):
        raise INPUT_UNREADABLE("the input folder cannot be read.")
    settings = _with_choices(settings, _caller_settings(contract, source), contract)
    with _work_folder(out) as work:
        with explained():
            batch = Batch([source], work, settings)
        batch.update_index()
        batch.require_scans()
        targets = _targets(contract, batch.jobs, out.resolve(), socket)
        faults = _shared_names(batch.jobs, targets) if _RULES[contract].challenge else {}
        scanner = Scanner(batch.folder, settings)
        outcome = Outcome(passed_over=len(batch.passed_over()))
        for job in batch.jobs:
            if job.id not in faults and (fault := scanner.segment(job)) is not None:
                faults[job.id] = fault
            outcome.scans.append(_entry(job, faults.get(job.id), batch.folder))
        _clear(contract, source, out)
        inputs = {Path(file) for job in batch.jobs for file in job.files}
        for job in batch.jobs:
            if job.id not in faults:
                _place(contract, batch.folder.scans / job.id, targets[job.id])
            elif _RULES[contract].challenge and job.files and targets[job.id] not in inputs:
                with explained():
                    targets[job.id].unlink(missing_ok=True)  # labels of an earlier run
    return outcome


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder of this call in the output, removed at the end; so are new folders that stay empty."""
    with ExitStack() as stack:
        with explained():
            stack.enter_context(made_folders(out))
            stage = stack.enter_context(new_stage(out))
        yield stage / NEW


def _clear(contract: Contract, source: Path, out: Path) -> None:
    """Remove the results of an earlier run, which would be taken for those of this one.

    Only files with names of ours are removed. ``result.json`` leaves first and comes last: where it is,
    everything is whole.
    """
    with explained():
        (out / result_name(contract)).unlink(missing_ok=True)
    if contract != "folder" or not out.is_dir():
        return
    read = (source.resolve(), *source.resolve().parents)
    scans = [path for path in out.iterdir() if _is_scan_folder(path) and path.resolve() not in read]
    for folder in (out, *scans):
        names = [name for name in FILE_NAMES.values() if (folder / name).is_file()]
        if names:
            with staged_results(folder, names):
                pass
            if folder != out:
                with suppress(OSError):  # other files are in it
                    folder.rmdir()


def _is_scan_folder(path: Path) -> bool:
    """Whether a folder has the name of a scan, as those of several scans have."""
    is_id = len(path.name) == ID_LETTERS and set(path.name) <= set("0123456789abcdef")
    return is_id and path.is_dir() and not path.is_symlink()


def result_name(contract: Contract) -> str:
    """Name of the file that says what came of a call."""
    return _RULES[contract].result


def _report(contract: Contract, outcome: Outcome, out: Path) -> None:
    """Write what came of a call."""
    content: dict[str, object] = {
        "failed": outcome.failed,
        "passed_over": outcome.passed_over,
        "scans": outcome.scans,
    }
    if outcome.error is not None:
        content["error"] = vars(outcome.error)
    if contract == "mercure":
        content["__mercure_notification"] = {"text": outcome.in_words}
    write_file((json.dumps(content, indent=2) + "\n").encode(), out / result_name(contract))


def _caller_settings(contract: Contract, source: Path) -> ContractSettings:
    path = source / _RULES[contract].settings
    if not path.exists():
        return ContractSettings()
    try:
        content: Any = parse_json(path.read_bytes())
        if contract == "mercure":
            process = content.get("process") or {}
            process = process[0] if isinstance(process, list) else process  # of several modules, the first
            content = process.get("settings") or {}
        return build(ContractSettings, content, path.name)
    except (OSError, ValueError, AttributeError) as error:
        what = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise CONTRACT_SETTINGS_INVALID(f"{path.name} is not valid: {what}.") from error


def _with_choices(settings: Settings, caller: ContractSettings, contract: Contract) -> Settings:
    rules = _RULES[contract]
    return replace(
        settings,
        formats=rules.formats if rules.challenge else caller.formats or rules.formats,
        choices=ReadChoices(caller.allow_gap, caller.assume_hu, caller.ignore_frame_of_reference),
        accept_implausible=caller.accept_implausible or rules.challenge,
        pseudonymize=caller.pseudonymize,
    )


def _targets(contract: Contract, jobs: Sequence[Job], out: Path, socket: str) -> dict[str, Path]:
    """The file or the folder for the results of each scan, by its id."""
    targets = {job.id: out for job in jobs}
    if contract == "folder" and len(jobs) > 1:
        targets = {job.id: out / job.id for job in jobs}
    for job in jobs:
        if contract == "flare" and job.files:
            targets[job.id] = out / f"{_case(job.files[0]).removesuffix('_0000')}.nii.gz"
        elif contract == "grand-challenge" and job.files:
            targets[job.id] = out / "images" / socket / f"{_case(job.files[0])}.mha"
    return targets


def _case(file: str) -> str:
    """The name of a file without its ending, such as ``.nii.gz``."""
    name = Path(file).name
    ends = [end for end in (".dcm", *INPUTS_OF_THEIR_OWN) if name.lower().endswith(end)]
    return name[: -len(max(ends, key=len))] if ends else name


def _shared_names(jobs: Sequence[Job], targets: Mapping[str, Path]) -> dict[str, Fault]:
    """Errors of the scans whose labels would replace those of another scan, or a file of the input."""
    taken = Counter(targets[job.id] for job in jobs if job.files)
    taken.update({Path(file) for job in jobs for file in job.files})
    error = OUTPUT_OCCUPIED(
        "the labels would have the name of another scan's labels, or of a file of the input.",
        remedy="Give one file of each scan, under a name of its own, and another output folder.",
    )
    return {job.id: Fault.of(error) for job in jobs if job.files and taken[targets[job.id]] > 1}


def _place(contract: Contract, results: Path, target: Path) -> None:
    """Put the results of one scan where the contract wants them."""
    if contract == "folder":
        with staged_results(target, list(FILE_NAMES.values())) as stage:
            for name in FILE_NAMES.values():
                if (results / name).exists():
                    shutil.move(results / name, stage / name)
    elif contract == "mercure":
        for file in sorted(results.glob("*.dcm")):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            _move(file, target / f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm")
    elif contract == "flare":
        _write_flare(results / FILE_NAMES["nifti"], results / STATISTICS, target)
    else:
        _move(results / FILE_NAMES["metaimage"], target)


def _move(source: Path, target: Path) -> None:
    with staged_file(target) as stage:
        shutil.move(source, stage)


def _write_flare(labels: Path, statistics: Path, target: Path) -> None:
    """Write the labels under FLARE's numbers; organs that FLARE does not have become background."""
    organs = json.loads(statistics.read_text(encoding="utf-8"))["organs"]
    table = np.zeros(256, np.uint8)
    for organ in organs:
        table[organ["label"]] = _FLARE.get(organ["name"], 0)
    image = nib.load(labels)
    values = table[np.asarray(image.dataobj)]
    with staged_file(target) as stage:
        named = stage.with_name(f"{stage.name}.nii.gz")  # nibabel goes by the name
        nib.Nifti1Image(values, image.affine, image.header).to_filename(named)
        named.replace(stage)


def _entry(job: Job, fault: Fault | None, folder: BatchFolder) -> dict[str, object]:
    if fault is not None:
        return {"scan": job.id, **vars(fault)}
    content = folder.statistics(job)
    assert content is not None  # it is done
    return {
        "scan": job.id,
        "verdict": (content["plausibility"] or {}).get("verdict"),
        "warnings": content["warnings"],
        "organs": {organ["name"]: organ["ml"] for organ in content["organs"]},
    }
