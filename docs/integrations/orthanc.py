"""Segment each stable CT series of an Orthanc server and store the DICOM SEG beside it.

    python orthanc.py http://127.0.0.1:8042 --state orthanc-state.json

Orthanc tells what changed (``/changes``); the number of the last change that was worked off is kept in the
state file, so a series is segmented once and none is missed while the program does not run. A series for
which Orthanc answers with an error, or not in time, again and again is set aside there, and tried again
later. A user and a password go into the environment as ORTHANC_USER and ORTHANC_PASSWORD.
"""

import argparse
import base64
import http.client
import json
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import autosam_edge
from autosam_edge.errors import AutosamEdgeError

MIN_INSTANCES = 3
TIMEOUT_S = 300  # for each step of an answer; Orthanc packs a whole series before it sends the first byte
REFUSED = 401, 403
TRIES, LATER_S = 3, 600  # after so many errors of Orthanc, a series waits for so many seconds
GONE = 404  # HTTP's code for a series that was deleted after it became stable


class Orthanc:
    """The part of Orthanc's REST interface that is needed."""

    def __init__(self, url):
        self._url = url.rstrip("/")
        user, password = os.environ.get("ORTHANC_USER", ""), os.environ.get("ORTHANC_PASSWORD", "")
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {secret}"} if user else {}

    def get(self, path):
        request = urllib.request.Request(self._url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.read()

    def json(self, path):
        return json.loads(self.get(path))

    def store(self, content):
        request = urllib.request.Request(self._url + "/instances", data=content, headers=self._headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass


def work_off(orthanc, session, state, log=print):
    """Segment the series that became stable since the last call; return the number of those segmented."""
    last, aside = kept(state)
    count = 0
    for series in [series for series, due in aside.items() if due <= time.time()]:
        count += attempt(orthanc, session, series, log, aside)
        keep(state, last, aside)
    while True:
        changes = orthanc.json(f"/changes?since={last}&limit=100")
        for change in changes["Changes"]:
            if change["ChangeType"] == "StableSeries":
                count += attempt(orthanc, session, change["ID"], log, aside)
            keep(state, change["Seq"], aside)
        if changes["Last"] < last:
            log("Orthanc has a new database: its last change is below that of the state file; starting at 0")
            last = 0
            keep(state, last, aside)
            continue
        last = changes["Last"]
        if changes["Done"]:
            return count


def kept(state):
    """The last change that was worked off, and when each series that was set aside is tried again.

    They are 0 and nothing if there is no state file; times are seconds since 1970.
    """
    try:
        found = json.loads(state.read_text())
        aside = {series: float(due) for series, due in dict(found.get("aside", {})).items()}
        return int(found["last"]), aside
    except FileNotFoundError:
        return 0, {}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        sys.exit("The state file is empty or damaged. Remove it: each series then gets a segmentation again.")


def keep(state, last, aside=None):
    """Write the state file; a kill leaves the old or the new one, whole."""
    new = state.with_name(f"{state.name}.new")
    new.write_text(json.dumps({"last": last, "aside": aside} if aside else {"last": last}))
    new.replace(state)


failed = Counter()  # errors of Orthanc for each series, one after the other


def attempt(orthanc, session, series, log, aside):
    """Segment one series; whether a SEG was stored. After TRIES errors of Orthanc the series is set aside."""
    try:
        stored = segment(orthanc, session, series, log)
    except OSError as error:  # also those of urllib
        code = getattr(error, "code", None)
        late = isinstance(getattr(error, "reason", error), TimeoutError)
        if code is None and not late:  # Orthanc is not there, or the disk is full
            raise
        failed[series] += 1
        if code in REFUSED or failed[series] < TRIES:
            raise
        what = f"gives no answer in {TIMEOUT_S} s" if late else f"answers HTTP {code}"
        log(f"{series} set aside: Orthanc {what}; tried again in {LATER_S} s")
        aside[series] = time.time() + LATER_S
        return False
    failed.pop(series, None)
    aside.pop(series, None)
    return stored


def segment(orthanc, session, series, log):
    """Segment one series; whether a SEG was stored."""
    try:
        about = orthanc.json(f"/series/{series}")
        if about["MainDicomTags"].get("Modality") != "CT" or len(about["Instances"]) < MIN_INSTANCES:
            return False
        archive = orthanc.get(f"/series/{series}/archive")
    except urllib.error.HTTPError as error:
        if error.code != GONE:
            raise
        log(f"{series} is no longer there")
        return False
    with tempfile.TemporaryDirectory() as folder:
        scan, out = Path(folder, "scan.zip"), Path(folder, "out")
        scan.write_bytes(archive)
        try:
            volume = autosam_edge.read(scan)
            segmentation = session.segment(volume)
            files = autosam_edge.write(volume, segmentation, out, formats=["dicom-seg"])
        except AutosamEdgeError as error:
            log(f"{series} {error.code}")
            return False
        for file in files.values():
            orthanc.store(file.read_bytes())
    log(f"{series} {segmentation.verdict}")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="address of Orthanc, such as http://127.0.0.1:8042")
    parser.add_argument("--state", type=Path, required=True, help="file that keeps the last change")
    parser.add_argument("--pause", type=float, default=5, help="seconds between two looks")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # an exit removes the temporary folder, which holds a scan
        signal.signal(number, lambda *_: sys.exit(0))
    session = autosam_edge.open_session()
    while True:
        try:
            work_off(Orthanc(arguments.url), session, arguments.state)
        except (OSError, http.client.HTTPException) as error:  # Orthanc restarts, or the disk is full
            if getattr(error, "code", 0) in REFUSED:
                sys.exit("Orthanc refuses the login: set ORTHANC_USER and ORTHANC_PASSWORD.")
            print(f"waiting: {type(error).__name__}", getattr(error, "code", ""), flush=True)
        time.sleep(arguments.pause)


if __name__ == "__main__":
    main()
