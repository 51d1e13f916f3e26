"""The HTTP service: a zip in, events, results out; strangers and large scans refused."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from http.client import HTTPConnection
from unittest.mock import Mock

import pytest
from autosam_edge_test_batch import indexed, watching
from autosam_edge_test_ct import ct, lenient_writing  # noqa: F401
from autosam_edge_test_ports import assert_taken_port_is_refused, free_port, is_open
from autosam_edge_test_support import wait_until, zipped

pytest.importorskip("fastapi")

from fastapi import HTTPException
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect
from typer.testing import CliRunner

from autosam_edge.batch.batch import Batch
from autosam_edge.batch.job import Settings
from autosam_edge.cli import app
from autosam_edge.error_codes import DISK_FULL
from autosam_edge.errors import BatchError
from autosam_edge.node.status import Counts
from autosam_edge.node.watch import watch
from autosam_edge.node.web import Jobs, Progress, make_app

TOKEN = "0123456789abcdef"
SETTINGS = Settings(engine="onnx", threads=1, accept_implausible=True, formats=("nifti", "preview"))


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.fixture
def batch(inbox, tmp_path):
    return Batch([inbox], tmp_path / "out", SETTINGS)


@pytest.fixture
def client(inbox, batch):
    """A client of the service, with the loop that segments beside it."""
    progress = Progress()
    service, headers = (
        make_app(Jobs(batch, inbox, progress, 0.1), token=TOKEN),
        {"Authorization": f"Bearer {TOKEN}"},
    )
    with watching(batch, on_tile=progress), TestClient(service, headers=headers) as client:
        yield client


def states(client, scan):
    with client.stream("GET", f"/jobs/{scan}/events") as answer:
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


def test_a_series_goes_in_and_its_results_come_out(client, ct, tmp_path):  # noqa: F811
    ct.write()
    posted = client.post("/jobs", content=zipped(ct.path, tmp_path / "scan.zip").read_bytes())
    assert posted.status_code == 202
    scan = posted.json()["id"]
    last = states(client, scan)[-1]
    assert last["state"] == "done"
    assert "tiles" not in last
    assert last["files"] == ["preview.png", "segmentation.nii.gz", "statistics.json"]
    assert client.get(f"/jobs/{scan}/files/preview.png").content.startswith(b"\x89PNG")
    assert client.get(f"/jobs/{scan}/files/source.txt").status_code == 404
    assert client.delete(f"/jobs/{scan}").status_code == 204
    assert client.get(f"/jobs/{scan}").status_code == 404


def test_a_scan_that_fails_says_its_code(client, ct, tmp_path):  # noqa: F811
    for d in (0, 1, 3, 4):
        ct.save(ct.image(d), f"{d}")
    scan = client.post("/jobs", content=zipped(ct.path, tmp_path / "scan.zip").read_bytes()).json()["id"]
    last = states(client, scan)[-1]
    assert (last["state"], last["code"]) == ("failed", "AE-DICOM-016")
    assert last["remedy"]


@pytest.mark.parametrize("authorization", ["Bearer wrong", ""])
def test_a_request_without_the_token_is_refused(client, authorization):
    refused = client.get("/jobs/0", headers={"Authorization": authorization})
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert client.post("/jobs", content=b"x", headers={"Authorization": authorization}).status_code == 401


def test_what_is_too_large_or_empty_is_refused_and_leaves_nothing(client, inbox):
    assert client.post("/jobs", content=bytes(200_000)).status_code == 413
    assert client.post("/jobs", content=b"").status_code == 422
    form = client.post("/jobs", files={"file": b"x"})
    assert (form.status_code, "send the zip itself" in form.json()["detail"]) == (415, True)
    assert list(inbox.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError(errno.ENOSPC, ""), 507), (ClientDisconnect(), 400)],
    ids=["full", "cut-off"],
)
def test_an_upload_that_cannot_be_stored_or_is_cut_off_is_no_error_of_ours(
    client, monkeypatch, error, status
):
    monkeypatch.setattr("autosam_edge.node.web.new_stage", Mock(side_effect=error))
    answer = client.post("/jobs", content=b"x")
    assert answer.status_code == status
    if status == 507:
        assert answer.json().keys() == {"code", "message", "remedy"}
        assert answer.json()["code"] == "AE-OUTPUT-003"


def test_a_scan_that_still_arrives_is_not_in_the_folder_that_is_indexed(inbox, batch, tmp_path):
    seen = []

    async def content():
        for _ in range(3):
            yield bytes(1000)
            seen.append([path.name for path in inbox.iterdir()])

    jobs = Jobs(batch, inbox, Progress(), 0.1)
    state = asyncio.run(jobs.add(content()))
    assert seen == [[], [], []]
    assert [path.name for path in inbox.iterdir()] == [f"{state.id}.zip"]
    assert {path.name for path in tmp_path.iterdir()} == {"received", "out"}


@pytest.mark.parametrize("scan", ["..%2F..%2Fetc", "0" * 31, "g" * 32, "0" * 32])
def test_no_path_is_made_of_a_foreign_id(client, scan):
    assert client.get(f"/jobs/{scan}").status_code == 404


def test_a_port_that_is_taken_is_wrong_usage_and_leaves_nothing(tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("AUTOSAM_EDGE_TOKEN", TOKEN)
    assert_taken_port_is_refused(tmp_path / "new", "--http")
    assert not (tmp_path / "new").exists()


def test_a_client_that_follows_a_job_does_not_keep_the_command_from_its_end(tmp_path):
    pytest.importorskip("uvicorn")
    port = free_port()
    command = [sys.executable, "-m", "autosam_edge", "serve", "-o", tmp_path, "--http", port]
    process = subprocess.Popen(list(map(str, command)), env={**os.environ, "AUTOSAM_EDGE_TOKEN": TOKEN})
    client, header = HTTPConnection("127.0.0.1", port), {"Authorization": f"Bearer {TOKEN}"}
    try:
        wait_until(lambda: is_open(port))
        (tmp_path / "received" / f"{'0' * 32}.zip").mkdir()  # a job that waits for ever
        client.request("GET", f"/jobs/{'0' * 32}/events", headers=header)
        assert client.getresponse().readline().startswith(b"data: ")
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        client.close()


def test_a_removal_that_is_cut_off_leaves_no_job(inbox, batch, monkeypatch):
    job, jobs = "0" * 32, Jobs(batch, inbox, Progress(), 0.1)
    upload = inbox / f"{job}.zip"
    upload.touch()
    (batch.folder.scans / batch.id_of_file(upload)).mkdir()
    assert jobs.state(job).state == "done"
    monkeypatch.setattr(batch.folder, "remove", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        jobs.remove(job)
    with pytest.raises(HTTPException, match="no such job"):
        jobs.state(job)


def test_a_scan_is_no_longer_in_hand_while_the_service_waits_for_its_disk():
    batch, progress, counts, found = Mock(jobs=[Mock(id="a")], passed_over=list), Progress(), Counts(), []

    def run(todo, *, on_tile, **_):
        on_tile(todo[0], 3, 3)
        raise DISK_FULL("the disk is full.")

    batch.todo, batch.run = lambda _: batch.jobs, run
    stop = Mock(wait=lambda _: found.append((counts.waiting_code, progress.of("a"))) or len(found) > 1)
    watch(batch, stop, counts=counts, on_tile=progress, on_wait=progress.clear)
    assert found == [(None, None), ("AE-OUTPUT-003", None)]


def test_the_command_tries_no_failed_job_again_and_tells_of_waiting(tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("AUTOSAM_EDGE_TOKEN", TOKEN)
    monkeypatch.setattr("uvicorn.Config", Mock())  # it would log into the runner's stderr for ever
    monkeypatch.setattr("uvicorn.Server", Mock())
    monkeypatch.setattr("autosam_edge.cli.node._stop_event", threading.Event)
    monkeypatch.setattr("autosam_edge.cli.node.watch", loop := Mock())
    done = CliRunner().invoke(app, ["serve", "-o", str(tmp_path / "out"), "--http", str(free_port())])
    assert done.exit_code == 0, done.output
    assert loop.call_args.kwargs["retry"] == frozenset()
    assert loop.call_args.kwargs["on_wait"] == loop.call_args.kwargs["on_tile"].clear


@pytest.mark.parametrize("older", [False, True])
def test_a_folder_that_is_moved_keeps_its_jobs(ct, tmp_path, older):  # noqa: F811
    """Also one that a version without `first-place.txt` wrote, once a newer one has opened it."""
    ct.write()
    job, before, after = "0" * 32, tmp_path / "before", tmp_path / "after"

    def opened(root, **movable):
        return indexed([root / "received"], root / "results", SETTINGS, **movable)

    (before / "received").mkdir(parents=True)
    zipped(ct.path, before / "received" / f"{job}.zip")
    ct.path.rename(before / "received" / "series")  # as the DICOM node stores it
    batch = opened(before, movable=not older)
    scans = {scan.id for scan in batch.todo()}
    assert len(scans) == 2
    for scan in batch.todo():
        with batch.folder.new_results(scan) as stage:
            stage.mkdir()
            facts = {"organs": [], "plausibility": None, "warnings": []}
            (stage / "statistics.json").write_text(json.dumps(facts))
    assert opened(before, movable=True).todo() == []
    before.rename(after)
    batch = opened(after, movable=True)
    assert ({scan.id for scan in batch.jobs}, batch.todo()) == (scans, [])
    jobs = Jobs(batch, after / "received", Progress(), 0.1)
    assert jobs.state(job).state == "done"
    statistics = batch.folder.scans / batch.id_of_file(after / "received" / f"{job}.zip") / "statistics.json"
    facts = statistics.read_text()
    statistics.write_text("")  # it is segmented again
    assert jobs.state(job).state == "waiting"
    statistics.write_text(facts)
    jobs.remove(job)
    assert len(list(batch.folder.scans.iterdir())) == 1


def test_the_interface_is_described(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert set(paths) == {"/jobs", "/jobs/{job}", "/jobs/{job}/events", "/jobs/{job}/files/{name}"}
    post, events, file = (paths[path] for path in ("/jobs", "/jobs/{job}/events", "/jobs/{job}/files/{name}"))
    assert list(post["post"]["requestBody"]["content"]) == ["application/zip"]
    assert set(post["post"]["responses"]) == {"202", "401", "413", "415", "422", "507"}
    assert list(events["get"]["responses"]["200"]["content"]) == ["text/event-stream"]
    assert list(file["get"]["responses"]["200"]["content"]) == ["*/*"]
    assert {"401", "404", "409"} <= set(paths["/jobs/{job}"]["delete"]["responses"])


def test_a_second_service_on_a_folder_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("uvicorn")
    pytest.importorskip("pynetdicom")
    monkeypatch.setenv("AUTOSAM_EDGE_TOKEN", TOKEN)
    (tmp_path / "in").mkdir()
    out, port = tmp_path / "out", free_port()
    batch = Batch([tmp_path / "in"], out / "results", Settings())
    watched = ["watch", str(tmp_path / "in"), "-o", str(out / "results")]
    with batch.folder.serving():
        for command in (["serve", "-o", out, "--http", port], ["serve", "-o", out, "--port", port], watched):
            refused = CliRunner().invoke(app, list(map(str, command)))
            assert isinstance(refused.exception, BatchError), refused.output
            assert refused.exception.code == "AE-BATCH-003"
            assert "another folder with `-o`" in refused.exception.remedy
