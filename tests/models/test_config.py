"""Every key of a config.json is honoured as the libraries honour it, known to be harmless, or refused by name."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from sdcli import registry
from sdcli.checkpoints import network_config as config
from sdcli.errors import ModelError
from sdcli.models import build
from tests import judges
from tests.conftest import TOY
from tests.models.cases import CASES, TAESD, channels_last, random, token_ids, unet_inputs

UNET = {
    **TOY["unet"],
    "block_out_channels": [8, 16, 16],
    "layers_per_block": 2,
    "cross_attention_dim": 16,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
VAE = {**TOY["vae"], "mid_block_add_attention": True}
TEXT = {**TOY["text_encoder"], "hidden_size": 16, "vocab_size": 1000, "bos_token_id": 0, "eos_token_id": 999}
PROJECTING = {**TEXT, "architectures": ["CLIPTextModelWithProjection"], "projection_dim": 16}
KEYS = {"unet": config.UNET, "vae": config.VAE, "taesd": config.TAESD, "text_encoder": config.TEXT}
SMALL = {"unet": UNET, "vae": VAE, "taesd": TAESD, "text_encoder": TEXT}


def part_of(kind: str) -> str:
    return "vae" if kind == "taesd" else kind


@functools.cache
def library_defaults(kind: str) -> dict[str, Any]:
    """The config that the library's class writes if it is given nothing."""
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig

    if kind == "text_encoder":
        return dict(CLIPTextConfig().to_dict())
    with torch.device("meta"):
        network = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "taesd": AutoencoderTiny}[kind]()
    return dict(network.config)


@pytest.mark.parametrize("kind", KEYS)
def test_every_key_that_the_library_writes_is_accepted_at_its_default(kind):
    complete = config.settings(part_of(kind), library_defaults(kind))
    assert set(complete) == set(KEYS[kind].used)


@pytest.mark.parametrize("kind", KEYS)
def test_every_key_that_the_library_writes_is_in_one_list_and_in_one_only(kind):
    keys = KEYS[kind]
    lists = (set(keys.used), set(keys.only), keys.harmless)
    written = {key for key in library_defaults(kind) if not key.startswith("_")} - config._BOOKKEEPING
    counts = {key: sum(key in each for each in lists) for key in written | set().union(*lists)}
    assert {key for key, count in counts.items() if count != 1} == set()


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_is_absent_has_the_default_of_the_library(kind):
    def plain(value):
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    defaults = library_defaults(kind)
    assert {key: plain(value) for key, value in KEYS[kind].used.items()} == {
        key: plain(defaults[key]) for key in KEYS[kind].used
    }


@pytest.mark.parametrize("kind", KEYS)
def test_harmless_keys_change_no_setting(kind):
    base = config.settings(part_of(kind), SMALL[kind])
    for key in KEYS[kind].harmless | config._BOOKKEEPING:
        for value in (None, 7, "seven", [7]):
            assert config.settings(part_of(kind), {**SMALL[kind], key: value}) == base, key


ONLY = [(kind, key) for kind, keys in KEYS.items() for key in keys.only]
OTHER_VALUES = {  # such as other networks have
    "num_attention_heads": 8, "mid_block_scale_factor": 1.4, "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj", "dual_cross_attention": True, "class_embed_type": "timestep",
    "class_embeddings_concat": True, "resnet_skip_time_act": True, "resnet_out_scale_factor": 1.4,
    "time_embedding_type": "fourier", "time_embedding_dim": 64, "time_embedding_act_fn": "silu",
    "timestep_post_act": "silu", "conv_in_kernel": 1, "conv_out_kernel": 5,
    "attention_type": "gated", "mid_block_only_cross_attention": True, "cross_attention_norm": "group_norm",
    "upsample_fn": "bilinear", "upsampling_scaling_factor": 4,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), ONLY)
