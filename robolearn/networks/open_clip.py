"""Any open_clip network by name or local directory: unit embeddings of images and sentences.

open_clip is an optional extra and is imported when a network is asked for. Images are squashed to the network's square
with an antialiased bicubic filter, on the device, whatever `resize_mode` the network was trained with, as VLM-RM does:
a centre crop would cut off what the reward is about. Legend: N images, H W image, D embedding.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.captured import Captured
from robolearn.networks.devices import usable_device
from robolearn.networks.torchvision_guard import declare_torchvision_operators

SIZES = 8  # of batches on a GPU: smaller ones are filled up to an eighth of the full size, two eighths ...
PATIENCE_S = 10.0  # with the server that has the weights
VOCABULARY_FILE = "bpe_vocabulary.txt.gz"  # beside a local network; open_clip's own is used without it


@dataclass(frozen=True)
class OpenClipConfig:
    """Which network, and how it is run."""

    model: str = "ViT-B-32"  # architecture, as open_clip lists it
    pretrained: str = "laion2b_s34b_b79k"  # tag of the weights
    model_dir: str = ""  # a directory with open_clip_config.json and weights, in the place of both names
    batch_size: int = 256  # images in one forward pass
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass
    device: str = "cpu"


class OpenClip:
    """A frozen CLIP in evaluation mode. Raises CheckpointError, in one line, where it cannot be had, and
    SpecError for a device that is not there, or batches of nothing."""

    def __init__(self, config: OpenClipConfig) -> None:
        if config.batch_size < 1:
            raise SpecError(f"batches of {config.batch_size} pictures; give at least 1")
        self.config = config
        self.device = usable_device(config.device)
        model, self._tokenizer, (mean, std) = _load(config)
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._captured: dict[torch.Size, Captured] = {}  # by the shape of a batch
        self._pool: Any = None  # of their memory
        size = model.visual.image_size
        self._height, self._width = size if isinstance(size, (tuple, list)) else (size, size)
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1) * 255.0
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1) * 255.0
        self._encoder = self._model
        if config.precision == "bfloat16":
            self._encoder = in_bfloat16(self._model, self._mean, self._std)
        self.size = int(self.text(["size"]).shape[-1])

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) on any device -> float32 (N, D) of unit length, on the network's device."""
        if not len(images):
            return torch.zeros(0, self.size, device=self.device)
        batches = -(-len(images) // self.config.batch_size)  # of one size, for a small last one costs as much
        return torch.cat([self._encode(part) for part in images.tensor_split(batches)])

    @torch.no_grad()
    def text(self, text: Sequence[str]) -> Tensor:
        """N sentences -> float32 (N, D) of unit length."""
        tokens = self._tokenizer(list(text)).to(self.device)
        return nn.functional.normalize(self._model.encode_text(tokens).float(), dim=-1)

    def weights(self) -> dict[str, Tensor]:
        """The network's tensors by name, and what pixels are normalised by, for the version."""
        return {**self._model.state_dict(), "pixel_mean": self._mean, "pixel_std": self._std}

    def version(self) -> int:
        """A number that other weights would not have."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return int.from_bytes(digest.digest()[:7], "big")

    def __deepcopy__(self, memo: dict[int, object]) -> OpenClip:
        """Itself: nothing trains it, and it is large."""
        return self

    def to(self, device: torch.device) -> None:
        """Move there."""
        if device != self.device:
            self.device = device
            self._captured.clear()
            self._pool = None
            self._model.to(device)
            self._encoder.to(device)
            self._mean, self._std = self._mean.to(device), self._std.to(device)

    def _encode(self, images: Tensor) -> Tensor:
        """Of one batch. On a GPU the kernels are launched together: to launch those of a forward pass one by one keeps
        the interpreter busy for longer than they take."""
        images, count = images.to(self.device, non_blocking=True), len(images)
        if self.device.type != "cuda":
            return self.embed(images)
        step = -(-self.config.batch_size // SIZES)
        filled = -(-count // step) * step
        if filled > count:
            images = torch.cat([images, images.new_zeros(filled - count, *images.shape[1:])])
        if images.shape not in self._captured:
            if len(self._captured) == SIZES:  # pictures of another size came
                return self.embed(images)[:count]
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._captured.setdefault(images.shape, Captured(self.embed, self._pool))
        return self._captured[images.shape](images)[:count]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """One batch of what `images` takes, on the network's device; on a GPU its kernels are launched one by one."""
        pixels = images.permute(0, 3, 1, 2)
        if pixels.shape[-2:] != (self._height, self._width):
            if self.device.type != "cpu":  # which alone filters bytes, fourteen times as fast and as Pillow rounds
                pixels = pixels.float()
            size = (self._height, self._width)
            pixels = nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp_(0, 255)
        if not isinstance(getattr(self._encoder.visual, "conv1", None), Patches):
            pixels = pixels.float().sub_(self._mean).div_(self._std)
            if self.config.precision == "bfloat16":
                pixels = pixels.bfloat16()
        return nn.functional.normalize(self._encoder.encode_image(pixels).float(), dim=-1)


class Patches(nn.Module):
    """The first convolution of a ViT, in bfloat16 and of pixels 0 to 255: its patches do not overlap, so it is one
    product, and its weights divide by the deviation of pixels themselves. A GPU is done in a tenth of the time.

    128 is taken from the pixels, which rounds no byte and leaves little of their mean to the bias.
    """

    MIDDLE = 128.0

    def __init__(self, convolution: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
        """mean and std (1, 3, 1, 1) of pixels."""
        super().__init__()
        weight = convolution.weight.float() / std
        bias = (weight * (self.MIDDLE - mean)).sum((1, 2, 3))
        if convolution.bias is not None:
            bias += convolution.bias
        self._height, self._width = convolution.kernel_size
        self.weight = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1).bfloat16(), requires_grad=False)
        self.bias = nn.Parameter(bias.bfloat16(), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) of any type -> (N, C, H / height, W / width)."""
        rows, columns = pixels.shape[2] // self._height, pixels.shape[3] // self._width
        pixels = pixels[:, :, : rows * self._height, : columns * self._width].permute(0, 2, 3, 1)
        patches = pixels.unflatten(2, (columns, self._width)).unflatten(1, (rows, self._height)).transpose(2, 3)
        middled = torch.empty(patches.shape, dtype=torch.bfloat16, device=pixels.device)
        torch.sub(patches, self.MIDDLE, out=middled)
        answer = nn.functional.linear(middled.flatten(3), self.weight, self.bias)
        return answer.permute(0, 3, 1, 2)


def in_bfloat16(model: Any, mean: Tensor, std: Tensor) -> Any:
    """The model with a copy of its image tower in bfloat16. To have autocast round weights and activations in each call
    takes a GPU half as long again, and gives the same numbers."""
    tower = copy.deepcopy(model.visual).to(torch.bfloat16)
    if isinstance(tower, import_open_clip().transformer.VisionTransformer):
        tower.conv1 = Patches(model.visual.conv1, mean, std)
    encoder = copy.copy(model)
    encoder._modules = {**model._modules, "visual": tower}
    return encoder


@lru_cache(maxsize=2)
def open_clip_network(name: str) -> OpenClip:
    """The network `MODEL/TAG`, or of a folder, loaded once in a process. Raises CheckpointError."""
    if Path(name).is_dir():
        return OpenClip(OpenClipConfig(model_dir=name))
    model, _, tag = name.partition("/")
    if not tag or "/" in tag:
        raise CheckpointError(
            f"{name!r} is no network of open_clip; wanted a folder, or MODEL/TAG such as ViT-B-32/laion2b_s34b_b79k"
        )
    return OpenClip(OpenClipConfig(model, tag))


def import_open_clip() -> Any:
    """The open_clip module. Raises CheckpointError, which says how to install it."""
    declare_torchvision_operators()
    try:
        import open_clip
    except ImportError as error:
        raise CheckpointError(
            f"CLIP needs open_clip, which is not installed ({error}); run `pip install robolearn[vlm]`"
        ) from error
    return open_clip


def _load(config: OpenClipConfig) -> tuple[Any, Any, tuple[Sequence[float], Sequence[float]]]:
    """Model, tokenizer, and mean and std of the pixels."""
    directory = Path(config.model_dir).absolute() if config.model_dir else None
    if directory is not None:
        _check_directory(directory)
    open_clip = import_open_clip()
    name = f"local-dir:{directory}" if directory else config.model
    if directory is None:
        if config.model not in open_clip.list_models():
            raise CheckpointError(f"open_clip has no model {config.model!r}; `open_clip.list_models()` names them")
        _check_network(open_clip, config)
    root_level, disabled = logging.getLogger().level, logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what goes wrong is said once, below
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            name, pretrained=None if directory else config.pretrained, require_pretrained=True
        )
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        wanted = str(directory) if directory else f"{config.model}/{config.pretrained}"
        raise CheckpointError(
            f"CLIP {wanted} could not be had: {reason}; "
            "check the names and the network, or give a local directory with --model-dir"
        ) from error
    finally:
        logging.disable(disabled)
        logging.getLogger().setLevel(root_level)
    tokenizer = _local_tokenizer(open_clip, directory) if directory else open_clip.get_tokenizer(config.model)
    normalize = transform.transforms[-1]
    return model, tokenizer, (tuple(normalize.mean), tuple(normalize.std))


def _check_network(open_clip: Any, config: OpenClipConfig) -> None:
    """Ask once for weights that were not downloaded before, where the library would try for most of a minute."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    found = open_clip.pretrained.get_pretrained_cfg(config.model, config.pretrained) or {}
    repository = "/".join(found.get("hf_hub", "").split("/")[:2])
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    if not repository or any(cache.glob("*/*")):
        return
    try:
        url = huggingface_hub.hf_hub_url(repository, "open_clip_config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE_S)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return  # there is an answer, and the library says more of it
    except Exception as error:  # of whichever HTTP client it uses
        raise CheckpointError(
            f"CLIP {config.model}/{config.pretrained} could not be had: no answer from "
            f"{huggingface_hub.constants.ENDPOINT} ({error}); check the network, or give a local directory with "
            "--model-dir"
        ) from error


def _check_directory(directory: Path) -> None:
    file = directory / "open_clip_config.json"
    if not file.is_file():
        raise CheckpointError(f"{directory} is no open_clip directory: it has no {file.name}")
    if not any(directory.glob("*.safetensors")):
        raise CheckpointError(f"{directory} holds no weights: open_clip_model.safetensors is missing")


def _local_tokenizer(open_clip: Any, directory: Path) -> Any:
    """open_clip ignores a vocabulary in the directory, and a context length that is not its own 77."""
    text = json.loads((directory / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    length = int(text.get("context_length", 77))
    vocabulary = directory / VOCABULARY_FILE
    if vocabulary.is_file():
        return open_clip.SimpleTokenizer(bpe_path=os.fspath(vocabulary), context_length=length)
    return open_clip.get_tokenizer(f"local-dir:{directory}", context_length=length)
