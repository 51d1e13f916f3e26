"""Run one command where nothing can leave the machine, and list what it tried to send and what it wrote.

The module is run as a program in new namespaces of Linux, see :func:`run_watched`. In them

- every address of IPv4 and IPv6 leads to the loopback interface, and each packet on it is read;
- a resolver answers each question about a name, so that a program goes on to connect;
- each folder of the root is covered by an overlay, so that whatever is written, anywhere, lands in a layer
  in memory and is listed afterwards. A folder that cannot be covered is made read-only;
- ``/run`` and ``/dev/shm`` are empty, so that no service of the machine can be asked.

Only the standard library is used, so that the process that watches writes and sends nothing itself.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from autosam_edge_benchmarks.last_line import last_line

UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount")
"""Start of a command that runs in namespaces of its own; no rights are needed where the system allows it."""

_LAYER, _JOB = Path("/run/layer"), Path("/run/job")
_KEPT = ("proc", "sys", "dev", "run")  # folders of the root that no overlay covers
_ANSWER = socket.inet_aton("192.0.2.1")  # an address for documentation, RFC 5737
_ALL_PACKETS, _OUTGOING = 3, 4  # ETH_P_ALL, PACKET_OUTGOING
_TCP, _UDP = 6, 17


class Seen(TypedDict):
    """What one command did.

    ``queries`` are names that it asked a resolver for, ``connections`` are the other destinations, such as
    ``tcp 192.0.2.1:443``. ``home``, ``temp`` and ``elsewhere`` are files that were left there, ``output`` is
    the number of files in the output folder. ``read_only`` are folders in which nothing could be written.
    """

    exit_code: int
    seconds: float
    queries: list[str]
    connections: list[str]
    home: list[str]
    temp: list[str]
    elsewhere: list[str]
    output: int
    read_only: list[str]
    message: str


def why_no_namespace() -> str | None:
    """Reason why this machine cannot watch a command; None if it can."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "the programs `unshare` (util-linux) and `ip` (iproute2) are needed, as Linux has them"
    allowed = _succeeds(*UNSHARE, "ip", "link", "set", "lo", "up")
    return None if allowed else "this system allows no network namespace to this user"


