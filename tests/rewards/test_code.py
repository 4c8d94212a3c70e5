"""Written rewards: hostile code is stopped twice over, parameters are closed, and the loop picks the right one."""

from __future__ import annotations

import ast
import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from robolearn.errors import RobolearnError
from robolearn.rewards.code import sandbox as sandbox_module
from robolearn.rewards.code.allow_list import LINALG, METHODS, NUMPY, RewardCodeError, check_code
from robolearn.rewards.code.candidate import Training
from robolearn.rewards.code.client import CannedClient, Message
from robolearn.rewards.code.forms import TaskText, block
from robolearn.rewards.code.loop import WritingConfig, write_rewards
from robolearn.rewards.code.parameters import parse_terms, terms_reward
from robolearn.rewards.code.sandbox import CodeRewards, Sandbox, SandboxConfig, launcher

PARAMETERS = ("position", "action")
QUICK = SandboxConfig(cpu_s=1, wall_s=6.0)


def sandbox_works() -> bool:
    try:
        launcher()
    except RewardCodeError:
        return False
    return True


needs_sandbox = pytest.mark.skipif(not sandbox_works(), reason="this machine allows no network namespace")


def reward(body: str) -> str:
    return "def compute_reward(position, action):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


GOOD = """
def closeness(x):
    return np.exp(-2.0 * abs(x - 1.0))

def compute_reward(position, action):
    near = closeness(position)
    effort = -0.01 * action ** 2
    total = near + effort
    for i in range(3):
        total += 0.0 * i
    return total, {"near": near, "effort": effort}
"""
HOSTILE = {
    "import": reward("import os\nos.system('id')\nreturn 0.0, {}"),
    "dunder walk": reward("return ().__class__.__base__.__subclasses__()[0], {}"),
    "np.load": reward("return np.load('/etc/passwd', allow_pickle=True), {}"),
    "open": reward("return len(open('/etc/passwd').read()), {}"),
    "extra argument": "def compute_reward(position, action, os=None):\n    return 0.0, {}\n",
    "endless loop": reward("while True:\n    pass\nreturn 0.0, {}"),
    "endless sum": reward("total = 0.0\nfor i in range(10 ** 12):\n    total += i\nreturn total, {}"),
    "75 GB array": reward("return np.ones((100000, 100000)).sum(), {}"),
    "np.linalg.os": reward("return np.linalg.os.getpid(), {}"),
    "recursion": reward("return compute_reward(position, action)"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_the_allow_list_stops_hostile_code(name: str) -> None:
    with pytest.raises(RewardCodeError) as error:
        check_code(HOSTILE[name], "compute_reward", PARAMETERS)
    assert "\n" not in str(error.value)


@needs_sandbox
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_the_sandbox_stops_hostile_code_even_without_the_allow_list(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "check_code", lambda *_: None)
    columns = {"position": np.linspace(0, 1, 4), "action": np.zeros(4)}
    with pytest.raises(RewardCodeError), Sandbox(HOSTILE[name], PARAMETERS, QUICK) as sandbox:
        sandbox.score(columns)


@pytest.mark.parametrize(
    "body",
    [
        "return position ** position, {}",
        "return 9 ** 9 ** 9, {}",
        "return 1e300, {}",
        "return position.__class__, {}",
        "return position.dump, {}",
        "return np.abs(position).dump, {}",
        "return np.abs.sum(position), {}",
        "return (np if position else np).load('x'), {}",
        f"return position{'.copy()' * 450}.dump, {{}}",
        "return (lambda: 1)(), {}",
        "return [x for x in range(3)], {}",
        "global np\nreturn 0.0, {}",
        "np = 1\nreturn 0.0, {}",
        "len = 1\nreturn 0.0, {}",
        "return np.sum(position, out=action), {}",
        "return f'{position}', {}",
        "for i in range(position):\n    pass\nreturn 0.0, {}",
        "for x in action:\n    pass\nreturn 0.0, {}",
        "x **= 1000\nreturn 0.0, {}",
        "_x = 1\nreturn 0.0, {}",
        "return eval('1'), {}",
        "return getattr(np, 'load'), {}",
        "def inner():\n    return 1\nreturn inner(), {}",
        "try:\n    pass\nexcept Exception:\n    pass\nreturn 0.0, {}",
    ],
)
def test_what_is_not_listed_does_not_pass(body: str) -> None:
    code = reward(body)
    ast.parse(code)
    with pytest.raises(RewardCodeError):
        check_code(code, "compute_reward", PARAMETERS)


@pytest.mark.parametrize("code", ["", "x = 1\n", "def other():\n    return 1\n", GOOD + GOOD, "def (", "x" * 9000])
def test_what_is_no_reward_function_is_said(code: str) -> None:
    with pytest.raises(RewardCodeError) as error:
        check_code(code, "compute_reward", PARAMETERS)
    assert "\n" not in str(error.value)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(GOOD, PARAMETERS, SandboxConfig()) as one:
        yield one


@needs_sandbox
def test_benign_code_scores_batches_with_its_components(sandbox: Sandbox) -> None:
    for _ in range(3):
        position, action = np.linspace(0, 1, 5), np.arange(5.0)
        scored = sandbox.score({"action": action, "position": position})
        near = np.exp(-2 * np.abs(position - 1))
        np.testing.assert_allclose(scored.rewards, near - 0.01 * action**2)
        np.testing.assert_allclose(scored.components["near"], near)
    vector = "def compute_reward(position, action):\n    return np.linalg.norm(position), {}\n"
    with Sandbox(vector, PARAMETERS, QUICK) as other:
        scored = other.score({"position": np.array([[3.0, 4.0], [0.0, 1.0]]), "action": np.zeros(2)})
        assert scored.rewards.tolist() == [5.0, 1.0]


@needs_sandbox
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return np.log(position - position - 1.0), {}", "not finite"),
        ("return 1.0, {}", "constant"),
        ("return 1e5 * position, {}", "at most 10000"),
        ("return position", "TypeError|ValueError"),
        ("return undefined, {}", "NameError"),
        ("return position, {'a': 'b'}", "ValueError"),
        ("parts = {}\nfor i in range(40):\n    parts[i] = position\nreturn position, parts", "more than 32 components"),
    ],
)
def test_a_reward_that_is_none_is_refused(body: str, message: str) -> None:
    with Sandbox(reward(body), PARAMETERS, QUICK) as one, pytest.raises(RewardCodeError, match=message):
        one.score({"position": np.linspace(0, 1, 4), "action": np.zeros(4)})


