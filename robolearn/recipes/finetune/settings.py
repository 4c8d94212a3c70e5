"""Settings of a run of fine-tuning; they lie as JSON in its folder, for every process of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from robolearn.algorithms.calql import CalQLConfig
from robolearn.algorithms.compute import Compute
from robolearn.algorithms.iql import IQLConfig
from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.algorithms.sac import SACConfig
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.tool_space import ToolSpace
from robolearn.envs.twin_cell import TwinCell
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.model_directory import config_from_json
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.recipes.finetune.supervisor import SupervisorConfig
from robolearn.tasks import make_task

FILE = "finetune.json"
ACTOR = GaussianPolicyConfig(hidden_sizes=(128, 128))
CLONED = GaussianPolicyConfig(hidden_sizes=(128, 128), distribution="clipped", log_std_low=-3.0)
CRITIC: dict[str, Any] = {"critic_hidden_sizes": (128, 128), "critic_layer_norm": True, "num_critics": 2}

GOES_ON = {"calql": ("rlpd", "calql"), "iql": ("iql",), "nothing": ("rlpd", "sac", "iql", "calql")}
"""By who has pre-trained: who can go on with those networks."""

PRACTISE_FROM_PICTURES = ("rlpd", "sac")

FROM_PICTURES = RLPDConfig(
    policy=GaussianPolicyConfig(hidden_sizes=(64, 64)),
    critic_hidden_sizes=(64, 64),
    num_critics=10,
    num_sampled_critics=2,
    critic_layer_norm=True,
    batch_size=64,
    utd=2,
    discount=0.97,
    actor_learning_rate=1e-3,
    critic_learning_rate=1e-3,
    temperature_learning_rate=1e-3,
    initial_temperature=0.3,
    backup_entropy=False,
    cloning_weight=3.0,
)
"""Of a policy of pictures: what learned to push from 20 demonstrations in `tool:push-v1`, for values some thirty times
as large."""


AMOUNTS = ("warmup_steps", "lag", "evaluate_every", "film_every", "pretraining_steps")
"""Settings of a run that are 0 or more."""
COUNTS = ("average", "evaluation_episodes")
"""Settings of a run that are 1 or more."""


@dataclass(frozen=True)
class InterventionsConfig:
    """A person at the controls, played by the scripted expert with noise.

    They take over for `steps` decisions, with `attention`, after an action that wasted more than `ratio` allows: one
    worth less than `ratio` times what the expert, without noise, would have done there; and with 1 - attention after
    any other (RLIF, section 5, its value-based trigger). What an action is worth is asked of the critics of another
    run, which got good by the task's own reward. `ratio` has to be above the discount, for to idle costs just that
    factor, and a learner that may idle unpunished will.
    """

    ratio: float = 0.0  # 0: nobody is there
    critic: str = ""  # folder of that run
    attention: float = 0.95
    steps: int = 4
    noise: float = 0.0  # standard deviation of what is added to the expert's actions


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that a run depends on."""

    task: str
    reward: Literal["true", "success", "vlm", "progress", "person"] = "success"
    reward_models: tuple[str, ...] = ()  # folders for success (which without one is a classifier of states), vlm and
    # progress: one for all tasks, or one each, forward first
    shaping: float = 0.0  # of vlm and progress: their reward is made dense by so much for the whole way; 0: it is not
    force_reward: bool = False  # let a model near a robot that did not pass its audit
    cell: str = ""  # file of the physical cell that practises; empty: the twin
    graph: Literal["", "robot", "twin"] = ""  # practise on that of the ROS graph, by the node `practice`
    namespace: str = ""  # of the nodes of that robot and its cameras, such as /left; empty: none
    instruction: str = ""  # who makes vectors of the tasks' sentences, by which the policy is told its task: `words`, a
    # text tower of open_clip (MODEL/TAG or a folder); empty: by the task's number
    things: Literal["seen", "unseen"] = "seen"  # unseen: nobody knows where they are, as in a cell without tags
    image_size: int = 0  # of the pictures, [pixels] high and wide, that the policy sees; 0: it sees where things are
    cameras: str = ""  # whose pictures, comma separated; empty: those of the task
    teleop: str = ""  # with which a person may take over: a name of TELEOPERATORS; a cell has its own, `cell` names it
    false_positives: float = 0.0  # share of near misses that the judge is made to call done, to try what that does
    online: Literal["warm_up", "symmetric"] = "symmetric"  # WSRL without the old data, or half of every batch old
    rewards: Literal["task", "intervention"] = "task"  # what a step is worth: the judge's word, or RLIF's rule
    seed: int = 0
    warmup_steps: int = 0  # decisions before learning, by the policy as it is
    average: int = 1000  # decisions over which the policy that is judged and kept is a running mean of the newest
    lag: int = 1  # attempts that the policy in use may be behind what was learned
    evaluate_every: int = 2000  # decisions; 0: never
    evaluation_episodes: int = 25
    film_every: int = 25  # attempts between two that are filmed
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    practice: PracticeConfig = field(default_factory=PracticeConfig)
    interventions: InterventionsConfig = field(default_factory=InterventionsConfig)
    algorithm: Literal["rlpd", "sac", "iql", "calql"] = "rlpd"  # that learns online
    pretrained_by: Literal["calql", "iql", "nothing"] = "calql"
    pretraining_steps: int = 1500
    rlpd: RLPDConfig = field(
        default_factory=lambda: RLPDConfig(
            policy=ACTOR, batch_size=128, utd=2, discount=0.97, initial_temperature=0.1, backup_entropy=False, **CRITIC
        )
    )
    sac: SACConfig = field(
        default_factory=lambda: SACConfig(
            policy=ACTOR, batch_size=128, utd=2, discount=0.97, critic_hidden_sizes=(128, 128)
        )
    )
    iql: IQLConfig = field(
        default_factory=lambda: IQLConfig(policy=CLONED, batch_size=128, discount=0.97, critic_hidden_sizes=(128, 128))
    )
    calql: CalQLConfig = field(
        default_factory=lambda: CalQLConfig(
            policy=ACTOR,
            batch_size=128,
            discount=0.97,
            initial_temperature=0.1,
            actor_learning_rate=3e-4,
            target_entropy_per_action=-0.5,
            conservatism=5.0,
            num_actions=2,
            **CRITIC,
        )
    )
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        rule, discount = self.interventions, self.learner.discount
        if self.algorithm not in GOES_ON[self.pretrained_by]:
            raise SpecError(
                f"{self.algorithm} cannot go on with networks of {self.pretrained_by}; {self.pretrained_by} goes with "
                f"{' or '.join(GOES_ON[self.pretrained_by])}, or set pretrained_by"
            )
        if self.image_size < 0 or (self.cameras and not self.image_size):
            raise SpecError(f"image_size is {self.image_size}; for a policy of pictures give their pixels, such as 64")
        if self.image_size and (self.pretrained_by != "nothing" or self.algorithm not in PRACTISE_FROM_PICTURES):
            raise SpecError(
                "from pictures rlpd and sac learn, with nothing pre-trained: set algorithm=rlpd pretrained_by=nothing"
            )
        if self.rlpd.cloning_weight and self.online != "symmetric":
            raise SpecError("rlpd.cloning_weight holds the policy to the old data; it wants online=symmetric")
        if rule.ratio and not discount < rule.ratio <= 1.0:
            raise SpecError(
                f"intervention ratio is {rule.ratio:g}, the discount {discount:g}; it has to lie above the discount "
                "and be at most 1, or the learner may idle unpunished"
            )
        if self.supervisor.tasks > 2:
            raise SpecError(
                f"supervisor.tasks is {self.supervisor.tasks}; a task is practised alone or with its way back"
            )
        models, least = len(self.reward_models), int(self.reward in ("vlm", "progress"))
        most = self.supervisor.tasks if least or self.reward == "success" else 0
        if not least <= models <= most:
            raise SpecError(
                f"reward {self.reward} came with {models} reward models; vlm and progress want one for both tasks or "
                "one each, success may have them, and nothing else wants any: --reward-model FOLDER"
            )
        if self.unseen and not self.image_size:
            raise SpecError(
                "things=unseen came for a policy that sees where they are; let it see pictures: --set image_size=64"
            )
        if self.unseen and (
            self.interventions.ratio or self.reward == "true" or not (models or self.reward == "person")
        ):
            raise SpecError(
                "where things are unseen, neither the true reward, nor a classifier of states, nor the scripted person "
                "(interventions.ratio) knows anything; take --reward person, or --reward success --reward-model FOLDER"
            )
        if self.reward == "person" and not (self.real or self.teleop):
            raise SpecError("--reward person in the twin wants --teleop, such as keyboard; it then runs in real time")
        dense = self.reward in ("vlm", "progress") and self.rewards == "task"
        if self.shaping < 0 or (self.shaping and not dense):
            raise SpecError(
                f"shaping is {self.shaping:g}; it makes the task's reward by --reward vlm or progress dense, and is at "
                "least 0"
            )
        if self.cell and self.graph:
            raise SpecError("--cell is a cell of this computer, --graph one of the ROS graph; give one of them")
        if self.namespace and not self.graph:
            raise SpecError("--namespace is that of nodes on the ROS graph; give --graph, too")
        if self.real and (self.reward == "true" or self.interventions.ratio or self.false_positives):
            raise SpecError(
                "the true reward, the scripted person (interventions.ratio) and false_positives are the twin's; on a "
                "robot take --reward success, and --teleop for a person"
            )
        if not 0.0 <= self.false_positives <= 1.0:
            raise SpecError(f"false_positives is {self.false_positives:g}; expected a share from 0 to 1")
        for least, names in ((0, AMOUNTS), (1, COUNTS)):
            for name in names:
                if getattr(self, name) < least:
                    raise SpecError(f"{name} is {getattr(self, name)}; expected at least {least}")

    @property
    def unseen(self) -> bool:
        """Whether nobody knows where things are."""
        return self.things == "unseen"

    @property
    def unwatched(self) -> str:
        """What is not watched, in words; else empty."""
        if not self.unseen:
            return ""
        rules = self.supervisor
        asked = f"{rules.failed_attempts} failed attempts in a row" if rules.tasks > 1 else "every attempt"
        return (
            "things are unseen: nobody watches whether one is lost, moved or stuck, and the arm brings none back; a "
            f"person is asked after {asked}"
        )

    @property
    def held_to_demonstrations(self) -> bool:
        """Whether the old data that are used online are the demonstrations that succeeded, each at its own task."""
        held = self.rewards == "intervention" or (self.algorithm == "rlpd" and self.rlpd.cloning_weight > 0)
        return held and self.online == "symmetric"

    @property
    def real(self) -> bool:
        """Whether it is another world than the twin of the collector, which cannot be put back."""
        return bool(self.cell or self.graph)

    @property
    def learner(self) -> Any:
        """Settings of the algorithm that learns online."""
        settings = getattr(self, self.algorithm)
        return replace(settings, policy=replace(settings.policy, images=self.image_size > 0))

    @property
    def pretrainer(self) -> Any:
        """Settings of the algorithm that learns before."""
        return self.learner if self.pretrained_by == "nothing" else getattr(self, self.pretrained_by)

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The target task, and its way back where that is practised too."""
        return (self.task, make_task(self.task).backward)[: self.supervisor.tasks]

    def from_pictures(self, image_size: int) -> FinetuneConfig:
        """The same practice by a policy that sees pictures, with settings that have learned from them."""
        return replace(self, image_size=image_size, pretrained_by="nothing", rlpd=FROM_PICTURES, average=100)

    def provenance(self, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
        """What a checkpoint tells of where it was practised, for a robot to run it (`envs/tool_policy.py`). sizes:
        (H, W) by name of the pictures that its cameras gave."""
        limits = {"tool_low": list(self.practice.tool_low), "tool_high": list(self.practice.tool_high)}
        return {"tasks": [self.task], "cameras": {name: list(size) for name, size in sizes.items()}, **limits}

    def space(self) -> ToolSpace:
        names = self.cameras.split(",") if self.cameras else make_task(self.task).cameras
        cameras = dict.fromkeys(names, (self.image_size, self.image_size)) if self.image_size else None
        limits = self.practice
        return ToolSpace(
            self.task_ids, limits.tool_low, limits.tool_high, self.instruction, cameras=cameras, unseen=self.unseen
        )

    def world(self) -> PracticeWorld:
        """In a twin of its own."""
        space = self.space()
        cell = TwinCell(make_task(self.task), space.cameras, unseen=self.unseen)
        return PracticeWorld(space, self.practice, cell)

    def write(self, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        (run / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, run: Path) -> FinetuneConfig:
        """Raises CheckpointError when `run` is none of ours."""
        try:
            told = json.loads((run / FILE).read_text(encoding="utf-8"))
            return replace(config_from_json(cls, told), compute=Compute.begun(told.get("compute", {})))
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = f"it has no {FILE}" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            raise CheckpointError(f"{run} is no run of finetune; {why}") from error
