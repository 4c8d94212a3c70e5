"""What all trainers of reward models are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from robolearn.errors import SpecError
from robolearn.networks.devices import usable_device
from robolearn.rewards.endpoint import EndpointConfig
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.vlm import VLMConfig

REPORT_STEPS = 20  # gradient steps from one report of a training to the next

Report = Callable[[int, str], None]
"""Called with the steps done and a short text."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training."""

    cameras: tuple[str, ...] = ("front",)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # `small` takes the size of the dataset's images
    proprio: bool = True  # models that may look at proprio do
    steps: int = 600  # gradient steps
    batch_size: int = 64
    learning_rate: float = 1e-3
    held_out: float = 0.2  # share of episodes that is only audited on
    seed: int = 0
    device: str = "cpu"
    pairs: int = 1000  # preference: comparisons to make
    segment: int = 1  # preference: steps of what is compared; more than one are segments, whose rewards are summed
    labeller: Literal["task", "outcome", "factors", "endpoint", "people"] = "task"  # preference: who compares; `task`
    # goes by its progress, `people` are those who did on the web page
    factors: tuple[str, ...] = ()  # preference: columns or fields that `factors` compares, the most important one first
    goal: str = ""  # preference, keypoints: what `endpoint` is told; the instruction where empty
    wrong_answers: float = 0.0  # preference: share of the rule's answers that are turned round, to see what noise does
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)  # preference, keypoints: where they ask
    single_stage: bool = False  # progress: the whole of each success is one stage, which nobody has to annotate
    method: Literal["nearest", "transport"] = "nearest"  # matching: what a step is paid for
    false_positive_rate: float = 0.01  # success: which the threshold is chosen for on episodes that were not trained on
    success_dir: str = ""  # keypoints: folder of a success classifier, which overrides; none where empty
    vlm: VLMConfig = field(default_factory=lambda: VLMConfig(alpha=0.0))  # vlm: all but the camera

    def __post_init__(self) -> None:
        usable_device(self.device)
        if min(self.steps, self.batch_size, self.pairs, self.segment) < 1 or self.seed < 0:
            raise SpecError(
                f"{self.steps} steps of batches of {self.batch_size}, {self.pairs} pairs, segments of {self.segment}, "
                f"seed {self.seed}; expected at least 1 of each and a seed of at least 0"
            )
        if not 0.0 <= self.wrong_answers <= 1.0:
            raise SpecError(f"wrong_answers is {self.wrong_answers:g}; expected a share from 0 to 1")
        if not 0.0 < self.false_positive_rate < 1.0:
            raise SpecError(f"false_positive_rate is {self.false_positive_rate:g}; expected a share between 0 and 1")
