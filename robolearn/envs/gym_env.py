"""Gymnasium's own environments by the id `gym:<id>`, with the face of our vector environment.

Legend: N environments, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from robolearn.errors import SpecError, UnknownNameError
from robolearn.opengl import load_triton_first
from robolearn.specs import ArraySpec, InterfaceSpec, image_spec

PREFIX = "gym:"
CAMERA = "render"


class GymVectorEnv(VectorEnv[dict[str, NDArray], NDArray[np.float32], NDArray]):
    """`num_envs` environments of Gymnasium, `task_id` is `gym:HalfCheetah-v5` for its HalfCheetah-v5.

    Observations have the field `state` (D,) float32, and, with `image_size` (H, W), what the environment draws as
    `image_render` (H, W, 3). `settings` are the environment's own. An ended row is reset by the caller:
    `reset(seed=[...], options={"reset_mask": mask})`. Raises UnknownNameError for an unknown id, and SpecError for an
    environment that is not made of vectors, or cannot be made here, for actions that are none, and for a step after
    the end of an episode.
    """

    def __init__(
        self,
        task_id: str,
        num_envs: int,
        image_size: tuple[int, int] | None = None,
        render: bool = False,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        name = task_id.removeprefix(PREFIX)
        drawn: dict[str, Any] = {}
        if render or image_size:
            load_triton_first()
            drawn["render_mode"] = "rgb_array"
        try:
            self._envs = gymnasium.make_vec(
                name,
                num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
                **drawn,
                **settings,
            )
        except gymnasium.error.UnregisteredEnv as error:
            raise UnknownNameError("Gymnasium environment", name, gymnasium.registry) from error
        except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
            raise SpecError(f"{task_id} cannot be made here: {str(error).splitlines()[0]}") from error
        state, action = self._envs.single_observation_space, self._envs.single_action_space
        if not isinstance(state, spaces.Box) or len(state.shape) != 1 or not isinstance(action, spaces.Box):
            self._envs.close()
            raise SpecError(f"{task_id} has observation {state} and action {action}; wanted vectors of numbers")
        self._name = task_id
        self.num_envs = num_envs
        self._image_size = image_size
        self._ended = np.zeros(num_envs, np.bool_)
        first = self._envs.envs[0]  # type: ignore[attr-defined]
        self.control_hz = _control_hz(first)
        fields = {"state": ArraySpec((state.shape[0],))}
        if image_size:
            fields[f"image_{CAMERA}"] = image_spec(*image_size)
        low, high = tuple(action.low.tolist()), tuple(action.high.tolist())
        self.interface = InterfaceSpec(fields, ArraySpec(action.shape, low=low, high=high), self.control_hz)
        self.single_observation_space = spaces.Dict(
            {
                key: spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
                if spec.dtype == "float32"
                else spaces.Box(0, 255, spec.shape, np.uint8)
                for key, spec in fields.items()
            }
        )
        self.single_action_space = action
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = self._envs.action_space
        self.metadata = {**self._envs.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Start an episode in every row, or in those of `options["reset_mask"]` (N,) bool."""
        seeds: Any = list(seed) if isinstance(seed, Sequence) else seed
        self._ended &= ~(options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        state, info = self._envs.reset(seed=seeds, options=dict(options or {}))  # it takes the mask out
        return self._observe(state), info

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape or actions.dtype.kind not in "fiu":
            raise SpecError(f"actions are {actions.dtype} {actions.shape}, expected {self.action_space.shape} float32")
        if not np.isfinite(actions).all():
            raise SpecError(f"{self._name} got an action that is not finite")
        if self._ended.any():
            raise SpecError(f"environment {self._ended.argmax()} has ended; reset it before the next step")
        state, reward, terminated, truncated, info = self._envs.step(actions)
        self._ended = terminated | truncated
        return self._observe(state), reward, terminated, truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Pictures (H, W, 3), one an environment, of the size that the environment chooses. Raises SpecError where it
        was not made to be drawn."""
        if self._envs.render_mode is None:
            raise SpecError(f"{self._name} was made without pictures; make it with render=True or an image_size")
        try:
            return tuple(np.asarray(picture, np.uint8) for picture in self._envs.render() or ())
        except (gymnasium.error.Error, ImportError) as error:  # a renderer that is not installed
            raise SpecError(f"{self._name} cannot be drawn here: {str(error).splitlines()[0]}") from error

    def close_extras(self, **kwargs: Any) -> None:
        self._envs.close()

    def _observe(self, state: NDArray) -> dict[str, NDArray]:
        observation: dict[str, NDArray] = {"state": np.array(state, np.float32)}
        if self._image_size:
            height, width = self._image_size
            pictures = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in self.render()]
            observation[f"image_{CAMERA}"] = np.stack(pictures).astype(np.uint8)
        return observation


def _control_hz(env: gymnasium.Env) -> float:
    """Steps a simulated second, as far as the environment tells."""
    dt = getattr(env.unwrapped, "dt", None)
    return float(1.0 / dt) if dt else float(env.metadata.get("render_fps") or 1.0)
