"""Ports of this computer for services that tests start."""

from __future__ import annotations

import socket

from autosam_edge_test_support import run_command, unframed


def is_open(port):
    """Whether a program of this computer listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def assert_taken_port_is_refused(out, option, *others):
    """``serve`` with the port of another program for an option says so, and ends as after wrong usage."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_command("serve", "-o", out, *others, option, port, timeout=60)
    assert done.returncode == 2
    assert f"{option}: port {port} cannot be opened" in unframed(done.stderr)
