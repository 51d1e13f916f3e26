"""The HTTP service for apps that cannot embed the engine: post a scan, follow it, get the results."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from autosam_edge import __version__
from autosam_edge.batch.job import Fault
from autosam_edge.errors import OutputError
from autosam_edge.node.log import log
from autosam_edge.output_formats import FILE_NAMES
from autosam_edge.system.atomic_files import explained
from autosam_edge.system.staging import NEW, new_stage
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
    tiles_done: int | None = None  # of a job that is running
    tiles: int | None = None
    code: str | None = None
    message: str | None = None
    remedy: str | None = None
    files: list[str] = []


class Refusal(BaseModel):
    """Why a request is refused."""

    detail: str


class NotStored(BaseModel):
    """Why a scan cannot be stored."""

    code: str
    message: str
    remedy: str


class Progress:
    """Tiles of the scan in hand, told by the loop that segments and read by the service."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, int]] = {}

    def __call__(self, job: Job, done: int, total: int) -> None:
        self._of = {job.id: (done, total)}

    def of(self, scan: str) -> tuple[int, int] | None:
        """Tiles done and tiles in all, None if the scan is not in hand."""
        return self._of.get(scan)

    def clear(self) -> None:
        """No scan is in hand."""
        self._of = {}


class Jobs:
    """The posted scans: each is a file of the inbox, and a scan of the batch.

    Args:
        batch: The batch, which :func:`autosam_edge.node.watch.watch` works off.
        inbox: Folder that the batch indexes; posted scans go there. It is on the file system of its parent.
        progress: Progress of the scan in hand.
        max_mb: Largest scan that is taken, MB.
    """

    def __init__(self, batch: Batch, inbox: Path, progress: Progress, max_mb: float) -> None:
        self._batch, self._inbox, self._progress, self._max_mb = batch, inbox, progress, max_mb

    async def add(self, content: AsyncIterator[bytes]) -> JobState:
        """Take a scan; one that is too large or empty leaves nothing.

        It is written beside the inbox, as all that is in the inbox is taken for a scan.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        job, size = uuid.uuid4().hex, 0
        with explained("the folder of the service"), new_stage(self._inbox.parent) as stage:
            partial = stage / NEW / f"{job}.zip"
            with partial.open("wb") as file:
                async for chunk in content:
                    size += len(chunk)
                    if size > self._max_mb * 1e6:
                        raise HTTPException(413, f"the scan is larger than {self._max_mb:g} MB")
                    file.write(chunk)
            if not size:
                raise HTTPException(422, "the body is empty, expected a zip")
            partial.rename(self._inbox / partial.name)
        return JobState(id=job, state="waiting")

    def state(self, job: str) -> JobState:
        """What is known of a job."""
        scan = self._scan(job)
        results = self._batch.folder.scans / scan
        known = next((known for known in self._batch.jobs if known.id == scan), None)
        if results.is_dir() and (known is None or self._batch.folder.is_done(known)):
            names = sorted(file.name for file in results.iterdir() if file.name in FILE_NAMES.values())
            return JobState(id=job, state="done", files=names)
        if known is not None and (fault := self._batch.folder.fault(known)) is not None:
            return JobState(id=job, state="failed", **asdict(fault))
        tiles = self._progress.of(scan)
        if tiles is None:
            return JobState(id=job, state="waiting")
        return JobState(id=job, state="running", tiles_done=tiles[0], tiles=tiles[1])

    async def changes(self, job: str) -> AsyncIterator[str]:
        """Each new state as a server-sent event, until the job ends."""
        before = None
        while before is None or before.state in ("waiting", "running"):
            state = self.state(job)
            if state != before:
                yield f"data: {json.dumps(state.model_dump(exclude_none=True))}\n\n"
            before = state
            await asyncio.sleep(_POLL_S)

    def file(self, job: str, name: str) -> Path:
        """Path of one file of the results."""
        if name not in self.state(job).files:
            raise HTTPException(404, "there is no such file")
        return self._batch.folder.scans / self._scan(job) / name

    def remove(self, job: str) -> None:
        """Remove a job that has ended, with its results.

        The upload leaves first: without it, no job is there whose results could be found in parts.
        """
        if self.state(job).state not in ("done", "failed"):
            raise HTTPException(409, "the job has not ended")
        scan = self._scan(job)
        (self._inbox / f"{job}.zip").unlink()
        self._batch.folder.remove(scan)

    def _scan(self, job: str) -> str:
        """Id of the scan; nothing but 32 hexadecimal digits becomes part of a path."""
        path = self._inbox / f"{job}.zip"
        if len(job) != 32 or not set(job) <= set("0123456789abcdef") or not path.exists():
            raise HTTPException(404, "there is no such job")
        return self._batch.id_of_file(path)


_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ZIP: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/zip": _BYTES}}}
_FILE: dict[int | str, dict[str, Any]] = {200: {"description": "The file", "content": {"*/*": _BYTES}}}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The states", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def _refusals(meanings: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """The errors of a request, by their status, for the description."""
    return {status: {"model": Refusal, "description": meaning} for status, meaning in meanings.items()}


_NO_JOB = _refusals({404: "There is no such job"})
_NOT_TAKEN = {
    **_refusals({413: "The scan is too large", 415: "The body is a form", 422: "The body is empty"}),
    507: {"model": NotStored, "description": "The scan cannot be stored"},
}


def make_app(jobs: Jobs, *, token: str) -> FastAPI:
    """The service over posted scans.

    Args:
        token: Secret that each request must bear.
    """

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(
        title="autosam-edge",
        version=__version__,
        description=RESEARCH_USE,
        dependencies=[Depends(check)],
        docs_url=None,  # its page loads programs from another server
        redoc_url=None,
        responses=_refusals({401: "The token is missing or wrong"}),
    )

    @app.exception_handler(OutputError)
    def not_stored(_: Request, error: OutputError) -> JSONResponse:
        return JSONResponse(asdict(Fault.of(error)), 507)

    @app.exception_handler(ClientDisconnect)
    def cut_off(_: Request, _error: ClientDisconnect) -> Response:
        log("cut_off")
        return Response(status_code=400)  # nobody reads it

    @app.post("/jobs", status_code=202, responses=_NOT_TAKEN, openapi_extra=_ZIP)
    async def post(request: Request) -> JobState:
        """Take a scan: a zip of a DICOM series as the body."""
        if request.headers.get("Content-Type", "").lower().startswith("multipart/"):
            raise HTTPException(415, "the body is a form, expected a zip; send the zip itself as the body")
        return await jobs.add(request.stream())

    @app.get("/jobs/{job}", responses=_NO_JOB)
    def get(job: str) -> JobState:
        """The state of a job."""
        return jobs.state(job)

    @app.get("/jobs/{job}/events", response_class=StreamingResponse, responses={**_EVENTS, **_NO_JOB})
    async def events(job: str) -> StreamingResponse:
        """Each change of the state as a server-sent event, until the job ends."""
        jobs.state(job)  # an unknown job is refused before the stream starts
        return StreamingResponse(jobs.changes(job), media_type="text/event-stream")

    @app.get("/jobs/{job}/files/{name}", response_class=FileResponse, responses={**_FILE, **_NO_JOB})
    def file(job: str, name: str) -> FileResponse:
        """One file of the results."""
        return FileResponse(jobs.file(job, name))

    @app.delete(
        "/jobs/{job}", status_code=204, responses={**_NO_JOB, **_refusals({409: "The job has not ended"})}
    )
    def delete(job: str) -> None:
        """Remove a scan that has ended, with its results."""
        jobs.remove(job)

    return app