def run_watched(code: str, arguments: Sequence[str], *, alive_s: float) -> Seen:
    """Run Python code in new namespaces, with a new home folder and a new temporary folder.

    Of the variables of this process the code gets only the paths, so that nothing is turned off before.

    Args:
        code: Python code; its process is kept alive after it ended, also after ``sys.exit``.
        arguments: ``sys.argv[1:]`` of the code. ``{out}`` in them stands for the output folder.
        alive_s: Time that the process is kept alive, in seconds.

    Raises:
        RuntimeError: The namespaces could not be made.
    """
    order = json.dumps([code, list(arguments), alive_s])
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    kept |= {"HOME": str(_JOB / "home"), "TMPDIR": str(_JOB / "temp"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603  our own code
        [*UNSHARE, sys.executable, "-m", __name__],
        input=order,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(last_line(done.stderr))
    seen: Seen = json.loads(done.stdout)
    return seen


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  ours


def _mount(*arguments: str) -> bool:
    return _succeeds("mount", *arguments)


def _cover_folders() -> list[str]:
    """Cover what can be written; returns the folders that are read-only now."""
    _mount("--make-rprivate", "/")
    if not all(_mount("-t", "tmpfs", "none", folder) for folder in ("/run", "/dev/shm")):  # noqa: S108
        raise RuntimeError("nothing can be mounted in the namespace")
    read_only = []
    for folder in sorted(path for path in Path("/").iterdir() if path.is_dir() and not path.is_symlink()):
        if folder.name in _KEPT:
            continue
        upper, work = _LAYER / "upper" / folder.name, _LAYER / "work" / folder.name
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        layers = f"userxattr,lowerdir={folder},upperdir={upper},workdir={work}"
        if not _mount("-t", "overlay", "none", "-o", layers, str(folder)):
            _make_read_only(folder)
            read_only.append(str(folder))
    _make_read_only(Path("/"))
    return ["/ itself", *read_only]


def _make_read_only(folder: Path) -> None:
    if folder != Path("/"):
        _mount("--rbind", str(folder), str(folder))
    if not _mount("-o", "remount,bind,ro", str(folder)):
        raise RuntimeError(f"{folder} can neither be covered nor made read-only")


def _lead_all_to_loopback() -> None:
    for command in ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo"):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)  # noqa: S603, S607
    for name, content in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")):
        source, target = Path("/run") / name, (Path("/etc") / name).resolve()
        source.write_text(content)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        if not _mount("--bind", str(source), str(target)):
            raise RuntimeError(f"{target} cannot be replaced in the namespace")


class _Watch:
    """Reads each packet on the loopback interface."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.connections: list[str] = []
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PACKETS))
        self._packets.bind(("lo", _ALL_PACKETS))
        self._resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._resolver.bind(("0.0.0.0", 53))  # noqa: S104  all addresses are this one here
        for work in (self._read_packets, self._answer):
            threading.Thread(target=work, daemon=True).start()

    def _read_packets(self) -> None:
        while True:
            packet, address = self._packets.recvfrom(65535)
            if address[2] != _OUTGOING or not packet:  # each packet arrives too
                continue
            self._note(packet)

    def _note(self, packet: bytes) -> None:
        if packet[0] >> 4 == 4:
            protocol, start, target = packet[9], (packet[0] & 15) * 4, ipaddress.ip_address(packet[16:20])
        else:
            protocol, start, target = packet[6], 40, ipaddress.ip_address(packet[24:40])
        body = packet[start:]
        sender, port = (int.from_bytes(body[i : i + 2], "big") for i in (0, 2))
        if protocol == _UDP and port == 53:
            self.queries.append(_asked_name(body[20:]))
        elif protocol == _UDP and sender != 53:
            self.connections.append(f"udp {target}:{port}")
        elif protocol == _TCP and body[13] & 0x12 == 0x02:  # SYN without ACK: a new connection
            self.connections.append(f"tcp {target}:{port}")
        elif protocol not in (_TCP, _UDP) and not _is_refusal(protocol, body):
            self.connections.append(f"protocol {protocol} {target}")

    def _answer(self) -> None:
        """Answer each question for an IPv4 address with one, and other questions with nothing."""
        while True:
            question, sender = self._resolver.recvfrom(4096)
            end = question.index(0, 12) + 5
            ask = question[12:end]
            record = (
                b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + _ANSWER
                if ask[-4:-2] == b"\0\1"
                else b""
            )
            header = question[:2] + b"\x81\x80\x00\x01" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0"
            self._resolver.sendto(header + ask + record, sender)


def _is_refusal(protocol: int, body: bytes) -> bool:
    """True for the system's own answer that nobody listens (ICMP destination unreachable)."""
    return (protocol, body[0]) in ((1, 3), (58, 1))


def _asked_name(question: bytes) -> str:
    parts, at = [], 0
    while at < len(question) and question[at]:
        parts.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
        at += 1 + question[at]
    return ".".join(parts)


def _files(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def _everywhere() -> set[str]:
    """Every file in the layer and in the folders of memory, outside of the job's own."""
    layer = {f"/{name}" for name in _files(_LAYER / "upper")}
    shared = {f"/dev/shm/{name}" for name in _files(Path("/dev/shm"))}  # noqa: S108
    run = {f"/run/{name}" for name in _files(Path("/run")) if not name.startswith(("layer/", "job/"))}
    return layer | shared | run


def _watched(code: str, arguments: list[str], alive_s: float) -> Seen:
    read_only = _cover_folders()
    for name in ("home", "temp", "out"):
        (_JOB / name).mkdir(parents=True)
    _lead_all_to_loopback()
    watch, before = _Watch(), _everywhere()
    started = time.monotonic()
    program = (
        f"import time\ntry:\n exec({code!r}, {{'__name__': '__main__'}})\nfinally:\n time.sleep({alive_s})"
    )
    given = [argument.replace("{out}", str(_JOB / "out")) for argument in arguments]
    done = subprocess.run(  # noqa: S603  the code of our own jobs
        [sys.executable, "-c", program, *given], capture_output=True, text=True, cwd=_JOB / "out", check=False
    )
    time.sleep(0.5)  # for the last packet to be read
    return {
        "exit_code": done.returncode,
        "seconds": round(time.monotonic() - started - alive_s, 1),
        "queries": watch.queries,
        "connections": watch.connections,
        "home": sorted(_files(_JOB / "home")),
        "temp": sorted(_files(_JOB / "temp")),
        "elsewhere": sorted(_everywhere() - before),
        "output": len(list(_files(_JOB / "out"))),
        "read_only": read_only,
        "message": last_line(done.stderr) if done.returncode else "",
    }


if __name__ == "__main__":
    print(json.dumps(_watched(*json.loads(sys.stdin.read()))))
