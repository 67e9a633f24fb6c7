"""Library: the same networks as classes of diffusers and transformers, called as ours are.

They draw a picture with `--networks diffusers`, for comparison. The depth network (DPT) has no module of our own.
Nothing is imported until one of them is built.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.checkpoints.family import Config
from sdcli.models.architectures.clip import TextStates
from sdcli.models.architectures.unet import Residuals


def versions(*libraries: str) -> dict[str, str]:
    """The versions of these libraries, for the metadata of a picture that they had a part in."""
    return {name: version(name) for name in libraries}


def build(part: str, settings: Mapping[str, Any]) -> nn.Module:
    """The network `part` with these settings, by the library's class, with our tensor names and calls."""
    if part == "unet":
        return _unet(dict(settings))
    return _vae(dict(settings)) if part == "vae" else _text_encoder(dict(settings))


def depth_estimator(config: Config) -> nn.Module:
    """transformers' DPTForDepthEstimation."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.dpt.configuration_dpt import DPTConfig
    from transformers.models.dpt.modeling_dpt import DPTForDepthEstimation
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        network: nn.Module = DPTForDepthEstimation(
            DPTConfig(**copy.deepcopy(dict(config)))
        )  # it alters its config
    except StrictDataclassError as error:
        raise ValueError(str(error)) from None
    return network


def _unet(settings: dict[str, Any]) -> nn.Module:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    class LibraryUNet(UNet2DConditionModel):
        def forward(
            self,
            x: Tensor,
            t: Tensor,
            context: Tensor,
            *,
            pooled: Tensor | None = None,
            time_ids: Tensor | None = None,
            class_labels: Tensor | None = None,
            time_cond: Tensor | None = None,
            control: Residuals | None = None,
        ) -> Tensor:
            added = control or Residuals()
            sizes = {} if pooled is None else {"text_embeds": pooled, "time_ids": time_ids}
            out: Tensor = super().forward(
                x,
                t,
                context,
                class_labels,
                timestep_cond=time_cond,
                added_cond_kwargs=sizes,
                down_block_additional_residuals=tuple(added.down) or None,
                mid_block_additional_residual=added.mid,
                down_intrablock_additional_residuals=[each.clone() for each in added.features] or None,
                return_dict=False,
            )[0]
            return out

    _silence_diffusers()
    network: nn.Module = LibraryUNet.from_config(settings)
    for module in network.modules():
        if isinstance(module, Attention):
            _take_our_processors(module)
    return network


def _take_our_processors(attention: Any) -> None:
    """Let an attention of diffusers call its processor as ours do: with itself, x and the context alone.

    So whatever replaces the processor of our attention replaces that of the library's too.
    """
    processor = attention.processor

    def process(attention: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
        out: Tensor = processor(attention, x, encoder_hidden_states=context)
        return out

    def forward(x: Tensor, encoder_hidden_states: Tensor | None = None, **_: object) -> Tensor:
        out: Tensor = attention.processor(attention, x, encoder_hidden_states)
        return out

    attention.processor, attention.forward = process, forward


def _vae(settings: dict[str, Any]) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    class LibraryVAE(AutoencoderKL):
        def encode(self, x: Tensor) -> Tensor:
            mean: Tensor = super().encode(x).latent_dist.mode()
            return mean

        def decode(self, z: Tensor) -> Tensor:
            pixels: Tensor = super().decode(z).sample
            return pixels

    class LibraryTinyVAE(AutoencoderTiny):
        def encode(self, x: Tensor) -> Tensor:
            latents: Tensor = super().encode(x).latents
            return latents

        def decode(self, z: Tensor) -> Tensor:
            pixels: Tensor = super().decode(z).sample
            return pixels

    _silence_diffusers()
    kind = LibraryTinyVAE if "encoder_block_out_channels" in settings else LibraryVAE
    network: nn.Module = kind.from_config(settings)
    return network


def _text_encoder(settings: dict[str, Any]) -> nn.Module:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    pooled = settings["architectures"] == ["CLIPTextModelWithProjection"]
    inner = (CLIPTextModelWithProjection if pooled else CLIPTextModel)(CLIPTextConfig(**settings))
    return LibraryTextModel(inner)


class LibraryTextModel(nn.Module):
    """A text encoder of transformers under our tensor names: some of its versions put `text_model.` before them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = [inner]  # in a list, so that its tensors are not registered under another name
        for name, child in getattr(inner, "text_model", inner).named_children():
            self.add_module(name, child)
        if hasattr(inner, "text_projection"):
            self.text_projection = inner.text_projection

    def forward(
        self, ids: Tensor, embeddings: Tensor | None = None, mask: Tensor | None = None
    ) -> TextStates:
        """As CLIPTextModel's."""
        token_embedding = self.get_submodule("embeddings.token_embedding")
        hook = token_embedding.register_forward_hook(
            lambda *_: embeddings
        )  # None: the output stays what it is
        with hook:
            states = self.inner[0](ids, mask, output_hidden_states=True)
        return TextStates(list(states.hidden_states), getattr(states, "text_embeds", None))

    def embed(self, ids: Tensor) -> Tensor:
        """As CLIPTextModel's."""
        out: Tensor = self.get_submodule("embeddings.token_embedding")(ids)
        return out


def _silence_diffusers() -> None:
    """The library is silent: what matters of what diffusers would log is checked here, and raised."""
    from diffusers.utils import logging

    logging.set_verbosity_error()


def restore_buffers(network: nn.Module) -> None:
    """Give the buffers that no file holds, which are still on the meta device, their values."""
    for name, buffer in list(network.named_buffers()):
        if buffer.is_meta:
            if not name.endswith("position_ids"):
                raise AssertionError(f"no rule for the buffer {name}")
            owner, _, leaf = name.rpartition(".")
            positions = torch.arange(buffer.shape[-1]).expand(1, -1)
            network.get_submodule(owner).register_buffer(leaf, positions, persistent=False)
