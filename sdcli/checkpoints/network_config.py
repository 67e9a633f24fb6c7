"""Config: a network's config.json as complete settings. Every key is used, known to be harmless, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdcli.checkpoints.family import Config
from sdcli.errors import ModelError

MAX_LAYERS = 200  # of any kind; the largest network here has 70
ACTIVATIONS = frozenset({"silu", "swish", "mish", "gelu", "relu"})
"""What `act_fn` may say."""
TEXT_ACTIVATIONS = frozenset({"quick_gelu", "gelu"})
"""What `hidden_act` may say."""
ABSENT = (None, False)
"""Values that mean the same as a key's absence."""

PER_LEVEL = frozenset(
    ["layers_per_block", "transformer_layers_per_block", "attention_head_dim", "cross_attention_dim"]
)
"""Numbers in whose place a list may give one for each level of the network."""

_BOOKKEEPING = frozenset({"model_type", "name_or_path", "torch_dtype", "dtype", "transformers_version"})
"""Keys about the file; so are all that begin with an underscore."""


@dataclass(frozen=True)
class Keys:
    """What the keys of a config mean here.

    `used` maps each key that is honoured to its default. `only` maps keys of variants that no network here has to the
    values that stand for the ordinary network. `harmless` are keys that change nothing in a picture. `kinds` are the
    words that may stand under a key, alone or in a list.
    """

    used: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless: frozenset[str] = frozenset()
    layers: tuple[str, ...] = ()  # keys that say how many layers are built
    kinds: Mapping[str, frozenset[str | None]] = field(default_factory=dict)