def test_a_setting_of_another_kind_of_network_is_refused_with_its_name_and_value(kind, key):
    value = OTHER_VALUES[key]
    with pytest.raises(ValueError) as raised:
        config.settings(part_of(kind), {**SMALL[kind], key: value})
    assert str(raised.value).startswith(f"{key} {value!r} ")
    with pytest.raises(ModelError, match=f"^folder: config.json describes no network .*{key}"):
        build.build_on_meta(part_of(kind), {**SMALL[kind], key: value}, "folder")


@pytest.mark.parametrize(("kind", "key"), ONLY)
def test_a_setting_of_another_kind_of_network_is_accepted_at_its_ordinary_values(kind, key):
    base = config.settings(part_of(kind), SMALL[kind])
    for value in KEYS[kind].only[key]:
        assert config.settings(part_of(kind), {**SMALL[kind], key: value}) == base


@pytest.mark.parametrize("kind", KEYS)
def test_an_unknown_key_is_refused_by_its_name(kind):
    with pytest.raises(ValueError, match="'brand_new_key'"):
        config.settings(part_of(kind), {**SMALL[kind], "brand_new_key": None})
    assert config.settings(part_of(kind), {**SMALL[kind], "_private": 1})


def compared(part: str, values: Mapping[str, Any]) -> list[torch.Tensor]:
    """What our network of this config answers with the library's random weights, after both answered the same bits."""
    theirs = judges.random(part, values)
    ours = build.build_random(part, values).eval()
    own = judges.weights(theirs)
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == {
        key: tensor.shape for key, tensor in own.items()
    }
    ours.load_state_dict(own)
    with torch.no_grad():
        answers, expected = _answers(part, values, ours, theirs)
    assert [answer.shape for answer in answers] == [answer.shape for answer in expected]
    assert all(torch.equal(answer, other) for answer, other in zip(answers, expected, strict=True))
    return answers


def _answers(part, values, ours, theirs):
    if part == "unet":
        inputs = unet_inputs(values, 2, 9, 13)
        return [inputs.ours(ours)], [inputs.theirs(theirs)]
    if part == "vae":
        settings = config.settings(part, values)
        levels = settings.get("block_out_channels") or settings["encoder_block_out_channels"]
        side = 4 * 2 ** (len(levels) - 1)
        z = channels_last(random(5, 2, settings["latent_channels"], 4, 4)) * 2
        x = channels_last(random(6, 2, settings["in_channels"], side, side))
        encoded = theirs.encode(x)
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return [ours.decode(z), ours.encode(x)], [theirs.decode(z).sample, latents]
    ids = token_ids(values)[:, : values.get("max_position_embeddings", 77)]
    states, judged = ours(ids), theirs(ids, output_hidden_states=True)
    final = ours.final_layer_norm(states.hidden_states[-1])
    answers = [*states.hidden_states, final]
    expected = [*judged.hidden_states, judged.last_hidden_state]
    if states.pooled is not None:
        answers, expected = [*answers, states.pooled], [*expected, judged.text_embeds]
    return answers, expected


def same(answers: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(answers) == len(others) and all(
        torch.equal(answer, other) for answer, other in zip(answers, others, strict=True)
    )


def shapes(part: str, values: Mapping[str, Any]) -> dict[str, torch.Size]:
    """The shape of every tensor of our network of this config."""
    return {
        key: tensor.shape for key, tensor in build.build_on_meta(part, values, "folder").state_dict().items()
    }


@functools.cache
def of_the_base(kind: str) -> list[torch.Tensor]:
    base = PROJECTING if kind == "projecting" else SMALL[kind]
    return compared("text_encoder" if kind == "projecting" else part_of(kind), base)


CROSS = ["CrossAttnDownBlock2D"] * 3
TEXT_TIME = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}
POOLED_TEXT = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}

