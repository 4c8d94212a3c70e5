"""Bringing a thing back by itself: the scripted motion of a cell that practises with nobody around.

It picks the thing up, carries it to where it shall lie and lets go; what stands on its edge is tipped over first. It
solves no task: it only puts things where an attempt can begin, as a person would who is asked to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.arm import Arm, Facts
from robolearn.tasks.facts import distance, position
from robolearn.tasks.motion import BLOCK_HALF_M, holds, move
from robolearn.tasks.put import Put, put_expert

WITHIN_M = 0.02  # of where it shall lie
ABOVE_M = 0.075  # height of a tool that has left what stands on the table
LEFT_M = 0.06  # from a thing to the tool, on the table, that has left it too
TIP_FROM_M = 0.055  # beside a thing on its edge, where the tool comes down to tip it over
TIP_LOW_M, TIP_HEIGHT_M = 0.024, 0.036  # of the fingertips, least and wanted: pushed lower, it would slide
DOWN = 0.88  # cosine of the tool's tilt up to which it works
UPRIGHT = 0.7  # cosine of the tilt up to which a thing stands as it shall


@dataclass(frozen=True)
class Thing:
    """Half its width between the jaws and half its height, as it shall lie [m]; `flat`: it can stand on its edge."""

    half_width_m: float
    half_height_m: float
    flat: bool = False


THINGS = {"puck": Thing(0.022, 0.0125, flat=True), "cube": Thing(BLOCK_HALF_M, BLOCK_HALF_M)}
"""What can be brought back, by the name of its body."""


def on_edge(facts: Facts, body: str) -> bool:
    """Whether a flat thing stands on its edge."""
    return body in THINGS and THINGS[body].flat and bool(abs(_axis(facts, body)[2]) < UPRIGHT)


def retrieved(arm: Arm, facts: Facts, body: str, to: NDArray[np.float64]) -> bool:
    """Whether the thing lies as it shall at `to` (2,) [m], and the arm has left it."""
    where, here = position(facts, body), arm.where(facts)
    left = float(here[2]) > ABOVE_M or float(distance(here[:2], where[:2])) > LEFT_M
    return left and float(distance(where[:2], to)) < WITHIN_M and not on_edge(facts, body)


def retrieve(arm: Arm, facts: Facts, body: str, to: NDArray[np.float64]) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that work towards the thing lying at `to` (2,) [m], from the facts of an instant."""
    thing, where = THINGS[body], position(facts, body)
    if not on_edge(facts, body):
        put = _put(body, thing.half_height_m, thing.half_width_m)
        return put_expert(arm, facts, put, to, arm.azimuth(where) if thing.flat else None)
    put, axis = _put(body, thing.half_width_m, thing.half_height_m), _axis(facts, body)[:2]
    axis /= np.linalg.norm(axis)
    put_down = float(distance(where[:2], to)) < put.release_within_m and where[2] < put.rest_m + 0.004
    from_it = np.abs(arm.where(facts) - where)
    in_jaws = float(np.hypot(*from_it[:2])) < 0.018 and from_it[2] < 0.035
    sides = [side for side in (axis, -axis) if _can_tip(arm, where, side)]
    if not sides or (in_jaws and (put_down or holds(arm, facts, where, put.half_m))):
        return put_expert(arm, facts, put, to, arm.across(where, np.array([-axis[1], axis[0]])))
    return _tip(arm, facts, where, max(sides, key=lambda side: float((arm.where(facts) - where)[:2] @ side)))


def _put(body: str, height_m: float, half_m: float) -> Put:
    return Put(body, height_m, height_m, release_within_m=WITHIN_M * 0.75, lower_within_m=0.01, half_m=half_m)


def _can_tip(arm: Arm, where: NDArray[np.float64], side: NDArray[np.float64]) -> bool:
    """Whether the tool reaches that side (2,) of the thing at `where`, and the place to where it falls."""
    beside, falls_to, tip = where[:2] + side * TIP_FROM_M, where[:2] - side * 0.05, arm.gripper.tip_m
    places = [(*beside, ABOVE_M + 0.02), (*beside, tip + TIP_HEIGHT_M), (*falls_to, tip)]
    return all(_reaches(arm, place) for place in places)


def _reaches(arm: Arm, place: ArrayLike) -> bool:
    """Whether the tool gets to `place` (3,) [m], pointing down by and large."""
    found, rotation = arm.forward(arm.inverse(place, arm.azimuth(place)))
    return float(distance(found, np.asarray(place))) < 0.002 and float(-rotation[2, 0]) > DOWN


def _tip(arm: Arm, facts: Facts, where: NDArray[np.float64], side: NDArray[np.float64]) -> NDArray[np.float32]:
    """From one side (2,), push the upper half of what stands on its edge at `where` over, with closed jaws."""
    here, jaws = arm.where(facts), arm.gripper
    yaw, start, from_it = arm.across(where, side), where[:2] + side * TIP_FROM_M, here[:2] - where[:2]
    along, across = float(from_it @ side), abs(float(from_it[0] * side[1] - from_it[1] * side[0]))
    level = TIP_LOW_M < here[2] - jaws.tip_m < TIP_HEIGHT_M + 0.006 and float(arm.opened(facts)) < 0.5 * jaws.fork
    if level and across < 0.015 and -0.03 < along < TIP_FROM_M + 0.012:
        return move(arm, facts, (*(here[:2] - side * 0.02), TIP_HEIGHT_M + jaws.tip_m), yaw, jaws.closed, lead_m=0.01)
    off = float(np.hypot(*(here[:2] - start)))
    if off > 0.02 and here[2] < ABOVE_M:  # up before going around it
        free = float(distance(here, where)) > 0.05  # or it may hang between the jaws
        return move(arm, facts, (*here[:2], ABOVE_M + 0.02), None, jaws.closed if free else jaws.open)
    height = TIP_HEIGHT_M + jaws.tip_m + float(np.clip(4 * (off - 0.01), 0.0, 0.05))
    return move(arm, facts, (*start, height), yaw, jaws.closed)


def _axis(facts: Facts, body: str) -> NDArray[np.float64]:
    """Where the thing's own z points (3,)."""
    w, x, y, z = (float(v) for v in facts[f"pose_{body}"][3:])
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