UNET = Keys(
    used={
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
        "reverse_transformer_layers_per_block": None,
        "attention_head_dim": 8,
        "cross_attention_dim": 1280,
        "only_cross_attention": False,
        "use_linear_projection": False,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "default",
        "act_fn": "silu",
        "downsample_padding": 1,
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "num_class_embeds": None,
        "time_cond_proj_dim": None,
        "addition_embed_type": None,
        "addition_embed_type_num_heads": 64,
        "addition_time_embed_dim": None,
        "projection_class_embeddings_input_dim": None,
    },
    only={
        "num_attention_heads": ABSENT,
        "mid_block_scale_factor": (1,),
        "encoder_hid_dim": ABSENT,
        "encoder_hid_dim_type": ABSENT,
        "dual_cross_attention": ABSENT,
        "class_embed_type": ABSENT,
        "class_embeddings_concat": ABSENT,
        "resnet_skip_time_act": ABSENT,
        "resnet_out_scale_factor": (1,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": ABSENT,
        "time_embedding_act_fn": ABSENT,
        "timestep_post_act": ABSENT,
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "attention_type": ("default",),
        "mid_block_only_cross_attention": ABSENT,
        "cross_attention_norm": ABSENT,
    },
    # The size is read elsewhere, dropout is for training, and attention is computed in one precision.
    harmless=frozenset({"sample_size", "dropout", "upcast_attention"}),
    layers=("layers_per_block", "transformer_layers_per_block", "reverse_transformer_layers_per_block"),
    kinds={
        "down_block_types": frozenset({"DownBlock2D", "CrossAttnDownBlock2D"}),
        "up_block_types": frozenset({"UpBlock2D", "CrossAttnUpBlock2D"}),
        "mid_block_type": frozenset({None, "UNetMidBlock2DCrossAttn", "UNetMidBlock2D"}),
        "addition_embed_type": frozenset({None, "text", "text_time"}),
        "resnet_time_scale_shift": frozenset({"default", "scale_shift"}),
        "act_fn": ACTIVATIONS,
    },
)

VAE = Keys(
    used={
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [64],
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 32,
        "act_fn": "silu",
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "scaling_factor": 0.18215,
        "shift_factor": None,
        "latents_mean": None,
        "latents_std": None,
    },
    harmless=frozenset({"sample_size", "force_upcast"}),  # a decode that overflows is made again in float32
    layers=("layers_per_block",),
    kinds={
        "down_block_types": frozenset({"DownEncoderBlock2D"}),
        "up_block_types": frozenset({"UpDecoderBlock2D"}),
        "act_fn": ACTIVATIONS,
    },
)

TAESD = Keys(
    used={
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "encoder_block_out_channels": [64, 64, 64, 64],
        "decoder_block_out_channels": [64, 64, 64, 64],
        "num_encoder_blocks": [1, 3, 3, 3],
        "num_decoder_blocks": [3, 3, 3, 1],
        "act_fn": "relu",
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
    },
    only={"upsample_fn": ("nearest",), "upsampling_scaling_factor": (2,)},
    # latent_magnitude and latent_shift are for storing latents as bytes; diffusers writes block_out_channels itself.
    harmless=frozenset(
        {"latent_magnitude", "latent_shift", "force_upcast", "sample_size", "block_out_channels"}
    ),
    layers=("num_encoder_blocks", "num_decoder_blocks"),
    kinds={"act_fn": ACTIVATIONS},
)

TEXT = Keys(
    used={
        "architectures": None,
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "projection_dim": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    },
    # Training, generating text and the library's own switches; the tokenizer has the ids of begin and padding.
    harmless=frozenset(
        [
            "attention_dropout",
            "dropout",
            "initializer_factor",
            "initializer_range",
            "bos_token_id",
            "pad_token_id",
            "sep_token_id",
            "decoder_start_token_id",
            "gradient_checkpointing",
            "return_dict",
            "output_hidden_states",
            "output_attentions",
            "torchscript",
            "use_bfloat16",
            "tf_legacy_loss",
            "pruned_heads",
            "tie_word_embeddings",
            "is_encoder_decoder",
            "is_decoder",
            "cross_attention_hidden_size",
            "add_cross_attention",
            "tie_encoder_decoder",
            "max_length",
            "min_length",
            "do_sample",
            "early_stopping",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "num_return_sequences",
            "chunk_size_feed_forward",
            "output_scores",
            "return_dict_in_generate",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "remove_invalid_values",
            "exponential_decay_length_penalty",
            "suppress_tokens",
            "begin_suppress_tokens",
            "finetuning_task",
            "id2label",
            "label2id",
            "tokenizer_class",
            "prefix",
            "task_specific_params",
            "problem_type",
            "use_cache",
        ]
    ),
    layers=("num_hidden_layers",),
    kinds={"hidden_act": TEXT_ACTIVATIONS},
)


def settings(part: str, config: Config) -> dict[str, Any]:
    """The complete settings of the network `part`: every key that is used, with its default where the config is silent.

    Raises ValueError, with the key, for one that no network here can honour.
    """
    return _completed(keys_of(part, config), config)


def keys_of(part: str, config: Config) -> Keys:
    """What the keys mean in the config of this part."""
    if part == "unet":
        return UNET
    if part == "vae":
        return TAESD if "encoder_block_out_channels" in config else VAE
    return TEXT


def per_level(value: Any, levels: int) -> list[Any]:
    """A setting for each level of a network: a list as it is, a single value repeated."""
    values = list(value) if isinstance(value, list | tuple) else [value] * levels
    if len(values) != levels:
        raise ValueError(f"{len(values)} values for {levels} levels")
    return values


def depths_of(depth: int | Sequence[int], layers: int) -> list[int]:
    """The number of transformer blocks behind each of so many residual blocks."""
    if isinstance(depth, int):
        return [depth] * layers
    if len(depth) < layers:
        raise ValueError(f"transformer_layers_per_block has {len(depth)} depths for {layers} layers")
    return list(depth)[:layers]


def not_built(path: str, reason: str) -> ModelError:
    """The error for a config, in the folder `path`, that describes no network that can be built."""
    return ModelError(
        f"{path}: config.json describes no network that can be built ({reason}); "
        "get another copy of the model, or another model"
    )


def _completed(keys: Keys, config: Config) -> dict[str, Any]:
    for key, value in config.items():
        if key in keys.only:
            if value not in keys.only[key]:
                raise ValueError(f"{key} {value!r} is of a kind of network that is not known here")
        elif key not in keys.used and key not in keys.harmless | _BOOKKEEPING and not key.startswith("_"):
            raise ValueError(f"the setting {key!r} is not known here")
        elif key in keys.used:
            _check_type(keys, key, value)
    complete = {**keys.used, **{key: value for key, value in config.items() if key in keys.used}}
    for key, known in keys.kinds.items():
        value = complete[key]
        for kind in value if isinstance(value, list | tuple) else [value]:
            if kind not in known:
                raise ValueError(f"{key} {kind!r} is not known here")
    if max(_numbers([complete.get(key) for key in keys.layers]), default=0) > MAX_LAYERS:
        raise ValueError(f"more than {MAX_LAYERS} layers")
    for key in keys.layers:
        fewest = 1 if key in ("layers_per_block", "num_hidden_layers") else 0
        if min(_numbers(complete.get(key)), default=fewest) < fewest:
            raise ValueError(f"{key} {complete[key]!r} are too few layers")
    return complete


def _check_type(keys: Keys, key: str, value: Any) -> None:
    """Raise ValueError for text or true where a number belongs, and for a single value where a list belongs."""
    default = keys.used[key]
    if key in keys.kinds or key == "architectures":
        is_right = not isinstance(default, list) or isinstance(value, list | tuple)
        wanted = "a list"
    elif isinstance(default, list):
        is_right, wanted = isinstance(value, list | tuple), "a list"
    elif isinstance(default, bool):
        is_right, wanted = value is None or isinstance(value, bool | list | tuple), "true or false"
    else:
        is_list = isinstance(value, list | tuple) and (default is None or key in PER_LEVEL)
        is_right = is_list or type(value) in (int, float) or value is default is None
        wanted = "a number"
    if not is_right:
        raise ValueError(f"{key} {value!r} is not {wanted}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value


def pixels_per_latent(vae_config: Mapping[str, Any]) -> int:
    """Pixels per latent on each side, by the config of the VAE: 8, but 4 for the x4 upscaler."""
    levels = vae_config.get("block_out_channels") or vae_config["encoder_block_out_channels"]
    return int(2 ** (len(levels) - 1))