@needs_sandbox
def test_all_that_is_listed_can_be_called() -> None:
    """NumPy loads some of it on its first call, which the child could not."""
    pairs = ("arctan2", "cross", "dot", "hypot", "logical_and", "logical_or", "maximum", "minimum")
    arguments = {
        **dict.fromkeys(pairs, "action, action"),
        **dict.fromkeys(("concatenate", "stack"), "[action, action]"),
        "clip": "action, 0.0, 1.0",
        "where": "action > 0, action, 0.0",
        "float32": "position",
        "float64": "position",
    }
    calls = [f"np.{name}({arguments.get(name, 'action')})" for name in sorted(NUMPY - {"e", "pi", "inf", "linalg"})]
    calls += [f"np.linalg.{name}(action)" for name in sorted(LINALG)]
    calls += [f"action.{name}({'0.0, 1.0' if name == 'clip' else ''})" for name in sorted(METHODS)]
    code = reward("\n".join(calls) + "\nreturn position, {}")
    with Sandbox(code, PARAMETERS, SandboxConfig()) as sandbox:
        scored = sandbox.score({"position": np.arange(2.0), "action": np.ones((2, 3))})
    assert scored.rewards.tolist() == [0.0, 1.0]


@needs_sandbox
@pytest.mark.parametrize("body", ["return np.abs(position).sum(), {}", f"return position{'.copy()' * 450}.sum(), {{}}"])
def test_methods_of_what_was_computed_can_be_called(body: str) -> None:
    with Sandbox(reward(body), PARAMETERS, SandboxConfig()) as sandbox:
        assert sandbox.score({"position": np.arange(2.0), "action": np.zeros(2)}).rewards.tolist() == [0.0, 1.0]


@needs_sandbox
def test_columns_must_be_the_parameters(sandbox: Sandbox) -> None:
    with pytest.raises(RewardCodeError, match="expected position, action"):
        sandbox.score({"position": np.zeros(3)})


