"""Tensor shapes: the names and shapes of a network's tensors by its config alone, computed without torch.

The modules in models/architectures/ have exactly these tensors, in this order; a test compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sdcli.checkpoints import network_config
from sdcli.checkpoints.family import Config

Shapes = Mapping[str, list[int]]
"""Name in the network -> shape, in the order of the network's state dict."""

MAX_SIDE = 2**24
"""The longest side of a tensor; the longest in a published network is the vocabulary, of 49,408 tokens."""

_NONSENSE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What Python raises for settings that make no sense, such as text where a list of widths belongs."""


def of_network(part: str, config: Config, path: str) -> Shapes:
    """The tensors of the network `part` (unet, vae, text_encoder, …) with this config.

    Raises ModelError, which names `path`, if the config describes no network that can be built.
    """
    try:
        settings = network_config.settings(part, config)
        return _WALKS[_kind(part, settings)](settings)
    except _NONSENSE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise network_config.not_built(path, reason) from None


def _kind(part: str, settings: Mapping[str, Any]) -> str:
    if part == "vae" and "encoder_block_out_channels" in settings:
        return "taesd"
    return "text_encoder" if part.startswith("text_encoder") else part


class _Walk:
    """The tensors collected so far; each method adds those of one layer and checks that it can exist."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[int]] = {}

    def tensor(self, name: str, *shape: int) -> None:
        self.shapes[name] = [_side(name, side) for side in shape]

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", outputs, inputs)
        if bias:
            self.tensor(f"{name}.bias", outputs)

    def conv(self, name: str, inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", outputs, inputs, kernel, kernel)
        if bias:
            self.tensor(f"{name}.bias", outputs)

    def norm(self, name: str, width: int, groups: int = 1) -> None:
        if _side("norm_num_groups", groups) and _side(name, width) % groups:
            raise ValueError(f"{groups} groups do not divide {width} channels")
        self.tensor(f"{name}.weight", width)
        self.tensor(f"{name}.bias", width)

    def resnet(
        self, name: str, inputs: int, outputs: int, groups: int, time_width: int = 0, scales: bool = False
    ) -> None:
        """A residual block; `time_width` is that of the time embedding, 0 if it reads none."""
        self.norm(f"{name}.norm1", inputs, groups)
        self.conv(f"{name}.conv1", inputs, outputs)
        if time_width:
            self.linear(f"{name}.time_emb_proj", time_width, 2 * outputs if scales else outputs)
        self.norm(f"{name}.norm2", outputs, groups)
        self.conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            self.conv(f"{name}.conv_shortcut", inputs, outputs, 1)

    def attention(self, name: str, width: int, heads: int, context: int, bias: bool = False) -> None:
        _check_heads(width, heads)
        self.linear(f"{name}.to_q", width, width, bias)
        self.linear(f"{name}.to_k", context, width, bias)
        self.linear(f"{name}.to_v", context, width, bias)
        self.linear(f"{name}.to_out.0", width, width)


def _side(name: str, value: Any) -> int:
    """The value as one side of a tensor's shape; raises ValueError for one that no tensor has."""
    if type(value) is not int or not 0 < value <= MAX_SIDE:
        raise ValueError(f"{name} has a side of {value!r}")
    return value


def _check_heads(width: int, heads: int) -> None:
    if _side("num_attention_heads", heads) and width % heads:
        raise ValueError(f"{heads} attention heads do not divide a width of {width}")


# --- U-Net


class _UNetWalk(_Walk):
    """The U-Net's blocks: residual blocks and transformers of one level."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.widths = list(settings["block_out_channels"])
        self.time_width = 4 * self.widths[0]
        self.groups = settings["norm_num_groups"]
        self.scales = settings["resnet_time_scale_shift"] == "scale_shift"
        self.is_linear = bool(settings["use_linear_projection"])
        count = len(self.widths)
        self.heads = network_config.per_level(settings["attention_head_dim"], count)
        self.contexts = network_config.per_level(settings["cross_attention_dim"], count)
        self.only_cross = network_config.per_level(settings["only_cross_attention"], count)

    def block(self, name: str, inputs: int, outputs: int) -> None:
        self.resnet(name, inputs, outputs, self.groups, self.time_width, self.scales)

    def transformer(self, name: str, level: int, depth: int, only_cross: bool = False) -> None:
        width, heads, context = self.widths[level], self.heads[level], self.contexts[level]
        projection = self.linear if self.is_linear else functools.partial(self.conv, kernel=1)
        self.norm(f"{name}.norm", width, self.groups)
        projection(f"{name}.proj_in", width, width)
        for number in range(depth):
            block = f"{name}.transformer_blocks.{number}"
            self.norm(f"{block}.norm1", width)
            self.attention(f"{block}.attn1", width, heads, context if only_cross else width)
            self.norm(f"{block}.norm2", width)
            self.attention(f"{block}.attn2", width, heads, context)
            self.norm(f"{block}.norm3", width)
            self.linear(f"{block}.ff.net.0.proj", width, 8 * width)
            self.linear(f"{block}.ff.net.2", 4 * width, width)
        projection(f"{name}.proj_out", width, width)


def _unet(settings: Mapping[str, Any]) -> Shapes:
    walk = _UNetWalk(settings)
    first = walk.widths[0]
    walk.conv("conv_in", settings["in_channels"], first)
    walk.linear("time_embedding.linear_1", first, walk.time_width)
    if settings["time_cond_proj_dim"] is not None:
        walk.linear("time_embedding.cond_proj", settings["time_cond_proj_dim"], first, bias=False)
    walk.linear("time_embedding.linear_2", walk.time_width, walk.time_width)
    _unet_extra_embeddings(walk, settings)
    _unet_down_blocks(walk, settings)
    _unet_middle(walk, settings)
    _unet_up_blocks(walk, settings)
    walk.norm("conv_norm_out", first, walk.groups)
    walk.conv("conv_out", first, settings["out_channels"])
    return walk.shapes


def _unet_extra_embeddings(walk: _UNetWalk, settings: Mapping[str, Any]) -> None:
    """What is added to the time embedding: a class, the pooled text and sizes, or the text states."""
    width = walk.time_width
    if settings["num_class_embeds"] is not None:
        walk.tensor("class_embedding.weight", settings["num_class_embeds"], width)
    if settings["addition_embed_type"] == "text":
        text = settings["cross_attention_dim"]
        _check_heads(_side("cross_attention_dim", text), settings["addition_embed_type_num_heads"])
        walk.norm("add_embedding.norm1", text)
        walk.tensor("add_embedding.pool.positional_embedding", 1, text)
        for letter in "kqv":
            walk.linear(f"add_embedding.pool.{letter}_proj", text, text)
        walk.linear("add_embedding.proj", text, width)
        walk.norm("add_embedding.norm2", width)
    elif settings["addition_embed_type"] == "text_time":
        _side("addition_time_embed_dim", settings["addition_time_embed_dim"])
        walk.linear("add_embedding.linear_1", settings["projection_class_embeddings_input_dim"], width)
        walk.linear("add_embedding.linear_2", width, width)


def _unet_down_blocks(walk: _UNetWalk, settings: Mapping[str, Any]) -> None:
    count = len(walk.widths)
    kinds = network_config.per_level(settings["down_block_types"], count)
    layers = network_config.per_level(settings["layers_per_block"], count)
    depths = network_config.per_level(settings["transformer_layers_per_block"], count)
    if type(settings["downsample_padding"]) is not int or settings["downsample_padding"] < 0:
        raise ValueError(f"downsample_padding {settings['downsample_padding']!r}")
    for level, width in enumerate(walk.widths):
        below = walk.widths[max(level - 1, 0)]
        name = f"down_blocks.{level}"
        for i in range(layers[level]):
            walk.block(f"{name}.resnets.{i}", below if i == 0 else width, width)
        if kinds[level] == "CrossAttnDownBlock2D":
            _transformers(walk, name, level, network_config.depths_of(depths[level], layers[level]))
        if level < count - 1:
            walk.conv(f"{name}.downsamplers.0.conv", width, width)


def _transformers(walk: _UNetWalk, name: str, level: int, depths: Sequence[int]) -> None:
    """The transformers of a level, one for each depth."""
    for i, depth in enumerate(depths):
        walk.transformer(f"{name}.attentions.{i}", level, depth, bool(walk.only_cross[level]))


def _unet_middle(walk: _UNetWalk, settings: Mapping[str, Any]) -> None:
    last = len(walk.widths) - 1
    width, kind = walk.widths[last], settings["mid_block_type"]
    depths = network_config.per_level(settings["transformer_layers_per_block"], len(walk.widths))
    depth = network_config.depths_of(depths[-1], 1)[0]
    blocks = {None: 0, "UNetMidBlock2D": 1, "UNetMidBlock2DCrossAttn": 2}[kind]
    for i in range(blocks):
        walk.block(f"mid_block.resnets.{i}", width, width)
    if blocks == 2:
        walk.transformer("mid_block.attentions.0", last, depth)


def _unet_up_blocks(walk: _UNetWalk, settings: Mapping[str, Any]) -> None:
    count = len(walk.widths)
    kinds = network_config.per_level(settings["up_block_types"], count)
    layers = network_config.per_level(settings["layers_per_block"], count)[::-1]
    depths = settings["reverse_transformer_layers_per_block"]
    if depths is None:
        depths = network_config.per_level(settings["transformer_layers_per_block"], count)[::-1]
    upwards = walk.widths[::-1]
    for i, width in enumerate(upwards):
        level, name, resnets = count - 1 - i, f"up_blocks.{i}", layers[i] + 1
        for j in range(resnets):
            inputs = upwards[max(i - 1, 0)] if j == 0 else width
            skip = upwards[min(i + 1, count - 1)] if j == resnets - 1 else width
            walk.block(f"{name}.resnets.{j}", inputs + skip, width)
        if kinds[i] == "CrossAttnUpBlock2D":
            _transformers(walk, name, level, network_config.depths_of(depths[i], resnets))
        if i < count - 1:
            walk.conv(f"{name}.upsamplers.0.conv", width, width)


# --- control networks


def of_control(kind: str, settings: Mapping[str, Any], path: str) -> Shapes:
    """The tensors of a control network with these complete settings: a ControlNet, a union net or a T2I-Adapter.

    Raises ModelError, which names `path`, if the settings describe no network that can be built.
    """
    try:
        return _t2i_adapter(settings) if kind.startswith("t2i") else _controlnet(settings)
    except _NONSENSE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise network_config.not_built(path, reason) from None


def _controlnet(settings: Mapping[str, Any]) -> Shapes:
    walk = _UNetWalk(settings)
    first, last = walk.widths[0], walk.widths[-1]
    walk.conv("conv_in", settings["in_channels"], first)
    walk.linear("time_embedding.linear_1", first, walk.time_width)
    walk.linear("time_embedding.linear_2", walk.time_width, walk.time_width)
    _unet_extra_embeddings(walk, settings)
    _unet_down_blocks(walk, settings)
    _unet_middle(walk, settings)
    _hint_encoder(walk, settings)
    for i, width in enumerate(_skip_widths(walk, settings)):
        walk.conv(f"controlnet_down_blocks.{i}", width, width, 1)
    walk.conv("controlnet_mid_block", last, last, 1)
    if settings["control_types"]:
        _union(walk, settings)
    return walk.shapes


def _hint_encoder(walk: _Walk, settings: Mapping[str, Any]) -> None:
    name, widths = "controlnet_cond_embedding", settings["hint_channels"]
    walk.conv(f"{name}.conv_in", settings["conditioning_channels"], widths[0])
    for i, width in enumerate(widths[:-1]):
        walk.conv(f"{name}.blocks.{2 * i}", width, width)
        walk.conv(f"{name}.blocks.{2 * i + 1}", width, widths[i + 1])
    walk.conv(f"{name}.conv_out", widths[-1], settings["block_out_channels"][0])


def _skip_widths(walk: _UNetWalk, settings: Mapping[str, Any]) -> list[int]:
    """The widths of the U-Net's skip connections: the first convolution's, and those of each level."""
    count = len(walk.widths)
    layers = network_config.per_level(settings["layers_per_block"], count)
    own = [[width] * (layers[i] + (i < count - 1)) for i, width in enumerate(walk.widths)]
    return [walk.widths[0], *(width for level in own for width in level)]


def _union(walk: _UNetWalk, settings: Mapping[str, Any]) -> None:
    width, types = walk.widths[0], settings["control_types"]
    block = "transformer_layes.0"
    walk.tensor("task_embedding", types, width)
    walk.tensor(f"{block}.attn.in_proj_weight", 3 * width, width)
    walk.tensor(f"{block}.attn.in_proj_bias", 3 * width)
    walk.linear(f"{block}.attn.out_proj", width, width)
    walk.norm(f"{block}.ln_1", width)
    walk.linear(f"{block}.mlp.c_fc", width, 4 * width)
    walk.linear(f"{block}.mlp.c_proj", 4 * width, width)
    walk.norm(f"{block}.ln_2", width)
    walk.linear("spatial_ch_projs", width, width)
    walk.linear(
        "control_add_embedding.linear_1", types * settings["addition_time_embed_dim"], walk.time_width
    )
    walk.linear("control_add_embedding.linear_2", walk.time_width, walk.time_width)


def _t2i_adapter(settings: Mapping[str, Any]) -> Shapes:
    walk, light = _Walk(), settings["light"]
    width = settings["hint_channels"] * settings["shrink"] ** 2
    if not light:
        walk.conv("conv_in", width, settings["channels"][0])
        width = settings["channels"][0]
    for i, outputs in enumerate(settings["channels"]):
        inner = outputs // 4 if light else outputs
        if light or width != outputs:
            walk.conv(f"body.{i}.in_conv", width, inner, 1)
        for j in range(settings["blocks"]):
            walk.conv(f"body.{i}.resnets.{j}.block1", inner, inner)
            walk.conv(f"body.{i}.resnets.{j}.block2", inner, inner, 3 if light else 1)
        if light:
            walk.conv(f"body.{i}.out_conv", inner, outputs, 1)
        width = outputs
    return walk.shapes


# --- VAE


def _vae(settings: Mapping[str, Any]) -> Shapes:
    walk = _Walk()
    widths, latent = list(settings["block_out_channels"]), settings["latent_channels"]
    for side, kinds in (("encoder", "down_block_types"), ("decoder", "up_block_types")):
        if len(settings[kinds]) != len(widths):
            raise ValueError(f"{len(settings[kinds])} values in {kinds} for {len(widths)} levels")
        _vae_side(walk, side, widths if side == "encoder" else widths[::-1], settings)
    if settings["use_quant_conv"]:
        walk.conv("quant_conv", 2 * latent, 2 * latent, 1)
    if settings["use_post_quant_conv"]:
        walk.conv("post_quant_conv", latent, latent, 1)
    return walk.shapes


def _vae_side(walk: _Walk, side: str, widths: list[int], settings: Mapping[str, Any]) -> None:
    """The encoder or the decoder; `widths` are those of its levels in the order in which they run."""
    groups, latent, is_encoder = settings["norm_num_groups"], settings["latent_channels"], side == "encoder"
    walk.conv(f"{side}.conv_in", settings["in_channels"] if is_encoder else latent, widths[0])
    if not is_encoder:
        _vae_middle(walk, side, widths[0], settings)
    blocks, resample = ("down_blocks", "downsamplers") if is_encoder else ("up_blocks", "upsamplers")
    for level, width in enumerate(widths):
        name = f"{side}.{blocks}.{level}"
        for i in range(settings["layers_per_block"] + (not is_encoder)):
            walk.resnet(f"{name}.resnets.{i}", widths[max(level - 1, 0)] if i == 0 else width, width, groups)
        if level < len(widths) - 1:
            walk.conv(f"{name}.{resample}.0.conv", width, width)
    if is_encoder:
        _vae_middle(walk, side, widths[-1], settings)
    walk.norm(f"{side}.conv_norm_out", widths[-1], groups)
    walk.conv(f"{side}.conv_out", widths[-1], 2 * latent if is_encoder else settings["out_channels"])


def _vae_middle(walk: _Walk, side: str, width: int, settings: Mapping[str, Any]) -> None:
    groups, name = settings["norm_num_groups"], f"{side}.mid_block"
    if settings["mid_block_add_attention"]:
        walk.attention(f"{name}.attentions.0", width, 1, width, bias=True)
        walk.norm(f"{name}.attentions.0.group_norm", width, groups)
    for i in range(2):
        walk.resnet(f"{name}.resnets.{i}", width, width, groups)


def _taesd(settings: Mapping[str, Any]) -> Shapes:
    walk = _Walk()
    latent = settings["latent_channels"]
    layers = 0

    def blocks(side: str, width: int, count: int) -> None:
        nonlocal layers
        for _ in range(count):
            for number in (0, 2, 4):  # activations between them
                walk.conv(f"{side}.layers.{layers}.conv.{number}", width, width)
            layers += 1

    widths, counts = settings["encoder_block_out_channels"], settings["num_encoder_blocks"]
    for i, (width, count) in enumerate(zip(widths, counts, strict=True)):
        inputs = settings["in_channels"] if i == 0 else width
        walk.conv(f"encoder.layers.{layers}", inputs, width, bias=i == 0)
        layers += 1
        blocks("encoder", width, count)
    walk.conv(f"encoder.layers.{layers}", widths[-1], latent)

    widths, counts = settings["decoder_block_out_channels"], settings["num_decoder_blocks"]
    walk.conv("decoder.layers.0", latent, widths[0])
    layers = 2  # the second is an activation
    for i, (width, count) in enumerate(zip(widths, counts, strict=True)):
        is_last = i == len(widths) - 1
        blocks("decoder", width, count)
        layers += not is_last  # the enlargement
        outputs = settings["out_channels"] if is_last else width
        walk.conv(f"decoder.layers.{layers}", width, outputs, bias=is_last)
        layers += 1
    return walk.shapes


# --- text encoder


def _text_encoder(settings: Mapping[str, Any]) -> Shapes:
    walk = _Walk()
    width, inner = settings["hidden_size"], settings["intermediate_size"]
    walk.tensor("embeddings.token_embedding.weight", settings["vocab_size"], width)
    walk.tensor("embeddings.position_embedding.weight", settings["max_position_embeddings"], width)
    _check_heads(width, settings["num_attention_heads"])
    for number in range(settings["num_hidden_layers"]):
        layer = f"encoder.layers.{number}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            walk.linear(f"{layer}.self_attn.{projection}", width, width)
        walk.norm(f"{layer}.layer_norm1", width)
        walk.linear(f"{layer}.mlp.fc1", width, inner)
        walk.linear(f"{layer}.mlp.fc2", inner, width)
        walk.norm(f"{layer}.layer_norm2", width)
    walk.norm("final_layer_norm", width)
    if settings["architectures"] == ["CLIPTextModelWithProjection"]:
        int(settings["eos_token_id"])
        walk.linear("text_projection", width, settings["projection_dim"], bias=False)
    return walk.shapes


_WALKS = {"unet": _unet, "vae": _vae, "taesd": _taesd, "text_encoder": _text_encoder}
