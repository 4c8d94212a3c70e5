"""The whole run: prepare, practise with a collector and a learner side by side, and report in the morning."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from robolearn.cell import load_cell
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError
from robolearn.recipes.finetune.cells import check_cell, check_teleop, cooled_in_time
from robolearn.recipes.finetune.collector import NOW, REPLAY, STOPPED, WAITS, Collector, told
from robolearn.recipes.finetune.data import recorded_sizes
from robolearn.recipes.finetune.image_judge import check_learned_from, check_models, check_shown
from robolearn.recipes.finetune.interventions import critics_of
from robolearn.recipes.finetune.learner import Learner, columns
from robolearn.recipes.finetune.prepare import (
    PRETRAINED,
    by_its_rule,
    check_successes,
    demonstrated,
    offline_buffer,
    old_episodes,
    prepare_judge,
    pretrain,
    recorded,
)
from robolearn.recipes.finetune.report import REPORT, write_morning_report
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.origin import run_config
from robolearn.recipes.run import Run
from robolearn.recipes.training_loop import Progress, interruptible
from robolearn.tasks import make_task

PRACTISING = "practising"  # folder of the lock of who goes on with a run
LOOK_S = 0.2
LOOK_SHARE = 0.05  # of the time at the most, for after thousands of attempts a look at their list takes a while
MAX_DEATHS = 5  # of one process with no attempt between them, before the run is given up
BEGIN_S = 120.0  # of the first process: within it to end by saying why is not to have begun


def begin(config: FinetuneConfig, prior: Sequence[Path], demos: Sequence[Path], out: Path) -> None:
    """Make the folder of a run. Raises RobolearnError before anything is written when the data do not fit, or the
    device or a compiler is not there."""
    config.compute.require()
    if config.cell:
        cell = load_cell(Path(config.cell))
        check_cell(cell, Path(config.cell), make_task(config.task), config)
        config = cooled_in_time(config, cell)
    check_teleop(config)
    check_models(config)
    check_learned_from(config)
    if config.interventions.ratio:
        critics_of(Path(config.interventions.critic), config.space().interface)
    check_successes(config, recorded(config, prior, demos))
    check_shown(config, [*demos, *prior])
    if config.graph:
        recorded_sizes(demos, config.space().cameras)
    config = replace(by_its_rule(config), compute=config.compute.settled())  # for whoever goes on, wherever
    about: dict[str, Any] = {"task": config.task, "recipe": "finetune", "reward": config.reward}
    about["online"] = {"evaluation_episodes": config.evaluation_episodes}
    about |= {"prior": [str(path.absolute()) for path in prior], "demos": [str(path.absolute()) for path in demos]}
    whole = run_config(config.algorithm, config.seed, config.learner, config.compute, **about)
    with Run.create(out, whole, columns(config)):
        config.write(out)


def prepare(run: Path, progress: Progress = lambda done, text: None) -> None:
    """Train the classifier and the policy that the practice begins with, as far as that is not done yet."""
    config = FinetuneConfig.read(run)
    if (run / PRETRAINED / "checkpoints" / "latest").exists():
        return
    episodes = old_episodes(config, run)
    if config.reward not in ("true", "person"):
        progress(0, f"judge: {prepare_judge(config, run, episodes)}")
    buffer, steps = offline_buffer(config, run, episodes), config.pretraining_steps
    pretrain(config, run, buffer, lambda done, text: progress(0, f"pre-training {done}/{steps}, {text}"))


def practise(run: Path, processes: bool = True, progress: Progress = lambda done, text: None) -> dict[str, Any]:
    """Go on with a run until its supervisor stops, or Ctrl-C; prepare it first where that is not done.

    processes: collector and learner side by side, each restarted when it dies; else in turns in this process, which
    gives the same data. The answer has `steps`, `attempts`, `success_rate` (the last evaluation by the truth),
    `attempt_success` and `attempt_truth` (of the last 50 attempts, by the reward model and by the truth),
    `human_resets`, `stopped` (why), `interrupted`, `checkpoint` (the best; of a robot, where nothing is evaluated, the
    latest) and `report`. Raises DatasetBusyError where another process does so already, before anything moves.
    """
    config = FinetuneConfig.read(run)
    config.compute.require()
    with ExitStack() as practising:
        practising.callback(WriterLock(run, run / PRACTISING).release)
        prepare(run, progress)
        (run / STOPPED).unlink(missing_ok=True)  # whoever starts it again has looked why it had stopped
        try:
            with interruptible() as interrupted:
                (_side_by_side if processes else _in_turns)(config, run, progress, interrupted)
        except RobolearnError as error:  # what was practised until then is told in the morning all the same
            (run / STOPPED).write_text(str(error), encoding="utf-8")
            write_morning_report(run)
            raise
    stopped = (run / STOPPED).read_text(encoding="utf-8") if (run / STOPPED).exists() else ""
    answer, best = write_morning_report(run), run / "checkpoints" / "best"
    return {
        **answer,
        "stopped": stopped,
        "interrupted": not stopped,
        "checkpoint": best if best.exists() else best.with_name("latest"),
        "report": run / REPORT,
    }


def old_data(config: FinetuneConfig, run: Path) -> Any:
    """The buffer of old data of a prepared run, where it is used online."""
    if config.online != "symmetric":
        return None
    if config.held_to_demonstrations:
        return demonstrated(config, run)
    return offline_buffer(config, run, old_episodes(config, run))


def _in_turns(config: FinetuneConfig, run: Path, progress: Progress, interrupted: threading.Event) -> None:
    learner = Learner(config, run, old_data(config, run), alive=lambda: not interrupted.is_set())
    collector = Collector(config, run, alive=lambda: not interrupted.is_set())
    try:
        going = True
        while going:
            while learner.learned < collector.done:
                learner.learn(collector.store)
            progress(learner.steps, _text(collector.store, learner.evaluated))
            going = collector.attempt()
    except InterruptedError:
        pass
    finally:
        collector.close()
        learner.close()


class Child:
    """One process of the run. It dies with us: it holds the other end of a pipe, and ends when that is closed."""

    def __init__(self, config: FinetuneConfig, run: Path, role: str) -> None:
        self._run = run
        self._command = [sys.executable, "-m", "robolearn.recipes.finetune.worker", role, str(run)]
        if role == "collector" and config.graph:
            self._command = [sys.executable, "-m", "robolearn_nodes.practice_node", "--ros-args"]
            self._command += ["-r", f"__ns:={config.namespace}"] if config.namespace else []
            folder = json.dumps(str(run.absolute()), ensure_ascii=False)  # a text of YAML, as which it is read
            self._command += ["-p", f"run:={folder}", "-p", "ends_with_stdin:=true"]
        self.role, self._log = role, run / f"{role}.log"
        self._deaths: list[int] = []  # how many attempts there were at each
        self._first_s: float | None = time.monotonic()  # until it has died
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._from = log.tell()  # where the words of this one begin
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    @property
    def finished(self) -> bool:
        """Whether it has ended as the run has: a node of the graph ends well, too, where somebody asks it to."""
        return self._process.poll() == 0 and (self._run / STOPPED).exists()

    def mend(self, now_s: float, attempts: int) -> str:
        """Start it again if it died; says so, and why it did. Raises RobolearnError when that happens again and again
        and the number of attempts stays, and where it began by saying what keeps it from its work."""
        if self._process.poll() is None or self.finished:
            return ""
        self._deaths = [*(before for before in self._deaths if before == attempts), attempts]
        words = self._log.read_bytes()[self._from :].decode(errors="replace").strip()
        last = words.splitlines()[-1:] or ["it said nothing"]
        first_s, self._first_s = self._first_s, None
        explained = self._process.returncode == RobolearnError.exit_code
        if explained and first_s is not None and now_s - first_s < BEGIN_S:
            raise RobolearnError(f"the {self.role} cannot begin: {last[0]}")
        if len(self._deaths) >= MAX_DEATHS:
            raise RobolearnError(
                f"the {self.role} died {MAX_DEATHS} times with no attempt between; its last words: {last[0]}"
            )
        self.leave()
        self._start()
        return f"the {self.role} died and is started again; its last words: {last[0]}"

    def end(self) -> None:
        """Wait until it has left, as it is told."""
        self.leave()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def leave(self) -> None:
        """Tell it to end."""
        if self._process.stdin:
            self._process.stdin.close()


def _side_by_side(config: FinetuneConfig, run: Path, progress: Progress, interrupted: threading.Event) -> None:
    children = [Child(config, run, role) for role in ("learner", "collector")]
    looked = _Look(run)
    try:
        while not interrupted.is_set() and not all(child.finished for child in children):
            died = [child.mend(time.monotonic(), looked.attempts) for child in children]
            looked(progress, "; ".join(filter(None, died)))
            time.sleep(LOOK_S)
    finally:
        for child in children:
            child.leave()  # all of them before one is waited for: a robot holds at once
        for child in children:
            child.end()


class _Look:
    """Tells the progress from the dataset, and what is waited for or done."""

    def __init__(self, run: Path) -> None:
        self._run, self._path = run, run / REPLAY
        self._seen: tuple[int, str] = (0, "")
        self._died = self._text = ""
        self._rest_until_s = 0.0
        self.attempts = self._steps = 0  # and decisions

    def __call__(self, progress: Progress, died: str = "") -> None:
        """died: which process did just now; it is told until there is other news."""
        self._died = died or self._died
        root, now_s = self._path / "zarr.json", time.monotonic()
        if now_s >= self._rest_until_s and root.exists():
            waits = self._said(WAITS, "it waits")
            now = "" if waits else self._said(NOW, "now")
            seen = root.stat().st_mtime_ns, waits + now
            if seen != self._seen:
                store = ZarrStore.open(self._path)
                self.attempts = len(store.episodes)
                self._steps = sum(info.num_actions for info in store.episodes)
                counts = _text(store, float("nan"))
                self._seen, self._died = seen, died
                self._text = "; ".join(filter(None, (waits, counts, now)))  # a narrow terminal cuts the end
                self._rest_until_s = now_s + (time.monotonic() - now_s) / LOOK_SHARE
        if self._text or self._died:  # again and again: of what is written to no terminal much is left out
            progress(self._steps, "; ".join(filter(None, (self._died, self._text))))

    def _said(self, name: str, words: str) -> str:
        """What that file of the run says, if it is there."""
        text = told(self._run, name)
        return f"{words}: {text}" if text else ""


def _text(store: ZarrStore, evaluated: float) -> str:
    last = store.episodes[-20:]
    if not last:
        return "no attempt yet"
    judged = sum(bool(info.success) for info in last) / len(last)
    known = [bool(info.tags["truth"]) for info in last if info.tags["truth"] is not None]
    true = f"{sum(known) / len(known):.2f} true" if known else "truth unknown"
    resets = store.episodes[-1].tags["resets"]
    text = f"attempt {len(store.episodes)}, success {judged:.2f} judged, {true}, {resets} human resets"
    return text + (f", evaluated {evaluated:.2f}" if evaluated == evaluated else "")