@needs_sandbox
def test_the_child_has_no_network_no_files_and_no_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code with every power that Python gives still reaches nothing."""
    monkeypatch.setattr(sandbox_module, "check_code", lambda *_: None)
    monkeypatch.setattr(sandbox_module, "BUILTINS", frozenset({"__import__", "open", "float", "len"}))
    columns = {"position": np.linspace(0, 1, 2), "action": np.zeros(2)}
    for attempt in (
        "import os\nos.fork()",
        "open('/etc/hostname').read()",
        "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
        "import os\nos.close(2)\nos.open('/etc/hostname', 0)",
        "import os\nos.setuid(0)" if os.geteuid() == 0 else "import os\nos.fork()",
    ):
        with (
            Sandbox(reward(f"{attempt}\nreturn position, {{}}"), PARAMETERS, QUICK) as one,
            pytest.raises(RewardCodeError, match="Error"),
        ):
            one.score(columns)


@needs_sandbox
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.write(1, b'5\\n')", "something that is no reward"),
        ("os.write(1, b'[' * 4000 + b'\\n')", "something that is no reward"),
        ("while True:\n    os.write(1, b'x' * 60000)", "more than .* bytes|a limit"),
        ("os.write(1, b'{')\ntime.sleep(60)", "no answer within 0.5 s"),
        ("os.kill(os.getpid(), 9)", "a limit"),
    ],
)
def test_what_a_child_says_otherwise_is_no_answer(body: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says, or does not read, is over in time, and is not taken for the answer to what follows."""
    monkeypatch.setattr(sandbox_module, "check_code", lambda *_: None)
    monkeypatch.setattr(sandbox_module, "BUILTINS", frozenset({"__import__"}))
    columns = {"position": np.linspace(0, 1, 20_000), "action": np.zeros(20_000)}
    with Sandbox(reward(f"import os, time\n{body}"), PARAMETERS, SandboxConfig(cpu_s=1, wall_s=6.0)) as one:
        one.config = SandboxConfig(cpu_s=1, wall_s=0.5)
        with pytest.raises(RewardCodeError, match=message):
            one.score(columns)
        with pytest.raises(RewardCodeError, match=r"has ended|a limit"):
            one.score(columns)


def test_without_a_sandbox_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher.cache_clear()
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda _: None)
    try:
        with pytest.raises(RewardCodeError, match="allows none"):
            Sandbox(GOOD, PARAMETERS, QUICK)
    finally:
        launcher.cache_clear()


# a 1-D task: x' = x + a, a in {-0.1, 0, 0.1}; the metric is how often x is within 0.05 of 1 in the last ten steps
POSITIONS = np.round(np.linspace(-2, 3, 51), 3)


def train(rewards: Mapping[int, str], measured: bool = True) -> dict[int, Training | str]:
    """For each reward the best policy by value iteration, then one episode."""
    outcomes: dict[int, Training | str] = {}
    for number, code in rewards.items():
        try:
            with Sandbox(code, PARAMETERS, QUICK) as sandbox:
                outcomes[number] = solved(sandbox, f"film of {number}", measured)
        except RewardCodeError as error:
            outcomes[number] = str(error)
    return outcomes


def solved(sandbox: Sandbox, film: str, measured: bool) -> Training:
    moves = np.array([-1, 0, 1])
    there = np.clip(np.arange(51)[:, None] + moves, 0, 50)
    columns = {"position": POSITIONS[there].ravel(), "action": np.tile(0.1 * moves, 51)}
    scored: CodeRewards = sandbox.score(columns)
    table, value = scored.rewards.reshape(51, 3), np.zeros(51)
    for _ in range(300):
        value = (table + 0.95 * value[there]).max(1)
    state, visited = 20, []
    for _ in range(30):
        action = int((table[state] + 0.95 * value[there[state]]).argmax())
        visited.append(3 * state + action)
        state = int(there[state, action])
    steps = np.array(visited)
    metric = float((np.abs(columns["position"][steps[-10:]] - 1.0) < 0.05).mean())
    traces = {name: values[steps] for name, values in scored.components.items()}
    return Training(traces, metric if measured else None, film=film)


def fenced(code: str) -> str:
    return f"Here it is.\n```python\n{code}```\nDone."


ANSWERS = [
    fenced("import numpy\ndef compute_reward(position, action):\n    return 0.0, {}\n"),  # broken: refused
    fenced(reward("return missing, {}")),  # broken: fails
    fenced(reward("return 0.5, {'bias': 0.5}")),  # constant
    fenced(reward("far = abs(position - 1.0)\nreturn far, {'far': far}")),  # negated
    fenced(reward("speed = position\nreturn speed, {'speed': speed}")),  # hackable: more is better, past the goal
    fenced(GOOD.strip() + "\n"),
]
TASK = TaskText("move to position 1", {"position": "where it is [m]", "action": "the move [m]"})


