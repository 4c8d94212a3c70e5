"""Fit the twin's joints and servos to what a real robot did: friction, damping, armature, gains and latency.

The log (commands and measured joints) is cut into windows that start where the robot measured itself to be. A window is
simulated open loop under the logged commands, and the parameters are those that bring the simulated joints nearest to
the measured ones (multiple shooting, nonlinear least squares by `mujoco.minimize`). All windows of all trial parameters
of an iteration run as one `mujoco.batch.Batch`. Nothing but the robot is simulated: use motions that touch nothing.

Which parameters show in a log depends on its motions: the servos' gain where they are not saturated, damping where they
move fast, dry friction where they turn around, latency and armature where commands jump. `excitation` has all of it.
Joints whose servos are the same in the robot's file share their parameters, unless each is fitted for itself.

Legend: T steps, J joints, G groups of joints with the same servo, P parameters, K trials, W windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from mujoco import minimize
from mujoco.batch import Batch
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.physics import PER_JOINT, Physics
from robolearn.specs import RobotSpec
from robolearn.tasks import Task
from robolearn.twin.linkage import Linkage
from robolearn.twin.scene import load_robot, set_physics

Floats = NDArray[np.float64]

VELOCITY_S = 0.05  # a velocity error counts as much as the position error that it makes in this time
LATENCY_UNIT_S = 0.05  # so that all parameters are of the size of 1
MAX_LATENCY_S = 0.2
FACTORS = (0.05, 20.0)  # of the first guess: the range that is searched
FINITE_STEP = 1e-4
LATENCY_SEARCH = 2  # time steps around the first estimate


@dataclass(frozen=True)
class Log:
    """One episode at the control rate: commands (T, J), applied from their step on, and measured positions and
    velocities (T, J) at the steps."""

    command: Floats
    position: Floats
    velocity: Floats


@dataclass(frozen=True)
class Fit:
    """What `fit` found. uncertainty: standard deviation of each fitted parameter over its value, by name as in `values`
    (`kp.shoulder_pan+elbow_flex` of joints that share one, `latency_s`); large for what the log does not show."""

    before: Physics
    after: Physics
    uncertainty: dict[str, float]
    iterations: int


def excitation(robot: RobotSpec, start: Floats, steps: int, control_hz: float, rng: np.random.Generator) -> Floats:
    """Commands (steps, J) around `start` (J,) that show every parameter: slow sines, and jumps of up to 0.3 rad at the
    joints' full speed, which take the servos to their limit."""
    t = np.arange(steps) / control_hz
    low, high = np.array(robot.position_low), np.array(robot.position_high)
    step = np.array(robot.max_speed) / control_hz
    wanted = np.tile(start, (steps, 1))
    for j in range(len(start)):
        wanted[:, j] += 0.12 * np.sin(2 * np.pi * 0.2 * rng.uniform(0.8, 1.2) * t + rng.uniform(0, 2 * np.pi))
        jumps = rng.uniform(0.05, 0.3, steps) * rng.choice((-1.0, 0.0, 1.0), steps)
        wanted[:, j] += np.repeat(jumps, rng.integers(4, 14, steps))[:steps]
    command = [np.array(start)]
    for row in wanted[1:]:
        command.append(np.clip(row, command[-1] - step, command[-1] + step))
    return np.clip(command, low, high)


