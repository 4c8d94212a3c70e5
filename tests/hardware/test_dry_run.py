"""The commands of docs/hardware.md, as they stand there."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_dry_run_of_the_manual(tmp_path: Path) -> None:
    manual = (
        (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8").replace("/tmp/robolearn-arm", str(tmp_path / "arm"))
    )
    start = re.search(r"^    python (-m robolearn\.robots\.standin .*)$", manual, re.MULTILINE)
    script = re.search(r"<<'PY'\n(.*?)\n    PY\n", manual, re.DOTALL)
    assert start is not None
    assert script is not None
    shutil.copytree(ROOT / "hardware", tmp_path / "hardware")
    cell = tmp_path / "hardware" / "cells" / "so101_standin.yaml"
    cell.write_text(cell.read_text().replace("/tmp/robolearn-arm", str(tmp_path / "arm")))
    stand_in = subprocess.Popen([sys.executable, *start.group(1).split()], stderr=subprocess.PIPE, text=True)
    assert stand_in.stderr is not None
    with stand_in:
        assert "motors 1..6 on" in stand_in.stderr.readline()
        code = re.sub(r"^    ", "", script.group(1), flags=re.MULTILINE)
        driven = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        stand_in.send_signal(signal.SIGINT)
    assert driven.returncode == 0, driven.stderr
    assert driven.stdout.count(".") == 6
    assert stand_in.returncode == 0
    assert not (tmp_path / "arm").is_symlink()


def test_a_second_stand_in_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    command = [sys.executable, "-m", "robolearn.robots.standin", "sts3215", "--link", str(link)]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    with first:
        assert "motors 1..6 on" in first.stderr.readline()
        port = link.resolve()
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert link.resolve() == port
        first.terminate()
    assert second.returncode == 2
    assert second.stderr.endswith(f"{link} is there already, as {port}; end the stand-in that made it, or delete it\n")
    assert first.returncode == 0
    assert not link.is_symlink()