def writing(method: str, rounds: int, candidates: int | None = None) -> WritingConfig:
    return WritingConfig(method, candidates, rounds, "code", QUICK)


def answering(lines: list[str], questions: list[str]) -> Callable[[str], str]:
    """A person whose answers are prepared; what was asked is noted."""

    def ask(question: str) -> str:
        questions.append(question)
        return lines.pop(0)

    return ask


@needs_sandbox
def test_the_loop_survives_the_broken_and_picks_the_good_reward() -> None:
    client = CannedClient([ANSWERS[:5], [ANSWERS[5], ANSWERS[3]]])
    found = write_rewards(client, TASK, train, writing("eureka", 2, 6))
    assert (found[0].round, found[0].number) == (1, 6)
    assert found[0].training is not None
    assert found[0].training.metric == 1.0
    by_number = {one.number: one for one in found}
    assert sorted(by_number) == [1, 2, 3, 4, 5, 6, 7]
    assert [bool(by_number[i].error) for i in range(1, 6)] == [True, True, True, False, False]
    assert "constant" in by_number[3].error
    assert by_number[2].answer == ANSWERS[1]  # numbers are kept through failures
    feedback = client.asked[1]
    assert [message["role"] for message in feedback] == ["system", "user", "assistant", "user"]
    best_of_first = next(one for one in found if one.round == 0)
    assert feedback[2]["content"] == best_of_first.answer
    assert best_of_first.training is not None
    for name, trace in best_of_first.training.traces.items():
        assert f"max {trace.max():.3g}, mean {trace.mean():.3g}, min {trace.min():.3g}" in feedback[3]["content"]
        assert f"{name}: [" in feedback[3]["content"]
    for number in (1, 2, 3):  # why the others failed, in the same breath
        assert by_number[number].error in feedback[3]["content"]


@needs_sandbox
def test_a_round_without_a_survivor_tells_the_error_and_goes_on() -> None:
    client = CannedClient([ANSWERS[:2], [ANSWERS[5]]])
    found = write_rewards(client, TASK, train, writing("eureka", 2, 2))
    assert found[0].code == block(ANSWERS[5])
    assert "could not be used" in client.asked[1][-1]["content"]


@needs_sandbox
def test_a_person_compares_until_the_best_is_found_and_both_go_back() -> None:
    """ICPL: broken ones are written again until there are K, and no metric is known to anybody."""
    client = CannedClient([[ANSWERS[0], ANSWERS[3]], [ANSWERS[4]], [ANSWERS[5], ANSWERS[3]]])
    questions: list[str] = []
    kept: list[int] = []
    found = write_rewards(
        client,
        TASK,
        lambda rewards: train(rewards, measured=False),
        writing("icpl", 2, 2),
        answering(["3 1", "three", "3 2", "4, 5"], questions),
        lambda candidates: kept.append(len(candidates)),
    )
    assert "could not be used" in client.asked[1][-1]["content"]
    assert len(client.asked) == 3
    assert "2: film of 2\n3: film of 3\n" in questions[0]
    assert "1: film" not in questions[0]  # that one could not be trained with
    assert "'3 1' came" in questions[1]
    assert "'three' came" in questions[2]
    assert "3: film of 3\n4: film of 4\n5: film of 5\n" in questions[3]  # the best so far beside the new ones
    assert kept == [2, 3, 3, 5, 5]  # before anybody is asked
    assert found[0].number == 4
    chat = client.asked[2]
    assert chat[2]["content"] == ANSWERS[4]
    told = chat[3]["content"]
    assert block(ANSWERS[3]) in told  # the worst one
    assert "speed: [" in told
    assert "far: [" in told
    assert "-    return far, {'far': far}\n" in told
    assert "+    speed = position\n" in told
    assert found[-1].error in told


