"""The environments that policies learn and are judged in: twins by task id, the same in the space of their tool by
`tool:<task id>`, Gymnasium's by `gym:<id>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from robolearn.envs.gym_env import PREFIX, GymVectorEnv
from robolearn.envs.stochastic import STORI, Stochasticity
from robolearn.envs.tool_space import TOOL
from robolearn.errors import SpecError
from robolearn.specs import InterfaceSpec
from robolearn.tasks import make_task

if TYPE_CHECKING:
    from robolearn.envs.robot_env import RobotEnv
    from robolearn.envs.tool_env import ToolEnv
    from robolearn.twin.randomize import Randomization

Info = dict[str, Any]


class Environments(Protocol):
    """N environments that are stepped together; the caller resets the rows that ended."""

    num_envs: int
    interface: InterfaceSpec

    def reset(
        self, *, seed: Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]: ...

    def step(self, actions: NDArray[np.float32]) -> tuple[Any, NDArray, NDArray, NDArray, Info]: ...

    def render(self) -> tuple[NDArray[np.uint8], ...] | None: ...

    def close(self, **kwargs: Any) -> None: ...


Reward = Callable[[NDArray, Info, Info], NDArray]
"""Rewards (N,) from those of the environment (N,) and the infos before and after the step."""


def _success(reward: NDArray, before: Info, after: Info) -> NDArray:
    return np.asarray(after["success"], np.float32)


def _progress(reward: NDArray, before: Info, after: Info) -> NDArray:
    """What the step added to the progress, and 1 for success: no sum of it grows by waiting."""
    return np.asarray(after["progress"] - before["progress"] + after["success"], np.float32)


REWARDS: Mapping[str, Reward] = {
    "task": lambda reward, before, after: reward,
    "success": _success,
    "progress": _progress,
}
"""What a step is worth: as the environment says, 1 for success, or the progress that was made and 1 for success."""


def is_gym(task: str) -> bool:
    return task.startswith(PREFIX)


def twin_task(task: str) -> str:
    """The id of the twin's task that `task` is about, in whatever space."""
    return task.removeprefix(TOOL)


class OneByOne(SyncVectorEnv):
    """Single environments stepped one after the other: engines, disturbances and spaces that no batch has."""

    def __init__(self, make: Callable[[], RobotEnv | ToolEnv], num_envs: int) -> None:
        super().__init__([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        self.interface: InterfaceSpec = cast("RobotEnv", self.envs[0].unwrapped).interface
        self._info: Info = {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        begins = (options or {}).get("reset_mask")
        seeds = seed if seed is None or isinstance(seed, int) else list(seed)
        shown, info = super().reset(seed=seeds, options=options)
        if begins is not None:  # Gymnasium's tells of those alone that begin
            for name in info.keys() & self._info.keys():
                info[name][~begins] = self._info[name][~begins]
        self._info = info
        return shown, info

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, Info]:
        shown, reward, terminated, truncated, self._info = super().step(actions)
        return shown, reward, terminated, truncated, self._info

    def render(self) -> Any:
        """Pictures (H, W, 3), one an environment."""
        return super().render()


def camera_sizes(spec: InterfaceSpec) -> dict[str, tuple[int, int]]:
    """Height and width of every camera that is seen."""
    images = {name: field.shape for name, field in spec.observation.items() if name.startswith("image_")}
    return {name.removeprefix("image_"): (shape[0], shape[1]) for name, shape in images.items()}


def make_environments(
    task: str,
    num_envs: int,
    render: bool | Mapping[str, tuple[int, int]] = False,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    engine: str = "mujoco",
    randomization: Randomization | None = None,
    stochasticity: Stochasticity = STORI["none"],
) -> Environments:
    """Environments for a policy of vectors: a twin shows its state and takes joint velocities in [-1, 1], or steps of
    its tool, see `ToolEnv`.

    render: whether `render` draws, by the twin's first camera; or the cameras, with height and width, that are drawn.
    cameras: height and width of each that the policy sees as well; a twin then shows no poses.
    engine, randomization, stochasticity: as of RobotEnv. Raises UnknownNameError for a task that does not exist, and
    SpecError for an environment of Gymnasium's with another engine or with disturbances.
    """
    if num_envs < 1:
        raise SpecError(f"{num_envs} environments; expected at least 1")
    batched = engine == "mujoco" and stochasticity == STORI["none"]
    if is_gym(task):
        if cameras:
            raise SpecError(f"{task} shows no images; images are for tasks of the twin")
        if not batched or randomization is not None:
            raise SpecError(f"{task} has its own world; engines and disturbances are for tasks of the twin")
        return GymVectorEnv(task, num_envs, render=bool(render))
    render_mode = "rgb_array" if render else None
    if task.startswith(TOOL):
        from robolearn.envs.tool_env import ToolEnv

        world = {"engine": engine, "randomization": randomization, "stochasticity": stochasticity}
        return OneByOne(partial(ToolEnv, twin_task(task), render_mode, cameras, **world), num_envs)
    from robolearn.envs.robot_env import RobotEnv
    from robolearn.envs.vector_env import RobotVectorEnv

    drawn = dict(render) if isinstance(render, Mapping) else None if render else {}
    shared: dict[str, Any] = {
        "cameras": cameras or drawn,
        "show_cameras": bool(cameras),
        "privileged": not cameras,
        "control": "joint_velocity",
        "randomization": randomization,
        "render_mode": render_mode,
    }
    if batched:
        return RobotVectorEnv(task, num_envs, autoreset_mode=AutoresetMode.DISABLED, **shared)
    return OneByOne(partial(RobotEnv, task, engine=engine, stochasticity=stochasticity, **shared), num_envs)


def seen_environments(task: str, num_envs: int, image_size: int) -> Environments:
    """Environments as `make_environments` makes them, with every camera of the task in square images of `image_size`
    pixels in the place of poses, unless that is 0."""
    size = (image_size, image_size)
    cameras = dict.fromkeys(make_task(twin_task(task)).cameras, size) if image_size else None
    return make_environments(task, num_envs, cameras=cameras)
