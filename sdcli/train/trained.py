"""Trained: what is learned, a LoRA or the vectors of a word: how it enters the network, and the file it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sdcli.checkpoints.embedding_file import PAIR
from sdcli.checkpoints.keys.adapters import ldm_path
from sdcli.convert.tensors import OutputTensor, safetensors
from sdcli.diffusion.conditioning import Cond
from sdcli.errors import OutOfMemory
from sdcli.models.model import Model
from sdcli.models.offload import Adapter
from sdcli.train import captions, metadata
from sdcli.train.folder import Example
from sdcli.train.lora_layers import LoraLayers
from sdcli.train.plan import Plan
from sdcli.train.settings import EmbeddingTraining, LoraTraining


class Trained(Protocol):
    """What is learned."""

    decays: bool  # its parameters are of a size that may shrink

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """What is learned by name, float32."""

    @property
    def adapters(self) -> Sequence[Adapter]:
        """What the networks are in while training."""

    def conds(self, numbers: Sequence[int]) -> list[Cond]:
        """What the U-Net is told of these examples, all of one length."""

    def file(self, steps: int) -> bytes:
        """The file after so many steps."""

    def drawn_with(self, path: str) -> Mapping[str, Any]:
        """The fields of a Request that draws with the file at this path."""


def trained_of(plan: Plan, model: Model) -> Trained:
    """What the plan asks to learn, at its first values. Raises OutOfMemory if the model cannot be held for it."""
    if model.networks.streams:
        raise OutOfMemory(
            f"{model.name}: training needs its U-Net in memory, which is short; take a smaller model"
        )
    if isinstance(plan.settings, EmbeddingTraining):
        return TrainedEmbedding(plan, plan.settings, model)
    assert isinstance(plan.settings, LoraTraining)
    return TrainedLora(plan, plan.settings, model)


def _common(plan: Plan, model: Model, steps: int) -> dict[str, str]:
    sha256 = model.facts["model"]["sha256"]
    return metadata.shared(plan.settings, plan.family, model.prediction, sha256, plan.examples, steps)


def _architecture(plan: Plan, model: Model) -> str:
    return metadata.names_of_base(plan.family, model.prediction)[1]


class TrainedLora:
    """A LoRA of the U-Net. The text encoders stay as they are, so their states of the captions are kept."""

    decays = True

    def __init__(self, plan: Plan, settings: LoraTraining, model: Model) -> None:
        assert settings.alpha is not None and settings.conv_rank is not None
        self.plan, self.settings, self.model = plan, settings, model
        self._states = captions.kept_states(model, [each.caption for each in plan.examples])
        self._empty = captions.kept_states(model, [""])[0].context
        self.layers = LoraLayers(
            model.unet,
            settings.rank,
            settings.alpha,
            settings.conv_rank,
            settings.seed,
            model.placement.device,
        )
        self.parameters: Mapping[str, Tensor] = self.layers.parameters
        self.adapters: Sequence[Adapter] = (self.layers.adapted,)

    def conds(self, numbers: Sequence[int]) -> list[Cond]:
        """Their kept states."""
        return captions.as_long([self._states[i] for i in numbers], self._empty)

    def file(self, steps: int) -> bytes:
        """A LoRA file under kohya's names: LDM's paths for SDXL, diffusers' for the others."""
        assert self.settings.alpha is not None and self.settings.conv_rank is not None
        names = self.model.unet.state_dict().keys()
        tensors = {}
        for path, alpha in self.layers.alphas.items():
            own = ldm_path(path, names) if self.plan.family == "sdxl" else path
            module = f"lora_unet_{own.replace('.', '_')}"
            tensors[f"{module}.lora_down.weight"] = self.layers.down[path]
            tensors[f"{module}.lora_up.weight"] = self.layers.up[path]
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
        own_facts = metadata.of_lora(
            self.settings.rank, self.settings.alpha, self.settings.conv_rank,
            _architecture(self.plan, self.model), self.plan.examples,
        )  # fmt: skip
        return _bytes(tensors, _common(self.plan, self.model, steps) | own_facts)

    def drawn_with(self, path: str) -> Mapping[str, Any]:
        """The file as a LoRA."""
        return {"lora": (path,)}


class TrainedEmbedding:
    """The vectors of a word, for each text encoder; the captions are encoded anew each time."""

    decays = False

    def __init__(self, plan: Plan, settings: EmbeddingTraining, model: Model) -> None:
        if model.networks.one_at_a_time:
            raise OutOfMemory(
                f"{model.name}: an embedding needs the text encoders and the U-Net in memory, which is short; "
                "take a smaller model, or train a LoRA"
            )
        self.plan, self.settings, self.model, self.word = plan, settings, model, str(settings.word)
        self.vectors = {part: _first_vectors(model, part, settings) for part in model.tokenizers}
        self.parameters: Mapping[str, Tensor] = dict(self.vectors)
        self.adapters: Sequence[Adapter] = ()
        words = {self.word: settings.vectors}
        self._chunks = [
            captions.chunks_of(model, caption_with(self.word, each), words) for each in plan.examples
        ]
        with torch.no_grad():
            self._empty = captions.states_of(model, captions.chunks_of(model, "")).context

    def conds(self, numbers: Sequence[int]) -> list[Cond]:
        """The states of the captions with the vectors as they are now; gradients reach them."""
        vectors = {part: {self.word: each} for part, each in self.vectors.items()}
        found = [captions.states_of(self.model, self._chunks[i], vectors) for i in numbers]
        return captions.as_long(found, self._empty)

    def file(self, steps: int) -> bytes:
        """An embedding as diffusers saves it, under the word; for SDXL a pair."""
        names = dict.fromkeys(self.vectors, self.word)
        if len(self.vectors) > 1:
            names = dict(zip(self.vectors, PAIR, strict=True))
        elif self.word.strip("<>").lower() == self.plan.settings.path.stem.lower():
            names = dict.fromkeys(self.vectors, "emb_params")
        facts = metadata.of_embedding(_architecture(self.plan, self.model), self.word)
        tensors = {names[part]: each for part, each in self.vectors.items()}
        return _bytes(tensors, _common(self.plan, self.model, steps) | facts)

    def drawn_with(self, path: str) -> Mapping[str, Any]:
        """The file as an embedding."""
        return {"embedding": (path,)}


def caption_with(word: str, example: Example) -> str:
    """The caption of an example, which names the word; one that is only a file's name is the word alone."""
    if word.lower() in example.caption.lower():
        return example.caption
    return word if example.is_named or not example.caption else f"{word}, {example.caption}"


def _first_vectors(model: Model, part: str, settings: EmbeddingTraining) -> Tensor:
    """The embeddings of the tokens of --init, again and again until there are enough."""
    ids = model.tokenizers[part].ids(settings.init)
    rows = torch.tensor([[ids[i % len(ids)] for i in range(settings.vectors)]], device=model.placement.device)
    with torch.no_grad():
        first = model.text_encoder(part).embed(rows)[0].float().clone()
    return first.requires_grad_()


@dataclass(frozen=True)
class _Weights:
    """Tensors by name, as a file's writer takes them."""

    tensors: Mapping[str, Tensor]

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name].detach().cpu().reshape(-1)

    def dtype(self, name: str) -> str:
        return "F32"

    def where(self, name: str) -> str:
        return "what was learned"


def _bytes(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """A safetensors file; unlike the format's own library, it writes the metadata in the same order each time."""
    weights = _Weights(tensors)
    named = [OutputTensor(name, list(each.shape), weights, [name]) for name, each in tensors.items()]
    return b"".join(safetensors(named, torch.float32, facts))
