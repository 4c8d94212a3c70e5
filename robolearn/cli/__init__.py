"""The command `robolearn`: parses, calls one library function, prints. No logic lives here.

Exit codes: 0 done, 1 ran and the answer is no, 2 bad input (one line on stderr; `--debug` shows the traceback), 130
interrupted. Ctrl-C, SIGTERM (`docker stop`, systemd, slurm) and SIGHUP (the terminal or the connection is gone) are the
same: what runs long saves, says so and exits with 130. A server ends with 0, and `launch` with the code of its nodes.
Answers with data take `--json`: one JSON object on stdout, everything else on stderr.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
from rich.table import Table
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from robolearn.cli import (
    bench,
    benchmarks,
    cell,
    data,
    edits,
    graph,
    label,
    practice,
    reward_audits,
    reward_policies,
    reward_training,
    serving,
    twin,
    web,
    work,
)
from robolearn.cli.output import EXIT_INTERRUPTED, SHARED_ARGUMENTS, Console, say
from robolearn.errors import RobolearnError, UnknownNameError

COMMANDS: dict[str, Callable[..., int]] = {
    "demo": work.demo,
    "doctor": work.doctor,
    "tasks": work.tasks,
    "launch": graph.launch,
    "collect": work.collect,
    "record": bench.record,
    "replay": bench.replay,
    "train": work.train,
    "sweep": work.sweep,
    "evaluate": work.evaluate,
    "serve": serving.serve,
    "finetune": practice.finetune,
    "export": work.export,
    "dataset info": data.dataset_info,
    "dataset verify": data.dataset_verify,
    "dataset repair": data.dataset_repair,
    "dataset stats": data.dataset_stats,
    "dataset labels": data.dataset_labels,
    "dataset view": data.dataset_view,
    "dataset diff": data.dataset_diff,
    "dataset delete": edits.dataset_delete,
    "dataset trim": edits.dataset_trim,
    "dataset tag": edits.dataset_tag,
    "dataset relabel": edits.dataset_relabel,
    "dataset undo": edits.dataset_undo,
    "dataset gc": edits.dataset_gc,
    "dataset split": edits.dataset_split,
    "dataset merge": edits.dataset_merge,
    "dataset convert": edits.dataset_convert,
    "dataset publish": edits.dataset_publish,
    "dataset pull": edits.dataset_pull,
    "label": label.label,
    "reward annotate": reward_training.reward_annotate,
    "reward train": reward_training.reward_train,
    "reward combine": reward_training.reward_combine,
    "reward audit": reward_audits.reward_audit,
    "reward leaderboard": reward_audits.reward_leaderboard,
    "reward weights": reward_policies.reward_weights,
    "reward shape": reward_policies.reward_shape,
    "reward policy": reward_policies.reward_policy,
    "reward online": reward_policies.reward_online,
    "reward write": reward_policies.reward_write,
    "reward serve": serving.reward_serve,
    "cell check": cell.cell_check,
    "cell calibrate": cell.cell_calibrate,
    "cell park": cell.cell_park,
    "cell find": cell.cell_find,
    "cell motor": cell.cell_motor,
    "cell board": cell.cell_board,
    "twin fit": twin.twin_fit,
    "twin compare": twin.twin_compare,
    "twin view": twin.twin_view,
    "twin robustness": twin.twin_robustness,
    "twin gap": twin.twin_gap,
    "bench": benchmarks.bench,
    "web": web.web,
    "topic list": graph.topic_list,
    "topic echo": graph.topic_echo,
    "topic hz": graph.topic_hz,
    "topic pub": graph.topic_pub,
    "topic info": graph.topic_info,
    "node list": graph.node_list,
    "node info": graph.node_info,
    "service list": graph.service_list,
    "service call": graph.service_call,
    "action list": graph.action_list,
    "action send_goal": graph.action_send_goal,
    "param list": graph.param_list,
    "param get": graph.param_get,
    "param set": graph.param_set,
}


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script; exits the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    prepare_standard_streams()
    try:
        with interrupted_by_signals():
            sys.exit(run(words))
    except RobolearnError as error:
        if debug:
            raise
        _say_one_line(str(error))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:  # as of files that others made
        nested = isinstance(error, RecursionError)
        crowded = "can't start new thread" in str(error)
        if debug or not (nested or crowded or _is_of_memory(error)):
            raise
        wrong = "is nested too deeply" if nested else "does not fit into memory"
        if crowded:
            wrong = "needs more threads than you may have; end some programs, or raise `ulimit -u` or `ulimit -v`"
        _say_one_line(f"what is asked for {wrong}: {str(error) or 'there is none left'}")
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        say("robolearn: interrupted; nothing is left running")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away (`| head`)
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        _say_one_line(f"{error.filename or ''}{': ' if error.filename else ''}{error.strerror or error}")
        sys.exit(2)


def prepare_standard_streams() -> None:
    """Those that are closed read and write nothing, or the files that we open would take their numbers, and what
    libraries print would end in a dataset. A letter that the encoding of the output lacks is escaped."""
    for name in ("stdin", "stdout", "stderr"):  # by their numbers: a file takes the lowest one that is free
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "r" if name == "stdin" else "w")  # noqa: SIM115  until the process ends
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP do what Ctrl-C does. Only the first of them counts, for a shell and its terminal both send
    SIGHUP, and systemd both signals; one that is ignored, as by `nohup`, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears of signals
        return
    heard = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if number == signal.SIGHUP:
            _leave_terminal()
        if heard:
            return
        heard = True
        ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(ctrl_c):  # a shell starts background jobs with Ctrl-C ignored
            raise KeyboardInterrupt
        ctrl_c(signal.SIGINT, frame)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _leave_terminal() -> None:
    """A write to a terminal that is gone is an error, and would end what is to be saved: write nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _is_of_memory(error: Exception) -> bool:
    """PyTorch has an error of its own for a GPU's memory, and none for the computer's."""
    told = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return told or "can't allocate memory" in str(error)


