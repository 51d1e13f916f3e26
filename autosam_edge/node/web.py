"""The HTTP service for apps that cannot embed the engine: post a scan, follow it, get the results."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from autosam_edge import __version__
from autosam_edge.batch.index import short_hash
from autosam_edge.output_formats import FILE_NAMES
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from autosam_edge.batch.batch import Batch
    from autosam_edge.batch.job import Job

_POLL_S = 0.2
_BEARER = HTTPBearer(auto_error=False)


class JobState(BaseModel):
    """What is known of a job."""

    id: str
    state: Literal["waiting", "running", "done", "failed"]
    tiles_done: int = 0
    tiles: int = 0
    code: str | None = None
    message: str | None = None
    remedy: str | None = None
    files: list[str] = []


class Progress:
    """Tiles of the scan in hand, told by the loop that segments and read by the service."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, int]] = {}

    def __call__(self, job: Job, done: int, total: int) -> None:
        self._of = {job.id: (done, total)}

    def of(self, scan: str) -> tuple[int, int] | None:
        """Tiles done and tiles in all, None if the scan is not in hand."""
        return self._of.get(scan)


def make_app(batch: Batch, inbox: Path, progress: Progress, *, token: str, max_mb: float) -> FastAPI:
    """The service over the folder of a batch, which :func:`autosam_edge.node.watch.watch` works off.

    Args:
        batch: The batch.
        inbox: Folder that the batch indexes; posted scans go there.
        progress: Progress of the scan in hand.
        token: Secret that each request must bear.
        max_mb: Largest scan that is taken, MB.
    """

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "the token is missing or wrong")

    app = FastAPI(
        title="autosam-edge", version=__version__, description=RESEARCH_USE, dependencies=[Depends(check)]
    )

    def state_of(scan: str) -> JobState:
        path = inbox / f"{scan}.zip"
        if not path.exists():
            raise HTTPException(404, "there is no such job")
        job_id = short_hash(str(path.resolve()))
        results = batch.folder.scans / job_id
        if results.is_dir():
            names = sorted(file.name for file in results.iterdir() if file.name in FILE_NAMES.values())
            return JobState(id=scan, state="done", files=names)
        job = next((job for job in batch.jobs if job.id == job_id), None)
        fault = None if job is None else batch.folder.fault(job)
        if fault is not None:
            return JobState(
                id=scan, state="failed", code=fault.code, message=fault.message, remedy=fault.remedy
            )
        tiles = progress.of(job_id)
        if tiles is None:
            return JobState(id=scan, state="waiting")
        return JobState(id=scan, state="running", tiles_done=tiles[0], tiles=tiles[1])

    @app.post("/jobs", status_code=202)
    async def post(request: Request) -> JobState:
        """Take a scan: a zip of a DICOM series as the body."""
        scan = uuid.uuid4().hex
        partial, size = inbox / f".{scan}.partial", 0
        try:
            with partial.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > max_mb * 1e6:
                        raise HTTPException(413, f"the scan is larger than {max_mb:g} MB")
                    file.write(chunk)
            if not size:
                raise HTTPException(422, "the body is empty, expected a zip")
            partial.rename(inbox / f"{scan}.zip")
        finally:
            partial.unlink(missing_ok=True)
        return JobState(id=scan, state="waiting")

    @app.get("/jobs/{scan}")
    def get(scan: str) -> JobState:
        """The state of a job."""
        return state_of(_safe(scan))

    @app.get("/jobs/{scan}/events")
    async def events(scan: str) -> StreamingResponse:
        """Each change of the state as a server-sent event, until the job ends."""
        state_of(_safe(scan))

        async def changes() -> AsyncIterator[str]:
            before = None
            while True:
                state = state_of(scan)
                if state != before:
                    yield f"data: {json.dumps(state.model_dump(exclude_none=True))}\n\n"
                if state.state in ("done", "failed"):
                    return
                before = state
                await asyncio.sleep(_POLL_S)

        return StreamingResponse(changes(), media_type="text/event-stream")

    @app.get("/jobs/{scan}/files/{name}")
    def file(scan: str, name: str) -> FileResponse:
        """One file of the results."""
        if name not in state_of(_safe(scan)).files:
            raise HTTPException(404, "there is no such file")
        return FileResponse(batch.folder.scans / short_hash(str((inbox / f"{scan}.zip").resolve())) / name)

    @app.delete("/jobs/{scan}", status_code=204)
    def delete(scan: str) -> None:
        """Remove a scan that has ended, with its results."""
        if state_of(_safe(scan)).state not in ("done", "failed"):
            raise HTTPException(409, "the job has not ended")
        batch.folder.remove(short_hash(str((inbox / f"{scan}.zip").resolve())))
        (inbox / f"{scan}.zip").unlink()

    return app


def _safe(scan: str) -> str:
    """The id of a job, 32 hexadecimal digits: nothing else becomes part of a path."""
    if len(scan) != 32 or not set(scan) <= set("0123456789abcdef"):
        raise HTTPException(404, "there is no such job")
    return scan
