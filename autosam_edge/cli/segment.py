"""``autosam-edge segment``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from autosam_edge.cli.options import (
    AsJson,
    BundleOption,
    Engine,
    Out,
    Scan,
    Series,
    Threads,
    one_of,
    split_commas,
)
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.report import run, show_report
from autosam_edge.output_formats import DEFAULT_FORMATS, FORMATS
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.write_results import check_outputs, check_writable

_DECISION = partial(typer.Option, rich_help_panel="Decisions of a person about a doubtful scan")
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="Number format of the model, such as fp32 or int8. Default: the best."),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory", min=1, help="Memory limit in MB; a scan that needs more is refused before the start."
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME,...",
        help=f"Files to write: some of {', '.join(FORMATS)}. Default: {', '.join(DEFAULT_FORMATS)}, "
        "as far as the input allows.",
    ),
]
Pseudonymize = Annotated[
    bool,
    typer.Option(
        "--pseudonymize",
        help="Write a pseudonym in place of the patient's name and ID into the DICOM results, and no "
        "other patient data or dates. One study always has one pseudonym. UIDs stay, so that a viewer "
        "finds the scan: who has the scan can still tell whose it is. Other results never name the "
        "patient.",
    ),
]
AllowGap = Annotated[
    bool, _DECISION("--allow-gap", help="Fill missing DICOM slices by interpolation, with a warning.")
]
AssumeHu = Annotated[
    bool,
    _DECISION(
        "--assume-hu",
        help="Take values without a rescale as HU, after a check of their range, with a warning.",
    ),
]
IgnoreFrameOfReference = Annotated[
    bool,
    _DECISION(
        "--ignore-frame-of-reference",
        help="Read slices that name several frames of reference as one volume, with a warning.",
    ),
]
AcceptImplausible = Annotated[
    bool,
    _DECISION(
        "--accept-implausible", help="Write labels that do not look like those of an abdomen, with a warning."
    ),
]


def segment(
    source: Scan,
    out: Out,
    bundle: BundleOption = None,
    series: Series = None,
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    max_memory: MaxMemory = None,
    formats: Formats = None,
    pseudonymize: Pseudonymize = False,
    allow_gap: AllowGap = False,
    assume_hu: AssumeHu = False,
    ignore_frame_of_reference: IgnoreFrameOfReference = False,
    accept_implausible: AcceptImplausible = False,
    as_json: AsJson = False,
) -> None:
    """Label the organs of one CT scan: NIfTI, DICOM SEG, statistics and a picture."""
    stages = Stages()
    chosen = None
    if formats:
        expected = f"some of {', '.join(FORMATS)}"
        chosen = split_commas(",".join(formats), one_of(FORMATS), option="--format", expected=expected)
    check_writable(out, input_path=source, formats=chosen)
    with stages.stage("read"):
        volume = read(
            source,
            series=series,
            allow_gap=allow_gap,
            assume_hu=assume_hu,
            ignore_frame_of_reference=ignore_frame_of_reference,
            max_memory_mb=max_memory,
        )
    # Whether the input is DICOM, which a SEG needs, is known only now.
    check_outputs(out, source=volume.source, input_path=source, formats=chosen)
    open_model = partial(
        open_session, bundle, engine=engine, precision=precision, threads=threads, max_memory_mb=max_memory
    )
    _, report = run(
        volume,
        out,
        stages,
        open_model,
        formats=chosen,
        pseudonymize=pseudonymize,
        accept_implausible=accept_implausible,
    )
    show_report(report, as_json=as_json)
