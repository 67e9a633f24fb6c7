"""The LoRAs and the upscaler of another tool's picture are found by name and by hash in the user's folders."""

import hashlib

import pytest

from sdcli.checkpoints import hashes
from sdcli.checkpoints.other_networks import with_names_here, with_networks_of
from sdcli.notes import telling
from sdcli.request.other_tools.reading import UPSCALER, OtherLora, OtherPicture
from tests import embeddings


@pytest.fixture
def anna(tool):
    (path,) = tool.rglob("anna.safetensors")
    return path


def picture(name="anna", hash="", **more):
    lora = OtherLora("loras", name, 0.5, 0.25, hash)
    return OtherPicture("Tool", {}, left={"loras": "all"}, loras=(lora,), **more)


def hashes_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest(), hashes.without_header(path)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("form", ["{}", "0x{}"])
def test_a_lora_of_another_name_is_found_by_the_hash_of_its_bytes_or_its_tensors(anna, which, form):
    changes, left = with_networks_of(picture("old", form.format(hashes_of(anna)[which][:12])), {})
    assert changes["lora"] == (f"{anna}@0.5:te=0.25",) and left == {}


def test_of_two_files_of_one_name_the_hash_decides(anna):
    other = embeddings.write(anna.parents[1] / "anna.safetensors", {"y": ((1,), [0.0])})
    for path in (anna, other):
        assert with_networks_of(picture("anna", hashes_of(path)[1][:12]), {})[0]["lora"][0].startswith(
            str(path)
        )
    assert with_networks_of(picture("anna"), {}) == ({}, {"loras": "anna 0.5 (text 0.25) (needs the LoRA file of "
                                                         "that name; name it with --lora)"})  # fmt: skip


def test_a_name_is_enough_where_no_file_has_the_hash(anna):
    for hash in ("", "0" * 10, "blake3:1234567890"):
        assert with_networks_of(picture("anna", hash), {})[0]["lora"] == (f"{anna}@0.5:te=0.25",)


def test_a_typed_lora_holds_in_place_of_the_tools(anna):
    assert with_networks_of(picture(), {"lora": ("mine",)}) == ({"lora": ("mine",)}, {})


def test_a_lora_in_a_prompt_gets_the_name_that_its_hash_has_here(anna):
    fields = {"prompt": "a cat <lora:old:0.8>, <lyco:old> <lora:older:1>", "negative": "old"}
    told = []
    with telling(told.append):
        found = with_names_here(
            picture(
                lora_hashes={"old": hashes_of(anna)[1][:12], "older": "0" * 12},
            )
        )
        assert found.fields == {} and told == []
        other = OtherPicture("A1111", fields, lora_hashes={"old": hashes_of(anna)[1][:12], "older": "0" * 12})
        found = with_names_here(other)
    assert found.fields["prompt"] == "a cat <lora:anna:0.8>, <lyco:anna> <lora:older:1>"
    assert found.fields["negative"] == "old" and len(told) == 1 and "called anna here" in told[0]


def test_an_upscaler_is_found_by_its_whole_name_alone(tool):
    def hires_by(name):
        other = OtherPicture("Tool", {}, left={UPSCALER: name}, upscaler=name)
        changes, left = with_networks_of(other, {})
        return changes.get("hires_by"), left

    path, left = hires_by("sharp")
    assert path.endswith("sharp.safetensors") and left == {}
    assert hires_by("shar") == (None, {UPSCALER: "shar"})
