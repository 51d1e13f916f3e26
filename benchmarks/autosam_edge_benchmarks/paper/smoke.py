"""All steps in a minute: phantoms, three tiny networks, the recipes, the evaluator, the table.

The values mean nothing; a smoke run shows only that everything works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from autosam_edge.labels import label_table
from autosam_edge.report.montage import MontageCase
from autosam_edge.volume import Label
from autosam_edge_benchmarks.choices import Exhibit
from autosam_edge_benchmarks.paper.figures import read_montage
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import Table, build_table
from autosam_edge_training import train_student, train_teacher
from autosam_edge_training.data import Manifest, prepare_smoke_phantoms
from autosam_edge_training.evaluate.score_run import score_run


def train_smoke_runs(work: Path, *, log: Callable[[str], None]) -> tuple[Path, list[Path]]:
    """Prepare phantoms and train a teacher, a student without it and a student with it."""
    log("preparing phantoms")
    data = prepare_smoke_phantoms(work / "data")
    log("training a teacher")
    teacher = train_teacher.train(train_teacher.Config.smoke_run(), data, work / "teacher")
    config = train_student.Config.smoke_run()
    log("training a student")
    student = train_student.train(config, data, work / "student")
    log("distilling a student")
    distilled = train_student.train(replace(config, weight=0.5), data, work / "distilled", teachers=[teacher])
    return data, [teacher.parent, student.parent, distilled.parent]


def smoke_table(exhibit: Exhibit, *, log: Callable[[str], None]) -> Table:
    """Train and score the smoke runs and build a table from them; no file remains."""
    with TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        work = Path(folder)
        data, runs = train_smoke_runs(work, log=log)
        for run in runs:
            log(f"scoring {run.name}")
            score_run(run, data, work / "scored" / run.name)
        spec = table_spec(exhibit, student=train_student.Config.smoke_run().student)
        return build_table(spec, work / "scored", smoke=True)


@contextmanager
def smoke_montage(*, log: Callable[[str], None]) -> Iterator[tuple[list[MontageCase], tuple[Label, ...]]]:
    """Train the smoke runs and yield what figure 3 shows of them: the cases and the label table."""
    with TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        work = Path(folder)
        data, runs = train_smoke_runs(work, log=log)
        predictions = {run.name: work / "predictions" / run.name for run in runs}
        for run in runs:
            score_run(run, data, work / "scored" / run.name, labels=predictions[run.name])
        manifest = Manifest.read(data / "manifest.json")
        yield read_montage(manifest, None, predictions), label_table(manifest.labels)
