"""A kind of input whose reader does, by the number of the input, what no reader may do."""

from __future__ import annotations

import os
import time

from autosam_edge.error_codes import DICOM_DAMAGED
from autosam_edge_benchmarks.fuzz.kinds import SECRETS, Kind, WrongResult


class _Numbered(Kind):
    def make(self, name, number):
        return {"number": str(number).encode()}


def _make(_):
    raise NotImplementedError


def _load(path):
    number = int(path.read_bytes())
    if number == 0:
        raise KeyError(number)
    if number == 1:
        time.sleep(60)
    if number == 2:
        kept = b"0" * 1_400_000_000
        time.sleep(60)
        del kept
    if number == 3:
        os._exit(1)
    if number == 4:
        raise WrongResult("nothing")
    if number == 5:
        raise DICOM_DAMAGED(f"{SECRETS[0]} is damaged.")


PLANTED = _Numbered(_make, _load)
