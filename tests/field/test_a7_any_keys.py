"""A7: some keys of a network's config, changed at random and together, change what the network answers as they change
diffusers' and transformers' answers, bit for bit, or are refused from the config alone.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcli.checkpoints import tensor_shapes
from sdcli.errors import ModelError
from sdcli.models import build
from tests.models.test_config import KEYS, OTHER_VALUES, SMALL, compared, part_of

VALUES = {
    "layers_per_block": [1, 2, 3], "norm_num_groups": [2, 4], "norm_eps": [1e-6, 0.1], "attention_head_dim": [2, 4],
    "transformer_layers_per_block": [1, 2], "freq_shift": [0, 1], "in_channels": [3, 4, 9], "out_channels": [3, 4],
    "latent_channels": [4, 8], "cross_attention_dim": [16, 24], "num_hidden_layers": [1, 2, 3],
    "num_attention_heads": [2, 4], "intermediate_size": [16, 64], "layer_norm_eps": [1e-6, 0.1],
    "projection_dim": [8, 16], "max_position_embeddings": [77], "num_class_embeds": [None, 1000],
    "scaling_factor": [0.13, 1.0],
}  # fmt: skip
"""Key -> values that some network has; the words and switches of the tables come on top."""


def values_of(kind, key):
    """The values that are tried for a key of this kind of network."""
    keys = KEYS[kind]
    if key in keys.only:
        ordinary = [value for value in keys.only[key] if value is not False]  # for which diffusers wants null
        return [*ordinary, OTHER_VALUES[key]] if key in OTHER_VALUES else ordinary
    default = keys.used[key]
    if isinstance(default, bool):
        return [True, False]
    words = sorted(keys.kinds.get(key, ()), key=str) if isinstance(default, str) else []
    return [*words, *VALUES.get(key, [])]


CHOICES = {kind: {key: values_of(kind, key) for key in (*KEYS[kind].used, *KEYS[kind].only)} for kind in KEYS}


@st.composite
def changed_configs(draw):
    """(kind, keys): a kind of network, and one to three keys of its config with other values."""
    kind = draw(st.sampled_from(sorted(CHOICES)))
    keys = sorted(key for key, values in CHOICES[kind].items() if values)
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True))
    return kind, {key: draw(st.sampled_from(CHOICES[kind][key])) for key in chosen}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, derandomize=True)
@given(changed_configs())
def test_a7_keys_are_honoured_as_the_libraries_honour_them_or_refused(changed):
    kind, keys = changed
    part, config = part_of(kind), {**SMALL[kind], **keys}
    try:
        needed = tensor_shapes.of_network(part, config, "folder")
    except ModelError as error:
        assert any(key in str(error) for key in keys), error
        return
    network = build.build_on_meta(part, config, "folder")
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == needed
    compared(part, config)
