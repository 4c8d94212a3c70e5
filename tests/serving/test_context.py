from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.policies.instruction import embed, instruction_spec
from robolearn.serving.context import Context
from robolearn.specs import INSTRUCTION, ArraySpec, InterfaceSpec

ACTION = ArraySpec((1,))
WORDS = instruction_spec("words")


@given(st.integers(1, 5), st.integers(1, 12))
def test_the_newest_are_shown_oldest_first_and_the_first_stands_before_itself(steps: int, ticks: int) -> None:
    context = Context(InterfaceSpec({"x": ArraySpec(())}, ACTION, 10.0, steps))
    for episode in (100, 0):
        context.clear()
        for t in range(ticks):
            context.add({"x": np.float32(episode + t), "unwanted": np.float32(0)})
    shown = context.shown()["x"]
    wanted = [max(t, 0) for t in range(ticks - steps, ticks)]
    assert np.atleast_1d(shown).tolist() == wanted
    assert shown.shape == (() if steps == 1 else (steps,))


def test_it_adds_the_words_unless_they_are_there() -> None:
    context = Context(InterfaceSpec({"x": ArraySpec(()), INSTRUCTION: WORDS}, ACTION, 10.0), "lift the cube")
    context.add({"x": np.float32(0)})
    assert np.array_equal(context.shown()[INSTRUCTION], embed("Lift the cube!", WORDS))
    context.add({"x": np.float32(0), INSTRUCTION: np.ones(64, np.float32)})
    assert context.shown()[INSTRUCTION].sum() == 64


def test_words_make_vectors_of_one_length_by_their_order() -> None:
    one, other = embed("put red on blue", WORDS), embed("put blue on red", WORDS)
    assert np.linalg.norm(one) == pytest.approx(8)
    assert np.linalg.norm(other) == pytest.approx(8)
    assert not np.array_equal(one, other)
    assert not embed("", WORDS).any()


def test_a_field_that_lacks_is_named() -> None:
    context = Context(InterfaceSpec({"x": ArraySpec(()), "y": ArraySpec(())}, ACTION, 10.0, 2))
    context.add({"x": np.float32(0)})
    with pytest.raises(SpecError, match="needs y; the observation has x"):
        context.shown()
