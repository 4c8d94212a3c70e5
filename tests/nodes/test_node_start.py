"""A node that is asked to stop while it is still reading its modules ends without a word."""

from __future__ import annotations

import signal
import subprocess
import sys


def test_ctrl_c_while_a_node_starts_is_no_traceback() -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", "-X", "importtime", "-m", "robolearn_nodes.replay_node"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:  # what was imported, as it goes
        if "robolearn.ros" in line:
            break
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=100)[1]
    assert "Traceback" not in said
    assert child.returncode in (-signal.SIGINT, 0, 2)  # 2: it had begun, and found that it has no dataset
