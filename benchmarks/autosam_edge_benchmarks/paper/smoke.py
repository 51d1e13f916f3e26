"""The whole path in a minute: phantoms, tiny networks, the recipes, the evaluator, the table. Its figures mean nothing.

Which runs an exhibit needs is decided here; what a tiny run is, by the recipes that are handed in.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from autosam_edge.label_table import label_table
from autosam_edge_benchmarks.paper.figures import read_montage
from autosam_edge_benchmarks.paper.specs import figure4, table4, table_spec
from autosam_edge_benchmarks.paper.tables import build_table
from autosam_edge_training.data import Manifest
from autosam_edge_training.evaluate.scored_runs import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from autosam_edge.report.montage import MontageCase
    from autosam_edge.volume import Label
    from autosam_edge_benchmarks.paper.published import Exhibit
    from autosam_edge_benchmarks.paper.specs import TableSpec
    from autosam_edge_benchmarks.paper.tables import Table

Role = Literal["small", "tiny"]


@dataclass(frozen=True)
class Recipes:
    """What a smoke run is made with; each makes the folder ``out`` and returns it.

    Args:
        prepare: (out): a prepared folder of phantoms.
        teacher: (apg, data, out): a trained teacher, with or without its prompt generator.
        student: (role, data, out): a trained student without a teacher.
        distill: (role, weight, data, teacher's run, out): a distilled student.
        score: (run, data, out): the scored run of a trained one.
        predict: (run, data, out): its predictions of the test cases, ``CASE.nii.gz``.
    """

    prepare: Callable[[Path], Path]
    teacher: Callable[[bool, Path, Path], Path]
    student: Callable[[Role, Path, Path], Path]
    distill: Callable[[Role, float, Path, Path, Path], Path]
    score: Callable[[Path, Path, Path], Path]
    predict: Callable[[Path, Path, Path], Path]


@dataclass(frozen=True)
class Job:
    """A run that an exhibit needs.

    Args:
        name: Of its folder.
        kind: Recipe.
        apg: Of a teacher.
        role: Of a student.
        weight: Of a distilled student.
    """

    name: str
    kind: Literal["teacher", "student", "distill"]
    apg: bool = True
    role: Role = "small"
    weight: float = 0.5


_TEACHER = Job("teacher", "teacher")
_JOBS: dict[Exhibit, tuple[Job, ...]] = {
    "table1": (_TEACHER,),
    "table2": (_TEACHER,),
    "table3": (_TEACHER, Job("teacher-without", "teacher", apg=False)),
    "table4": (
        *(Job(f"small-{weight:g}", "distill", weight=weight) for weight in (0.0, 0.2, 0.5, 0.8)),
        Job("small-1", "student"),  # lambda 1 is the student without a teacher
    ),
    "figure4": tuple(
        job
        for role in ("tiny", "small")
        for job in (
            Job(f"{role}-alone", "student", role=role),
            Job(f"{role}-distilled", "distill", role=role),
        )
    ),
    "figure3": (_TEACHER, Job("small", "student")),
}


def smoke_table(exhibit: Exhibit, recipes: Recipes, *, say: Callable[[str], None] = print) -> Table:
    """Run what a table needs and build it; nothing stays on the disk.

    Args:
        exhibit: A table, or figure 4.
        recipes: What makes the runs.
        say: Told a line per run.
    """
    with TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        work = Path(folder)
        data, runs = _trained(exhibit, recipes, work, say)
        networks: dict[Role, str] = {}
        for job, run in runs.items():
            scored = read_run(recipes.score(run, data, work / "scored" / job.name))
            networks[job.role] = scored.facts.network
            say(f"scored {job.name}: mean Dice {100 * scored.means['dice']:.2f}, which means nothing")
        return build_table(_spec(exhibit, networks), work / "scored", smoke=True)


@contextmanager
def smoke_montage(
    recipes: Recipes, *, say: Callable[[str], None] = print
) -> Iterator[tuple[list[MontageCase], tuple[Label, ...]]]:
    """Run what figure 3 needs; the cases, and the label table, while their files are there."""
    with TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        work = Path(folder)
        data, runs = _trained("figure3", recipes, work, say)
        predictions = {
            job.name: recipes.predict(run, data, work / "predictions" / job.name) for job, run in runs.items()
        }
        manifest = Manifest.read(data / "manifest.json")
        yield read_montage(manifest, None, predictions), label_table(manifest.labels)


def _spec(exhibit: Exhibit, networks: dict[Role, str]) -> TableSpec:
    """The table with the names of the tiny networks where the paper's students stand."""
    if exhibit == "table4":
        return table4(networks["small"])
    if exhibit == "figure4":
        return figure4(networks["small"], networks["tiny"])
    return table_spec(exhibit)


def _trained(
    exhibit: Exhibit, recipes: Recipes, work: Path, say: Callable[[str], None]
) -> tuple[Path, dict[Job, Path]]:
    """The data and the trained run of every job; students that are distilled share one teacher."""
    say("preparing phantoms")
    data = recipes.prepare(work / "data")
    runs: dict[Job, Path] = {}
    teacher: Path | None = None
    for job in _JOBS[exhibit]:
        out = work / "runs" / job.name
        if job.kind == "distill" and teacher is None:
            say("training a teacher")
            teacher = recipes.teacher(True, data, work / "runs" / "teacher")
        say(f"training {job.name}")
        if job.kind == "teacher":
            runs[job] = recipes.teacher(job.apg, data, out)
        elif job.kind == "student":
            runs[job] = recipes.student(job.role, data, out)
        else:
            assert teacher is not None
            runs[job] = recipes.distill(job.role, job.weight, data, teacher, out)
    return data, runs