UNET_CHANGES: list[dict[str, Any]] = [
    *({"act_fn": act} for act in ("mish", "gelu", "relu")),
    {"norm_eps": 1e-2},
    {"norm_num_groups": 2},
    {"flip_sin_to_cos": False},
    {"freq_shift": 1},
    {"center_input_sample": True},
    {"downsample_padding": 0},
    {"layers_per_block": 1},
    {"layers_per_block": [1, 2, 3]},
    {"transformer_layers_per_block": 2},
    {"transformer_layers_per_block": [1, 2, 3]},
    {
        "transformer_layers_per_block": [1, [2, 1], [3, 1]],
        "reverse_transformer_layers_per_block": [[1, 2, 3], [2, 1, 1], 1],
    },
    {"transformer_layers_per_block": 2, "reverse_transformer_layers_per_block": [3, 1, 1]},
    {"attention_head_dim": 4},
    {"attention_head_dim": [1, 2, 4]},
    {"cross_attention_dim": 24},
    {"only_cross_attention": [False, True, True]},
    {"only_cross_attention": [False, False, True]},
    {"only_cross_attention": True},
    {"use_linear_projection": True},
    {"resnet_time_scale_shift": "scale_shift"},
    {"mid_block_type": "UNetMidBlock2D"},
    {"mid_block_type": None},
    {"num_class_embeds": 50},
    {"time_cond_proj_dim": 24},
    TEXT_TIME,
    POOLED_TEXT,
    {**POOLED_TEXT, "addition_embed_type_num_heads": 2},
    {"in_channels": 9},
    {"out_channels": 8},
    {"block_out_channels": [16, 16, 32]},
    {"down_block_types": CROSS},
    {"up_block_types": ["CrossAttnUpBlock2D"] * 3},
    {"down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"] * 3},
]
VAE_CHANGES: list[dict[str, Any]] = [
    *({"act_fn": act} for act in ("mish", "gelu", "relu")),
    {"norm_num_groups": 4},
    {"layers_per_block": 2},
    {"block_out_channels": [4, 8], "down_block_types": ["DownEncoderBlock2D"] * 2,
     "up_block_types": ["UpDecoderBlock2D"] * 2},
    {"mid_block_add_attention": False},
    {"use_quant_conv": False},
    {"use_post_quant_conv": False},
    {"latent_channels": 16},
    {"in_channels": 4},
    {"out_channels": 4},
]  # fmt: skip
TAESD_CHANGES: list[dict[str, Any]] = [
    *({"act_fn": act} for act in ("silu", "mish", "gelu")),
    {"num_encoder_blocks": [2, 1, 1, 1]},
    {"num_decoder_blocks": [1, 1, 1, 1]},
    {"encoder_block_out_channels": [12] * 4},
    {"decoder_block_out_channels": [12] * 4},
    {"latent_channels": 16},
    {"in_channels": 1},
    {"out_channels": 1},
]
TEXT_CHANGES: list[dict[str, Any]] = [
    {"hidden_act": "gelu"},
    {"layer_norm_eps": 1e-2},
    {"num_attention_heads": 2},
    {"num_hidden_layers": 2},
    {"hidden_size": 32},
    {"intermediate_size": 32},
    {"vocab_size": 1200},
    {"max_position_embeddings": 40},
]
PROJECTING_CHANGES: list[dict[str, Any]] = [
    {"projection_dim": 24},
    {"eos_token_id": 2},
    {"eos_token_id": 500},
]
CHANGES = {
    "unet": UNET_CHANGES,
    "vae": VAE_CHANGES,
    "taesd": TAESD_CHANGES,
    "text_encoder": TEXT_CHANGES,
    "projecting": PROJECTING_CHANGES,
}
ELSEWHERE = {
    "scaling_factor",
    "shift_factor",
    "latents_mean",
    "latents_std",
}  # the pipeline applies them: tests/pipeline/test_vae.py


def names(changes: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in changes.items())


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param(kind, changes, id=f"{kind}-{names(changes)}")
        for kind, all_changes in CHANGES.items()
        for changes in all_changes
    ],
)
def test_a_changed_setting_changes_the_network_as_it_changes_the_librarys(kind, changes):
    part, base = ("text_encoder", PROJECTING) if kind == "projecting" else (part_of(kind), SMALL[kind])
    answers = compared(part, {**base, **changes})
    assert not same(answers, of_the_base(kind)) or shapes(part, {**base, **changes}) != shapes(part, base)


