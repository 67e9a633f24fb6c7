"""Hypernetwork files: what their metadata and tensors say, and what is refused in one line."""

import json

import pytest

from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.hypernet_file import is_hypernet, read_header
from sdcli.checkpoints.hypernets import check_fit
from sdcli.errors import ModelError, UsageError
from sdcli.request.weighted_file import WeightedFile, parse_weighted_file
from tests import adapter_files


def written(tmp_path, widths=(4,), **options):
    return adapter_files.hypernet(tmp_path / "style.safetensors", widths, **options)


def test_layers_are_numbered_past_activations_norms_and_dropout(tmp_path):
    file = read_header(
        written(
            tmp_path, structure=(1, 2, 2, 1), layer_norm=True, dropout=(0, 0.3, 0.3, 0), activation="relu"
        )
    )
    assert [(each.kind, each.number) for each in file.layers(4)] == [
        ("linear", 0),
        ("norm", 2),
        ("linear", 4),
        ("norm", 6),
        ("linear", 8),
        ("norm", 9),
    ]


def test_missing_metadata_mean_what_they_meant_to_a1111(tmp_path):
    tensors = {
        f"768.{half}.linear.{i}.{key}": adapter_files.values("x", shape[: 1 + (key == "weight")], 1)
        for half in (0, 1)
        for i, shape in ((0, (1536, 768)), (1, (768, 1536)))
        for key in ("weight", "bias")
    }
    file = read_header(adapter_files.write(tmp_path / "old.safetensors", tensors))
    assert (file.structure, file.activation, file.activates_output) == ((1, 2, 1), "linear", True)
    assert (file.has_norms, file.trained_for) == (False, "SD 1")


def test_very_old_files_name_their_two_layers_otherwise(tmp_path):
    tensors = {
        f"4.{half}.linear{i}.{key}": adapter_files.values("x", shape[: 1 + (key == "weight")], 1)
        for half in (0, 1)
        for i, shape in ((1, (8, 4)), (2, (4, 8)))
        for key in ("weight", "bias")
    }
    file = read_header(adapter_files.write(tmp_path / "old.safetensors", tensors))
    assert file.component.sources["4.1.linear.1.weight"].key == "4.1.linear2.weight"


def test_dropout_moves_the_numbers_by_the_old_words_too(tmp_path):
    path = written(
        tmp_path,
        structure=(1, 2, 2, 1),
        dropout=(0, 0.3, 0, 0),
        dropout_structure=None,
        use_dropout=True,
        last_layer_dropout=False,
    )
    assert read_header(path).dropout == (0, 0.3, 0, 0)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"activation_func": "prelu"}, "activation_func is '\"prelu\"'; did you mean 'relu'?"),
        ({"layer_structure": [2, 1]}, "layer_structure is '[2, 1]'; it is a list such as [1, 2, 1]"),
        ({"layer_structure": "x"}, "layer_structure is '\"x\"'; it is of the type list"),
        ({"dropout_structure": [0, 2, 0]}, "dropout_structure is '[0, 2, 0]'"),
        ({"is_layer_norm": "maybe"}, "is_layer_norm is '\"maybe\"'; it is of the type bool"),
        ({"gain": 2}, "the metadata 'gain' are unknown"),
        ({"is_layer_norm": True}, "missing; its metadata tell of other layers"),
        (
            {"layer_structure": [1, 1], "dropout_structure": [0, 0]},
            "too many; its metadata tell of other layers",
        ),
        ({"layer_structure": [1, 3, 1]}, "4.0.linear.0.weight is [8, 4], not [12, 4]"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path, metadata, message):
    path = written(tmp_path, **metadata)
    with pytest.raises(ModelError) as error:
        read_header(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="there is no such hypernetwork"):
        read_header(tmp_path / "style.safetensors")


def test_a_file_that_is_none_is_told_apart(tmp_path):
    path = adapter_files.write(tmp_path / "a.safetensors", {"x": adapter_files.values("x", [2], 1)})
    assert not is_hypernet(path)
    assert is_hypernet(written(tmp_path, layer_structure=[1, 1]))  # a damaged one is one
    with pytest.raises(ModelError, match="is no hypernetwork"):
        read_header(path)


@pytest.mark.parametrize(
    ("model", "widths", "message"),
    [
        ("test:sd1", (768, 320), "is a hypernetwork for SD 1, and test:sd1 reads a text of width 16"),
        ("test:sd1", (24,), "contexts of 24, and test:sd1"),
        ("test:sd1", (16,), None),
        ("test:sdxl", (32,), None),
        ("test:sdxl", (16,), None),  # its self-attention alone
        ("test:sdxl", (16, 768), "is a hypernetwork for SD 1"),
    ],
)
def test_a_file_of_another_family_is_refused_by_both_names(tmp_path, model, widths, message):
    path = written(tmp_path, widths)
    found = read(model)
    if message is None:
        check_fit(found, [WeightedFile(str(path))])
        return
    with pytest.raises(ModelError) as error:
        check_fit(found, [WeightedFile(str(path))])
    assert message in str(error.value)


def test_values_that_are_not_finite_are_refused_when_they_are_read(tmp_path):
    from sdcli.adapters.hypernet import networks

    tensors = {
        f"4.{half}.linear.0.{key}": adapter_files.values("x", shape, 1) * float("inf")
        for half in (0, 1)
        for key, shape in (("weight", (4, 4)), ("bias", (4,)))
    }
    path = adapter_files.write(tmp_path / "a.safetensors", tensors, {"layer_structure": json.dumps([1, 1])})
    with pytest.raises(ModelError, match=r"4 tensors .* not finite"):
        networks(read_header(path))


# --- FILE@0.5


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1),
        ("a.safetensors@0.5", "a.safetensors", 0.5),
        ("a.safetensors@-1", "a.safetensors", -1),
        ("me@home/a.safetensors", "me@home/a.safetensors", 1),
        ("me@home/a.safetensors@0", "me@home/a.safetensors", 0),
    ],
)
def test_a_strength_stands_behind_the_last_at_sign(text, path, strength):
    assert parse_weighted_file("--hypernet", text) == WeightedFile(path, strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a@x", "--hypernet a@x: 'x' is not a number"),
        ("a@nan", "is not a number"),
        ("a@", "'' is not a number"),
        ("a@11", "11 is outside -10...10"),
        ("@1", "names no file"),
    ],
)
def test_a_strength_that_cannot_be_meant_is_refused(text, message):
    with pytest.raises(UsageError) as error:
        parse_weighted_file("--hypernet", text)
    assert message in str(error.value)