@needs_sandbox
def test_a_persons_words_mend_the_newest_reward_until_there_is_nothing_to_say() -> None:
    """Text2Reward: one reward, from zero shot; a broken one is written again before anybody is asked."""
    client = CannedClient([[ANSWERS[1]], [ANSWERS[4]], [ANSWERS[5]], ["never asked"]])
    questions: list[str] = []
    found = write_rewards(
        client,
        TASK,
        lambda rewards: train(rewards, measured=False),
        writing("text2reward", 9),
        answering(["it runs past the mark", "  "], questions),
    )
    assert [one.number for one in found] == [3, 2, 1]
    assert found[0].code == block(ANSWERS[5])
    assert "NameError" in client.asked[1][-1]["content"]
    assert len(client.asked) == 3
    assert [message["content"] for message in client.asked[2][2:3]] == [ANSWERS[4]]
    assert "it runs past the mark" in client.asked[2][3]["content"]
    assert "2: film of 2" in questions[0]


def test_nobody_is_asked_what_would_not_be_read() -> None:
    answers = [json.dumps({"terms": [{"kind": "smooth", "quantity": name, "weight": 1}]}) for name in TASK.parameters]

    def trained(rewards: Mapping[int, str]) -> dict[int, Training]:
        return {number: Training({}) for number in rewards}

    found = write_rewards(CannedClient([answers]), TASK, trained, WritingConfig("text2reward", rounds=1))
    assert found[0].answer == answers[0]
    with pytest.raises(RobolearnError, match="nobody to ask"):
        write_rewards(CannedClient([answers]), TASK, trained, WritingConfig("icpl", 2))
    with pytest.raises(RobolearnError, match="gave no answer, 4 were asked for"):
        write_rewards(CannedClient([[]]), TASK, trained, WritingConfig())


@pytest.mark.parametrize(
    ("method", "candidates", "message"),
    [("eureka", 0, "at least 1"), ("icpl", 1, "at least 2"), ("text2reward", 2, "mends one"), ("eureca", 1, "eureka")],
)
def test_settings_that_no_method_means_are_refused(method: str, candidates: int, message: str) -> None:
    with pytest.raises(RobolearnError, match=message):
        WritingConfig(method, candidates)


def test_a_canned_client_that_runs_out_says_so() -> None:
    client = CannedClient([["a"]])
    chat: list[Message] = [{"role": "user", "content": "?"}]
    assert client.answers(chat, 3) == ["a"]
    with pytest.raises(RobolearnError, match="1 rounds"):
        client.answers(chat, 1)


def test_the_first_fenced_block_is_taken_whole() -> None:
    assert block("a\n```python\ndef f():\n    pass\n\ndef g():\n    pass\n```\n```\nx\n```") == (
        "def f():\n    pass\n\ndef g():\n    pass\n"
    )
    assert block("def f(): pass") == "def f(): pass\n"


def test_closed_parameters_by_hand() -> None:
    text = json.dumps(
        {
            "terms": [
                {"kind": "distance", "quantity": "tool", "weight": 2.0, "target": [1.0, 0.0], "scale": 3.0},
                {"kind": "near", "quantity": "height", "weight": 1.0, "target": 0.5, "scale": 0.5},
                {"kind": "above", "quantity": "height", "weight": 4.0, "target": 0.2},
                {"kind": "smooth", "quantity": "tool", "weight": 0.5},
            ]
        }
    )
    terms = parse_terms(text, {"tool": 2, "height": 1})
    total, parts = terms_reward(terms, {"tool": np.array([[1.0, 1.0], [9.0, 0.0]]), "height": np.array([0.5, 0.0])})
    np.testing.assert_allclose(list(parts.values()), [[-2, -6], [1, np.exp(-1)], [4, 0], [-1, -40.5]])
    np.testing.assert_allclose(total, np.sum(list(parts.values()), axis=0))


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"terms": []}',
        '{"terms": [{"kind": "distance"}]}',
        '{"terms": [{"kind": "exec", "quantity": "tool", "weight": 1}]}',
        '{"terms": [{"kind": "near", "quantity": "os", "weight": 1}]}',
        '{"terms": [{"kind": "near", "quantity": "tool", "weight": NaN}]}',
        '{"terms": [{"kind": "near", "quantity": "tool", "weight": -1}]}',
        f'{{"terms": [{{"kind": "near", "quantity": "tool", "weight": 1{"0" * 400}}}]}}',
        '{"terms": [{"kind": "near", "quantity": "tool", "weight": 1, "target": [1, 2, 3]}]}',
        '{"terms": [{"kind": "near", "quantity": "tool", "weight": 1, "scale": 0}]}',
    ],
)
def test_parameters_outside_the_form_are_refused(text: str) -> None:
    with pytest.raises(RewardCodeError) as error:
        parse_terms(text, {"tool": 2})
    assert "\n" not in str(error.value)
