"""`robolearn serve` in processes forked from one that has read torch, which takes seconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from robolearn import cli

PATIENCE_S = 60.0
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["robolearn.policies.checkpoint"])


def _work(words: list[str], output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main(words)


def serve_in_process(checkpoint: Path, port: int, output: Path) -> tuple[BaseProcess, str]:
    """The process, whose words are in the file `output`, and where it listens."""
    output.write_bytes(b"")
    words = ["serve", str(checkpoint), "--port", str(port), "--json"]
    process = SERVER.Process(target=_work, args=(words, output), daemon=True)
    process.start()
    end_s = time.monotonic() + PATIENCE_S
    while not (text := output.read_text(encoding="utf-8")).endswith("}\n"):
        assert process.is_alive(), text
        assert time.monotonic() < end_s, text
        time.sleep(0.02)
    return process, json.loads(text)["address"]