def fit(
    task: Task,
    logs: Sequence[Log],
    window_steps: int = 10,
    max_windows: int = 16,
    iterations: int = 25,
    per_joint: bool = False,
    progress: Callable[[int, float, float], None] = lambda iteration, error, latency: None,
) -> Fit:
    """Fit the physics of the task's robot to logs at the task's control rate.

    per_joint: every joint for itself, even where servos are the same; wants more data and time. At most `max_windows`
    windows of `window_steps` are used, spread over the logs. progress: called with the iteration, the error [rad] and
    the latency [s] that is tried: first any, then those around the best one, each for itself. Raises
    SpecError when there is no window in the logs.
    """
    before = Physics.of(load_robot(task))
    shooting = _Shooting(task, logs, window_steps, max_windows, PER_JOINT, before, per_joint)
    start = np.append(np.zeros(len(PER_JOINT) * len(shooting.groups)), 0.02 / LATENCY_UNIT_S)
    low = np.append(np.full(len(start) - 1, np.log(FACTORS[0])), 0.0)
    high = np.append(np.full(len(start) - 1, np.log(FACTORS[1])), MAX_LATENCY_S / LATENCY_UNIT_S)

    done = 0

    def search(
        residual: Callable[[Floats], Floats], guess: Floats, latency: float | None = None
    ) -> tuple[Floats, float]:
        def report(trace: list[minimize.IterLog]) -> None:
            nonlocal done
            done += 1
            tried = trace[-1].candidate.flat[-1] if latency is None else latency
            progress(done, float(np.sqrt(2 * trace[-1].objective / shooting.size)), float(tried * LATENCY_UNIT_S))

        n = len(guess)
        found, trace = minimize.least_squares(
            guess,
            residual,
            bounds=[low[:n], high[:n]],
            eps=FINITE_STEP,
            max_iter=iterations,
            xtol=1e-5,
            gtol=1e-10,
            x_scale="jac",
            verbose=minimize.Verbosity.SILENT,
            iter_callback=report,
        )
        return found, float(trace[-1].objective)

    rough, _ = search(shooting.residual, start)
    # The error has a kink wherever the latency is a whole number of time steps, which is what the twin keeps.
    unit = shooting.model.opt.timestep / LATENCY_UNIT_S
    best, least = rough, np.inf
    for substeps in round(rough[-1] / unit) + np.arange(-LATENCY_SEARCH, LATENCY_SEARCH + 1):
        if not 0 <= substeps * unit <= high[-1]:
            continue
        latency = substeps * unit
        found, error = search(partial(shooting.residual_at, latency), rough[:-1], latency)
        if error < least:
            best, least = np.append(found, latency), error
    return Fit(before, shooting.physics(best), shooting.uncertainty(best), done)


def replay(task: Task, physics: Physics, log: Log) -> Floats:
    """Joint positions (T, J) of the robot alone, open loop from the first measurement on, under the log's commands."""
    whole = _Shooting(task, [log], len(log.command) - 1, 1, (), physics)
    position, _ = whole.simulate(np.array([[physics.latency_s / LATENCY_UNIT_S]]).T)
    return np.concatenate([log.position[:1], position[0, 0]])


