"""Substitutions: the grammar of ROS 2, and nothing but LaunchError for whatever a file holds."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from robolearn.errors import LaunchError
from robolearn.ros.launch.expression import evaluate
from robolearn.ros.launch.parameters import to_yaml
from robolearn.ros.launch.substitutions import Scope, expand, parse


def performed(text: str) -> str:
    return expand(parse(text), Scope(Path("/cell/a.launch.yaml"), {"HOME": "/home/r"}, {"a": "A", "b": "x y"}))


def problem_of(function: Callable[[str], object], text: str) -> str:
    """What is wrong with the text; any other error than LaunchError passes through."""
    try:
        function(text)
    except LaunchError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain $ text, (parentheses) and 'quotes'", "plain $ text, (parentheses) and 'quotes'"),
        (r"\$(var a) \\ \n", r"$(var a) \ n"),
        (r"\\$(var a)", r"\$(var a)"),  # as native: a backslash before $( always keeps it away
        ("<$(var a)$(var b)>", "<Ax y>"),
        ("$(var c default)", "default"),
        ("$(var c 'two words')", "two words"),
        ("$(var c $(var b))", "x y"),
        ('$(var c "$(var a) b")', "A b"),
        ("$(var c '')", ""),
        (r"$(var c \(\))", "()"),
        ("$(var $(var c a))", "A"),
        ("$(env HOME)/$(env NOPE none)", "/home/r/none"),
        ("$(dirname) $(filename)", "/cell /cell/a.launch.yaml"),
        ("$(eval '$(var nothing 2) * 3 + 1')", "7"),
        ('$(eval \'"$(var a)" == "A"\')', "True"),
        ("$(not 0) $(and true 1) $(or false no)", "true true false"),
        ("$(equals 1 1.0) $(equals True 1) $(not-equals a b)", "true true true"),
        ("$(not-equals x$(var c '') x) $(not-equals x$(var b) x)", "false true"),
        ("$(if $(equals $(var a) A) yes $(var undefined))", "yes"),
        ("$(if false yes)", ""),
        ("$(equals $(anon n) $(anon n)) $(equals $(anon n) $(anon m))", "true false"),
    ],
)
def test_performs(text: str, expected: str) -> None:
    assert performed(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("$(var a", "not closed"),
        ("$(var  a)", "exactly one space"),
        ("$()", "name of a substitution"),
        ("$(vra a)", "did you mean var"),
        ("$(var)", "takes 1 to 2 arguments, got 0"),
        ("$(dirname x)", "takes 0 arguments"),
        ("$(not-equals word '')", "which ros2 launch of ROS 2 Jazzy takes for the text []"),
        ("$(var 'a)", "not closed"),
        ("$(var a(b))", "unexpected ("),
        ("$(var ab)", "unknown variable 'ab'; did you mean"),
        ("$(env NOPE)", "'NOPE' is not set"),
        ("$(eval 1 + 1)", "quote the expression"),
        ("$(not maybe)", "'maybe' is not a boolean"),
        ("$(find-pkg-share no_such_pkg_at_all)", "no package"),
        ("$(find-exec no-such-program)", "no executable"),
        ("$(file-content /no/such/file)", "No such file"),
        ("$(command 'rm -r /')", "works with ros2 launch only"),
        ("$(var " * 60 + "a" + ")" * 60, "nest deeper"),
    ],
)
def test_refuses_with_one_line(text: str, problem: str) -> None:
    with pytest.raises(LaunchError) as caught:
        performed(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_undefined_parts_that_are_not_needed_do_no_harm() -> None:
    assert performed("$(var a $(env NOPE))") == "A"


pieces = st.sampled_from(
    ["$(", "$(var ", "$(var a)", "$(env ", "$(eval '", "$(not ", "$(if ", ")", " ", "'", '"', "\\", "a", "1", "$", "\n"]
)


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=40))
def test_never_anything_but_launch_error(text: str) -> None:
    assert "\n" not in problem_of(performed, text)


@given(st.text(max_size=40))
def test_escaping_gives_back_any_text(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("$", "\\$")
    assert parse(escaped).literal == text


# --- $(eval) ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 % 2", 1),
        ("-3 < +4 <= 4 != 5", True),
        ("'twin' in ['twin', 'robot'] and 'x' not in 'abc'", True),
        ("'a' + 'b' if not '' else 'c'", "ab"),
        ("'' or 'fallback'", "fallback"),
        ("'Twin'.lower().startswith('tw')", True),
        ("None", None),
    ],
)
def test_expression(text: str, value: object) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "().__class__",
        "[x for x in 'ab']",
        "lambda: 1",
        "'a' * 10**9",
        "9 ** 9 ** 9",
        "'%1000000000d' % 1",
        "f'{1}'",
        "'a'.format(1)",
        "'a'.join",
        "name",
        "1 is 1",
        "1 / 0",
        "1 < 'a'",
        "b'x'",
        "(" * 500 + ")" * 500,
        "-" * 5000 + "1",
        "\0",
        "",
        "1; 2",
        "x := 1",
    ],
)
def test_expression_refuses(text: str) -> None:
    with pytest.raises(LaunchError):
        evaluate(text)


@given(st.text(alphabet=string.printable, max_size=30))
def test_expression_never_crashes(text: str) -> None:
    assert "\n" not in problem_of(evaluate, text)


# --- values on the command line ---------------------------------------------------------------------------------------

scalars = (
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@given(st.one_of(*scalars, *(st.lists(scalar, max_size=4) for scalar in scalars)))
@example("\x85")
@example(["a\u2028b"])
def test_a_parameter_value_survives_the_command_line(value: object) -> None:
    assert yaml.safe_load(to_yaml(value)) == value