def test_the_changes_above_reach_every_key_that_is_used():
    for kind, keys in KEYS.items():
        changed = {key for changes in CHANGES[kind] for key in changes}
        if kind == "text_encoder":
            changed |= {key for changes in PROJECTING_CHANGES for key in changes} | {"architectures"}
        assert set(keys.used) - changed - ELSEWHERE == set(), kind


def test_a_text_encoder_with_a_projection_pools_and_one_without_does_not():
    assert len(of_the_base("projecting")) == len(of_the_base("text_encoder")) + 1


def test_the_end_token_of_old_configs_is_the_highest_id_of_a_row():
    """Configs written before transformers 4.28 say eos_token_id 2 whatever the vocabulary."""
    encoder = build.build_random("text_encoder", {**PROJECTING, "eos_token_id": 2})
    corrected = build.build_random("text_encoder", PROJECTING)
    ids = torch.tensor([[0, 2, 5, 999, 999]])
    assert torch.equal(encoder(ids).pooled, corrected(ids).pooled)


def test_silu_and_swish_are_one_activation():
    assert same(compared("unet", {**UNET, "act_fn": "swish"}), of_the_base("unet"))
    assert same(compared("vae", {**VAE, "act_fn": "swish"}), of_the_base("vae"))


@pytest.mark.parametrize("kind", ["sd1-unet", "sdxl-unet", "sd1-vae", "sdxl-text_encoder_2"])
def test_complete_settings_are_a_config_of_the_same_settings(kind):
    part, values = CASES[kind]
    complete = config.settings(part, values)
    assert config.settings(part, complete) == complete


@pytest.mark.parametrize("name", registry.names("families"))
def test_the_configs_of_every_family_say_nothing_that_is_refused(name):
    for part, values in registry.find("families", name).configs.items():
        if part != "depth_estimator":
            assert config.settings(part, values)


