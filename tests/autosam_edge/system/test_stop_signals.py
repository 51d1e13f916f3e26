"""A signal ends the command line in one line, with the usual exit code, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from autosam_edge_test_support import run_python

from autosam_edge.error_codes import CANCELLED
from autosam_edge.system.stop_signals import MESSAGE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# A command line that says when its signals are caught, and waits wherever the variable tells.
SLOW_IMPORT = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):  # one core, one thread: while this finder waits, no other may import
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == WAITS_AT:
            print("waiting", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = ["autosam-edge", *ARGUMENTS]
from autosam_edge_benchmarks.stand_in import main
main()
"""


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("waits_at", ["numpy", "typer", "nibabel", "highdicom"])
def test_a_signal_during_an_import_ends_cleanly(name, waits_at, small_scan, tmp_path):
    """While the commands are loaded, and while a command loads what it needs: highdicom."""
    arguments = ["segment", str(small_scan), "-o", str(tmp_path / "out")]
    code = f"WAITS_AT = {waits_at!r}; ARGUMENTS = {arguments!r}{SLOW_IMPORT}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert stderr.splitlines()[-1] == MESSAGE
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(("argument", "expected"), [("--version", 0), ("--no-such-option", 2)])
def test_a_signal_while_python_is_taken_down_changes_nothing(name, argument, expected):
    """The exit code is known then; Python has already given the signals their defaults back."""
    code = (
        "import os, signal, sys\n"
        f"class Last:\n    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.{name}):\n"
        "        kill(me, number)\n"
        f"last = Last()\nsys.argv = ['autosam-edge', {argument!r}]\n"
        "from autosam_edge.__main__ import main\nmain()"
    )
    done = run_python("-c", code)
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


def test_an_ignored_signal_stays_ignored():
    """As nohup asks for."""
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from autosam_edge.system.stop_signals import catch_signals; catch_signals()\n"
        "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout == "True\n"


def test_a_second_signal_does_not_stop_the_cleaning(tmp_path):
    """Impatient people press Ctrl-C twice."""
    code = (
        "import os, signal, time\n"
        "from autosam_edge.system import stop_signals\n"
        "stop_signals.catch_signals(); stop_signals.run_begins()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
        "except KeyboardInterrupt:\n    os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1)\n"
        "    print('cleaned')\n"
        "print(stop_signals.exit_code())"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout == "cleaned\n130\n"


def test_a_signal_in_code_that_is_made_from_text_keeps_its_exit_code(tmp_path):
    """As dataclasses make theirs; of `python -m`, Python would then make the exit code of Ctrl-C."""
    (tmp_path / "stopped.py").write_text(
        "import os, signal\n"
        "from autosam_edge import cli\n"
        "from autosam_edge.system.stop_signals import catch_signals\ncatch_signals()\n"
        "cli.app = lambda **_: exec('os.kill(os.getpid(), signal.SIGTERM)')\ncli.main()"
    )
    done = run_python("-m", "stopped", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, f"{MESSAGE}\n")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("rank", "told"), [("0", ["SIGINT"]), ("1", []), (None, ["SIGINT", "SIGTERM"])])
def test_processes_that_torchrun_ends_say_nothing(rank, told, late):
    """It ends the others after the error of one, which is the one to be read; Ctrl-C is told once."""
    code = (
        "import os, signal, sys\n"
        "from autosam_edge.system.stop_signals import catch_signals\ncatch_signals()\n"
        "number = getattr(signal, sys.argv[1])\n"
        "if sys.argv[2] == 'True':\n    from autosam_edge import cli\n"
        "    cli.app = lambda **_: os.kill(os.getpid(), number)\n    cli.main()\n"
        "os.kill(os.getpid(), number)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    environment |= {} if rank is None else {"LOCAL_RANK": rank}
    for name in ("SIGINT", "SIGTERM"):
        done = run_python("-c", code, name, str(late), env=environment)
        assert done.returncode == 128 + getattr(signal, name)
        assert (done.stderr == f"{MESSAGE}\n") == (name in told), done.stderr
        assert done.stderr in ("", f"{MESSAGE}\n")


def test_the_line_is_that_of_the_error():
    """It stands in a module that imports nothing, so it is written down twice."""
    assert f"error {CANCELLED('stopped on request; no unfinished result was left.')}" == MESSAGE


def test_what_is_loaded_before_signals_are_caught_is_little():
    """Neither NumPy nor typing: in that time, Ctrl-C prints a traceback of Python's own."""
    code = (
        "import sys; before = set(sys.modules)\nimport autosam_edge.system.stop_signals\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('autosam_edge')))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "COVERAGE_PROCESS_START"}
    done = run_python("-S", "-c", code, check=True, env=environment)
    assert not {"typing", "dataclasses", "numpy", "inspect"} & set(eval(done.stdout))
