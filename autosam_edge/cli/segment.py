"""``autosam-edge segment``."""

from __future__ import annotations

from functools import partial

from autosam_edge.cli import options
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.report import run, show_report
from autosam_edge.cli.shown_paths import paths_shown
from autosam_edge.read_scan import input_path, read
from autosam_edge.session import open_session
from autosam_edge.system.collector import collector_off
from autosam_edge.write_results import check_outputs, check_writable


@collector_off()
def segment(
    scan: options.Scan,
    out: options.Out,
    bundle: options.BundleOption = None,
    tier: options.TierOption = None,
    time_budget: options.TimeBudget = None,
    require_signature: options.RequireSignature = None,
    series: options.Series = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    max_memory: options.MaxMemory = None,
    formats: options.Formats = None,
    pseudonymize: options.Pseudonymize = False,
    allow_gap: options.AllowGap = False,
    assume_hu: options.AssumeHu = False,
    ignore_frame_of_reference: options.IgnoreFrameOfReference = False,
    accept_implausible: options.AcceptImplausible = False,
    show_paths: options.ShowPaths = False,
    as_json: options.AsJson = False,
) -> None:
    """Label the organs of one CT scan: NIfTI, DICOM SEG, statistics and a picture."""
    stages, source = Stages(), input_path(scan)
    chosen = options.chosen_formats(formats)
    check_writable(out, input_path=source, formats=chosen)
    with stages.stage("read"), paths_shown(source, wanted=show_paths):
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
        open_session,
        bundle,
        tier=tier,
        engine=engine,
        precision=precision,
        threads=threads,
        max_memory_mb=max_memory,
        require_signature=require_signature,
        time_budget_s=time_budget,
    )
    report = run(
        volume,
        out,
        stages,
        open_model,
        formats=chosen,
        pseudonymize=pseudonymize,
        accept_implausible=accept_implausible,
    )
    show_report(report, as_json=as_json)
