"""One process or two: the same losses. What a run changes of its process ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    NO_DROPOUT,
    changed,
    losses,
    recipe,
    reports,
    student_config,
    write_recipe,
)
from autosam_edge_test_support import refused

from autosam_edge.errors import TrainingError
from autosam_edge_training import train_student
from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.checkpoint import open_network
from autosam_edge_training.recipe_parts.fabric import (
    fast_precision,
    flushing_subnormals,
    mean_over_processes,
    start_fabric,
)
from autosam_edge_training.recipe_parts.schedule import Schedule

pytestmark = pytest.mark.usefixtures("one_thread")


def flushes():
    """Whether numbers below 1e-38 count as zero."""
    return bool((torch.full((8,), 1e-40) * 1.0 == 0.0).all())


@pytest.fixture
def normal_mode():
    """Subnormal numbers are numbers, before and after."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def test_subnormal_numbers_are_zero_within_the_block_only(normal_mode):
    """Also where the block ends by an error."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    torch.set_flush_denormal(False)
    assert not flushes()
    with flushing_subnormals():
        assert flushes()
    assert not flushes()
    with pytest.raises(ZeroDivisionError), flushing_subnormals():
        raise ZeroDivisionError
    assert not flushes()


def test_a_mode_that_was_on_stays_on(normal_mode):
    """Of two blocks the inner one does not end the outer one."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    with flushing_subnormals():
        assert flushes()
    assert flushes()


@pytest.mark.parametrize("ends", ["well", "by an error"])
def test_training_leaves_the_mode_as_it_was(ends, normal_mode, cubes, tmp_path):
    """A recipe that is done, and one that is refused."""
    config = changed(
        student_config(student="monai:UNet" if ends == "well" else "monai:NoNet"), "schedule", steps=1
    )
    if ends == "well":
        train_student.train(config, cubes, tmp_path / "run")
    else:
        with pytest.raises(TrainingError):
            train_student.train(config, cubes, tmp_path / "run")
    assert not flushes()


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    """Two processes cannot share three patches; nobody waits for the other before that is said."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("AE-TRAIN-004", "2 processes"):
        start_fabric("fp32", batch=3)


def test_alone_a_process_needs_nobody():
    """Any batch, and the mean is the value."""
    fabric = start_fabric("fp32", batch=3)
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)
    assert mean_over_processes(fabric, torch.tensor(1.5, requires_grad=True)) == 1.5


def test_bf16_computes_the_forward_pass_under_autocast():
    """``fp32`` does not."""
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        fabric = start_fabric(precision, batch=1)
        with fabric.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, "bf16"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({"neon": True}, "fp32"),
    ],
)
def test_a_processor_without_bfloat16_trains_in_float32(monkeypatch, processor, expected):
    """Imitated, a step takes several times as long."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert fast_precision() == expected
    assert train_student.Config(schedule=Schedule(steps=1, lr=1.0)).precision == expected


def two_processes(one, config, cubes, folder, *options):
    """The recipe under ``torchrun``, gloo on the CPU."""
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "autosam_edge",
        *one.command,
    ]
    places = ["--config", write_recipe(config, folder / "r.yaml"), "--data", cubes, "--out", folder / "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, (*start, *places, *options))], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student", "teacher", "distill"])
def test_two_processes_see_what_one_sees(name, cubes, taught, tmp_path):
    """Two processes share a batch of two: equal losses, nearly equal scores and network, one folder."""
    one = recipe(name, taught)
    options = ["--teacher", taught] if name == "distill" else []
    config = changed(one.config, "schedule", batch=2)
    if name != "teacher":  # dropout is drawn by each process for its own share
        config = replace(config, arguments=NO_DROPOUT)
    result = two_processes(one, config, cubes, tmp_path, *options)
    assert result.returncode == 0, result.stderr[-2000:]
    alone = one.train(config, cubes, tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert len(losses(tmp_path / "two")) == 5
    assert [line.get("dice") for line in reports(tmp_path / "two")] == [
        None if line.get("dice") is None else pytest.approx(line["dice"], abs=1e-3)
        for line in reports(tmp_path / "one")
    ]
    # Not the weights themselves: the gradient of a bias before a norm is rounding noise, which AdamW makes
    # steps of.
    networks = [open_network(tmp_path / run / alone.name)[0] for run in ("two", "one")]
    image = torch.from_numpy(Prepared.read(cubes).case("test0").patch((slice(0, 16),) * 3)[0])[None, None]
    with torch.no_grad():
        shared, expected = (network(image) for network in networks)
    assert (shared - expected).abs().max() < 1e-3 * expected.std()