class _Shooting:
    """The windows of a log as one batch of simulations. A trial x (P,): logarithms of factors, then the latency."""

    def __init__(
        self,
        task: Task,
        logs: Sequence[Log],
        steps: int,
        max_windows: int,
        names: tuple[str, ...],
        guess: Physics,
        per_joint: bool = False,
    ) -> None:
        self.model = load_robot(task)
        set_physics(self.model, guess)
        self.names, self.guess, self.joints = names, guess, task.robot_spec.joint_names
        servos = list(zip(*(getattr(Physics.of(self.model), name) for name in PER_JOINT), strict=True))
        kinds = list(range(len(servos))) if per_joint else [servos.index(servo) for servo in servos]
        self.groups = [tuple(j for j, kind in enumerate(kinds) if kind == k) for k in sorted(set(kinds))]
        self.group_of = np.array([next(g for g, row in enumerate(self.groups) if j in row) for j in range(len(kinds))])
        joint_ids = self.model.actuator_trnid[:, 0]
        self.qpos, self.dof = self.model.jnt_qposadr[joint_ids], self.model.jnt_dofadr[joint_ids]
        self.substeps = round(1 / (task.control_hz * self.model.opt.timestep))
        self.steps = steps
        starts = [(i, t) for i, log in enumerate(logs) for t in range(0, len(log.command) - steps, steps)]
        if not starts:
            raise SpecError(f"the logs have no {steps + 1} steps in a row; record longer episodes")
        chosen = [starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, max_windows).astype(int))]
        before = 1 + int(np.ceil(MAX_LATENCY_S * task.control_hz))  # commands that can still be on their way
        self.before = before
        self.commands = np.stack(
            [logs[i].command[np.maximum(np.arange(t - before, t + steps), 0)] for i, t in chosen]
        )  # (W, before + steps, J)
        self.start = np.tile(self.model.qpos0, (len(chosen), 1)), np.zeros((len(chosen), self.model.nv))
        linkage = Linkage(self.model)
        for (i, t), qpos, qvel in zip(chosen, *self.start, strict=True):
            linkage.place(logs[i].position[t], qpos)
            linkage.move(logs[i].velocity[t], qvel)
        self.position = np.stack([logs[i].position[t + 1 : t + 1 + steps] for i, t in chosen])  # (W, steps, J)
        self.velocity = np.stack([logs[i].velocity[t + 1 : t + 1 + steps] for i, t in chosen])
        self.size = self.position.size
        self._batches: dict[int, Batch] = {}

    def physics(self, x: Floats) -> Physics:
        factors = np.exp(x[:-1]).reshape(len(self.names), len(self.groups))[:, self.group_of]
        fitted = {
            name: tuple((np.array(getattr(self.guess, name)) * factor).tolist())
            for name, factor in zip(self.names, factors, strict=True)
        }
        return Physics(**{**vars(self.guess), **fitted, "latency_s": float(x[-1] * LATENCY_UNIT_S)})

    def residual(self, x: Floats) -> Floats:
        """Errors (m, K) of the trials x (P, K)."""
        position, velocity = self.simulate(x.reshape(len(x), -1))
        errors = np.stack([position - self.position, VELOCITY_S * (velocity - self.velocity)], axis=1)
        return np.nan_to_num(errors.reshape(len(errors), -1).T, nan=1e3, posinf=1e3, neginf=-1e3)

    def residual_at(self, latency: float, x: Floats) -> Floats:
        """The same for trials without their latency (P - 1, K)."""
        rows = x.reshape(len(x), -1)
        return self.residual(np.concatenate([rows, np.full((1, rows.shape[1]), latency)]))

    def uncertainty(self, x: Floats) -> dict[str, float]:
        """Gauss-Newton: covariance = variance of the residual times the inverse of J^T J."""
        trials = np.concatenate([x[:, None], x[:, None] + FINITE_STEP * np.eye(len(x))], axis=1)
        errors = self.residual(trials)
        jacobian = (errors[:, 1:] - errors[:, :1]) / FINITE_STEP
        variance = float((errors[:, 0] ** 2).mean()) * np.diag(np.linalg.pinv(jacobian.T @ jacobian))
        deviation = np.sqrt(np.maximum(variance, 0.0))
        deviation[-1] /= max(float(x[-1]), 1e-3)
        of = ["+".join(self.joints[j] for j in group) for group in self.groups]
        labels = [f"{name}.{joints}" for name in self.names for joints in of] + ["latency_s"]
        return {label: round(float(value), 4) for label, value in zip(labels, deviation, strict=True)}

    def simulate(self, x: Floats) -> tuple[Floats, Floats]:
        """Positions and velocities (K, W, steps, J) of the trials x (P, K)."""
        trials, windows = x.shape[1], len(self.commands)
        batch = self._batch(trials * windows)
        self._set(batch, [self.physics(column) for column in x.T], windows)
        batch.reset(stage=0)
        for name, values in zip(("qpos", "qvel"), self.start, strict=True):
            batch.bind(name)[:] = np.tile(values, (trials, 1))
        control = np.concatenate([self._delayed(latency) for latency in x[-1] * LATENCY_UNIT_S])
        seen = batch.rollout(control.shape[1], control, record=("qpos", "qvel"))
        at = slice(self.substeps - 1, None, self.substeps)
        shape = (trials, windows, self.steps, len(self.joints))
        return seen["qpos"][:, at, self.qpos].reshape(shape), seen["qvel"][:, at, self.dof].reshape(shape)

    def _batch(self, size: int) -> Batch:
        if size not in self._batches:
            self._batches = {size: Batch(self.model, size)}
        return self._batches[size]

    def _set(self, batch: Batch, physics: Sequence[Physics], windows: int) -> None:
        if not self.names:
            return
        rows = [one.fields(self.model) for one in physics]
        for field in rows[0]:
            batch.expand(field)[:] = np.repeat(np.stack([row[field] for row in rows]), windows, axis=0)
        batch.set_const()

    def _delayed(self, latency_s: float) -> Floats:
        """Commands (W, steps * substeps, J) that arrive after the latency: within the substep in which one arrives, the
        mean, so that the error is a smooth function of the latency."""
        period = self.substeps * self.model.opt.timestep
        begin = (np.arange(self.steps * self.substeps) * self.model.opt.timestep - latency_s) / period
        first = np.floor(begin + 1e-9).astype(int)
        share = np.clip(begin + 1 / self.substeps - (first + 1), 0.0, None) * self.substeps  # of the next command
        rows = first + self.before
        now, later = self.commands[:, rows], self.commands[:, np.minimum(rows + 1, self.commands.shape[1] - 1)]
        return now + share[None, :, None] * (later - now)
