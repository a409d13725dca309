"""Processes that are started for a while."""

import os
import signal

from data_catalog.processes import child, free_ports


def test_a_child_can_be_interrupted_where_its_parent_ignores_it(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        port = str(free_ports("127.0.0.1")[0])
        with child(["http.server", "--bind", "127.0.0.1", port], tmp_path / "log") as process:
            os.kill(process.pid, signal.SIGINT)
            process.wait(20)
    finally:
        signal.signal(signal.SIGINT, before)