def _say_one_line(what: str) -> None:
    """What libraries say, as HDF5's, may have several."""
    say(f"robolearn: {' '.join(what.split())}")


def run(words: list[str]) -> int:
    """Find the command that `words` begin with, parse the rest for it and call it."""
    if not words or words[0] in ("-h", "--help"):
        print_help()
        return 0
    if words[0] == "--version":
        from robolearn import __version__

        sys.stdout.write(f"robolearn {__version__}\n")
        return 0
    name = words[0]
    in_group = any(known.startswith(name + " ") for known in COMMANDS)
    if in_group:
        if len(words) == 1 or words[1] in ("-h", "--help"):
            print_help(name)
            return 0
        name = " ".join(words[:2])
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    call = parse(name, COMMANDS[name], words[len(name.split()) :])
    return call()


def parse(name: str, command: Callable[..., int], words: list[str]) -> Callable[[], int]:
    """Bind `words` to the command's parameters; a mistake becomes a RobolearnError of one line."""

    def bind(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return functools.partial(command, *args, **kwargs)

    bind.__doc__ = help_text(command)
    hints, signature = get_type_hints(command, include_extras=True), inspect.signature(command)
    given = [word.partition("=")[0].replace("_", "-") for word in words]
    for option in (f"--{each.replace('_', '-')}" for each, kind in hints.items() if get_origin(kind) is tuple):
        if (times := given.count(option)) > 1:  # the last one would count, and the others be passed over
            raise RobolearnError(f"{name}: {option} is given {times} times; give all its values behind one")
    bind.__annotations__ = {name: _told(hints[name], each.default) for name, each in signature.parameters.items()}
    bind.__signature__ = signature  # type: ignore[attr-defined]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(bind, prog=f"robolearn {name}", args=words, config=(FlagCreatePairsOff, OmitArgPrefixes))
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise RobolearnError(f"{name}: {_one_line(complaint.getvalue())} (see: robolearn {name} --help)") from None


def _told(kind: Any, default: Any) -> Any:
    """The type of a parameter as help tells of it: without a default that is nothing, and INT where it may be None."""
    if not (default is None or default is False or default in ("", ())):
        return kind
    given = get_args(kind.__origin__ if get_origin(kind) is Annotated else kind)
    if len(given) != 2 or given[1] is not type(None):
        return Annotated[kind, arg(help_behavior_hint="")]
    choices = get_args(given[0])  # of a Literal
    name = f"{{{','.join(choices)}}}" if choices else given[0].__name__.upper()
    return Annotated[kind, arg(metavar=name, help_behavior_hint="")]


def help_text(command: Callable[..., int]) -> str:
    """The command's docstring, each argument on one line, with those of SHARED_ARGUMENTS that it says nothing of."""
    told, _, arguments = inspect.cleandoc(command.__doc__ or "").partition("\n\nArgs:\n")
    lines = re.sub(r"\n {5,}", " ", arguments).splitlines()
    described = {line.split(":")[0].strip() for line in lines}
    shared = [name for name in inspect.signature(command).parameters if name in SHARED_ARGUMENTS.keys() - described]
    return "\n".join([told, "", "Args:", *lines, *(f"    {name}: {SHARED_ARGUMENTS[name]}" for name in shared)])


def _one_line(box: str) -> str:
    """The first paragraph of tyro's boxed message, coloured on a terminal, and the option it suggests, on one line."""
    words: list[str] = []
    box = Text.from_ansi(box).plain
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        if set(text) <= set("─╰╯ ") or text.startswith("Argument helptext"):
            if words:
                break
            continue
        words.append(text)
    near = re.search(r"Perhaps you meant:\W*(--[\w-]+)", box)
    words += [f"; did you mean {near[1]}?"] if near else []
    return re.sub(r"\s+", " ", " ".join(words)).replace(" ;", ";") or "cannot be parsed"


def print_help(group: str = "") -> None:
    """List the commands with the first line of what they say of themselves."""
    console = Console(highlight=False)
    console.print(f"usage: robolearn {group + ' ' if group else ''}COMMAND [--help] [--debug] ...\n")
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, command in COMMANDS.items():
        if name.startswith(group):
            table.add_row(f"  {name}", Text((command.__doc__ or "").partition("\n")[0]))
    console.print(table)
    if not group:
        console.print(
            "\nexit codes: 0 done, 1 ran and the answer is no, 2 bad input, 130 interrupted; --debug shows tracebacks"
        )