HUGE = 2**62
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("unet", {"layers_per_block": 2**40}),
    ("unet", {"layers_per_block": [1, 2**40, 1]}),
    ("unet", {"layers_per_block": []}),
    ("unet", {"layers_per_block": [1, 1]}),
    ("unet", {"layers_per_block": "many"}),
    ("unet", {"layers_per_block": None}),
    ("unet", {"layers_per_block": float("inf")}),
    ("unet", {"layers_per_block": 1.5}),
    ("unet", {"transformer_layers_per_block": 2**40}),
    ("unet", {"transformer_layers_per_block": [1, [2**40, 1], 1]}),
    ("unet", {"transformer_layers_per_block": [1, [2, 1], 1]}),
    ("unet", {"transformer_layers_per_block": [[], [], []]}),
    ("unet", {"reverse_transformer_layers_per_block": [2**40, 1, 1]}),
    ("unet", {"reverse_transformer_layers_per_block": []}),
    ("unet", {"block_out_channels": []}),
    ("unet", {"block_out_channels": [HUGE] * 3}),
    ("unet", {"block_out_channels": [8.5] * 3}),
    ("unet", {"block_out_channels": "320"}),
    ("unet", {"block_out_channels": ["8", "16", "16"]}),
    ("unet", {"block_out_channels": [-8, -16, -16]}),
    ("unet", {"block_out_channels": None}),
    ("unet", {"in_channels": HUGE}),
    ("unet", {"in_channels": "4"}),
    ("unet", {"cross_attention_dim": HUGE}),
    ("unet", {"cross_attention_dim": {}}),
    ("unet", {"attention_head_dim": []}),
    ("unet", {"norm_num_groups": 0}),
    ("unet", {"norm_num_groups": 3}),
    ("unet", {"norm_num_groups": None}),
    ("unet", {"norm_eps": "small"}),
    ("unet", {"act_fn": "snake"}),
    ("unet", {"act_fn": ["silu"]}),
    ("unet", {"freq_shift": "one"}),
    ("unet", {"downsample_padding": "same"}),
    ("unet", {"down_block_types": []}),
    ("unet", {"down_block_types": ["AttnDownBlock2D"] * 3}),
    ("unet", {"down_block_types": "DownBlock2D"}),
    ("unet", {"down_block_types": [["DownBlock2D"]] * 3}),
    ("unet", {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}),
    ("unet", {"resnet_time_scale_shift": "ada_group"}),
    ("unet", {"addition_embed_type": "image"}),
    ("unet", {"addition_embed_type": "text_time"}),
    ("unet", {"num_class_embeds": HUGE}),
    ("vae", {"layers_per_block": 2**40}),
    ("vae", {"layers_per_block": "1"}),
    ("vae", {"block_out_channels": []}),
    ("vae", {"block_out_channels": [HUGE] * 4}),
    ("vae", {"latent_channels": HUGE}),
    ("vae", {"latent_channels": "4"}),
    ("vae", {"scaling_factor": "0.18"}),
    ("vae", {"shift_factor": "none"}),
    ("unet", {"down_block_types": ["DownEncoderBlock2D"] * 3}),
    ("vae", {"down_block_types": ["DownBlock2D"] * 4}),
    ("vae", {"down_block_types": ["DownEncoderBlock2D"]}),
    ("vae", {"up_block_types": ["UpDecoderBlock2D"] * 5}),
    ("vae", {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}),
    ("taesd", {"num_encoder_blocks": [2**40] * 4}),
    ("taesd", {"num_decoder_blocks": []}),
    ("taesd", {"encoder_block_out_channels": []}),
    ("taesd", {"decoder_block_out_channels": [HUGE] * 4}),
    ("taesd", {"act_fn": 3}),
    ("text_encoder", {"num_hidden_layers": 2**40}),
    ("text_encoder", {"num_hidden_layers": "12"}),
    ("text_encoder", {"num_hidden_layers": []}),
    ("text_encoder", {"hidden_size": HUGE}),
    ("text_encoder", {"hidden_size": "512"}),
    ("text_encoder", {"vocab_size": HUGE}),
    ("text_encoder", {"vocab_size": -1}),
    ("text_encoder", {"hidden_act": "quick"}),
    ("text_encoder", {"hidden_act": {}}),
    ("text_encoder", {"layer_norm_eps": "1e-5"}),
    ("text_encoder", {"num_attention_heads": "8"}),
    ("text_encoder", {"architectures": ["CLIPTextModelWithProjection"], "eos_token_id": "end"}),
    ("text_encoder", {"architectures": ["CLIPTextModelWithProjection"], "eos_token_id": None}),
]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [pytest.param(kind, changes, id=f"{kind}-{names(changes)}") for kind, changes in HOSTILE],
)
def test_a_config_that_describes_no_network_is_a_model_error(kind, changes):
    message = r"^folder: config.json describes no network that can be built \(.+\); "
    advice = "get another copy of the model, or another model$"
    with pytest.raises(ModelError, match=message + advice):
        build.build_on_meta(part_of(kind), {**SMALL[kind], **changes}, "folder")


@pytest.mark.parametrize("kind", KEYS)
def test_building_on_meta_takes_no_memory_and_names_every_tensor(kind):
    network = build.build_on_meta(part_of(kind), SMALL[kind], "folder")
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    random_one = build.build_random(part_of(kind), SMALL[kind])
    assert list(network.state_dict()) == list(random_one.state_dict())


@pytest.mark.parametrize(
    ("part", "key"), [("unet", "act_fn"), ("vae", "act_fn"), ("text_encoder", "hidden_act")]
)
def test_an_unknown_activation_is_refused_by_the_name_of_its_key(part, key):
    with pytest.raises(ValueError, match=rf"^{key} 'snake' is not known here$"):
        config.settings(part, {key: "snake"})
