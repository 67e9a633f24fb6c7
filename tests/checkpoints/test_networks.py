"""The networks that a request names: by path, by name, and in its prompts."""

from pathlib import Path

import pytest

from sdcli import settings
from sdcli.checkpoints.networks import with_networks
from sdcli.errors import UsageError
from sdcli.request.request import Request
from tests import embeddings


@pytest.fixture
def folders(tmp_path):
    """A folder of LoRAs with a sub-folder, as `with_networks` asks for it."""
    for name in (
        "Style.safetensors",
        "people/anna.safetensors",
        "people/twin.safetensors",
        "twin.safetensors",
    ):
        embeddings.write(tmp_path / "loras" / name, {"a.lora_up.weight": ((1,), [0.0])})
    return lambda kind: [tmp_path / kind]


def loras(request):
    return [text.replace("\\", "/").rpartition("/loras/")[2] for text in request.lora]


def test_a_lora_in_the_prompt_becomes_an_option_and_leaves_the_words(folders):
    found = with_networks(Request(prompt="a cat <lora:Style:0.8>, red", emphasis="a1111"), folders)
    assert found.prompt == "a cat , red"
    assert loras(found) == ["Style.safetensors@0.8"]


def test_what_is_recorded_stays_as_it_is(folders):
    found = with_networks(Request(prompt="a cat <lora:anna>", lora=("Style@0.5:te=0",)), folders)
    assert loras(found) == ["Style.safetensors@0.5:te=0", "people/anna.safetensors@1"]
    assert with_networks(found) == found


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("style", "Style.safetensors"),
        ("Style.safetensors", "Style.safetensors"),
        ("people/twin", "people/twin.safetensors"),
        ("anna", "people/anna.safetensors"),
    ],
)
def test_a_name_is_that_of_a_file_in_any_case_and_in_any_sub_folder(folders, name, file):
    assert loras(with_networks(Request(prompt=f"<lora:{name}:1>"), folders)) == [f"{file}@1"]
    assert loras(with_networks(Request(lora=(f"{name}@1",)), folders)) == [f"{file}@1"]


def test_a_path_is_taken_as_it_is_though_there_is_no_folder(tmp_path):
    path = str(embeddings.write(tmp_path / "x.safetensors", {"a": ((1,), [0.0])}))
    assert with_networks(Request(lora=(f"{path}@0.5",))).lora == (f"{path}@0.5",)
    assert with_networks(Request(prompt=f"<lora:{path}:0.5>")).lora == (f"{path}@0.5",)


def test_the_regions_may_name_networks_and_the_negative_prompt_holds_words(folders):
    request = Request(negative="<lora:Style:1>", region=("a dog <lora:Style:1>@0,0,1,1",))
    found = with_networks(request, folders)
    assert found.region == ("a dog @0,0,1,1",)
    assert found.negative == "<lora:Style:1>"
    assert loras(found) == ["Style.safetensors@1"]


@pytest.mark.parametrize("change", [{"emphasis": "none"}, {"emphasis": "compel"}, {"like": "comfyui"}])
def test_a_prompt_in_another_language_names_none(folders, change):
    request = Request(prompt="a cat <lora:Style:1>", **change)
    assert with_networks(request, folders) == request


def test_other_words_in_angle_brackets_stay(folders):
    request = Request(prompt="<cat-toy> <b:c> <loras:Style:1>")
    assert with_networks(request, folders) == request


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("<lora:Stile:1>", r"no file in .*loras is called 'Stile'; did you mean 'Style'\?"),
        (
            "<lora:twin:1>",
            "both .*twin.safetensors and .*twin.safetensors are called so; name one with --lora",
        ),
        ("<lora::1>", "names no file"),
    ],
)
def test_a_name_that_no_file_or_several_files_have_is_a_usage_error(folders, prompt, message):
    with pytest.raises(UsageError, match=message):
        with_networks(Request(prompt=prompt), folders)


def test_without_a_folder_the_error_says_what_to_set():
    with pytest.raises(UsageError, match="'x': there is no folder of them; set SDCLI_LORAS to their folder"):
        with_networks(Request(prompt="<lora:x:1>"))


@pytest.mark.parametrize("layout", ["loras", "Lora"])
def test_the_folders_of_comfyui_and_a1111_are_found_beside_their_models(tmp_path, monkeypatch, layout):
    monkeypatch.delenv("SDCLI_LORAS", raising=False)
    (tmp_path / "models" / layout).mkdir(parents=True)
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path / "models" / "checkpoints"))
    assert settings.network_folders("loras") == [tmp_path / "models" / layout]
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path / "models"))
    assert settings.network_folders("loras") == [tmp_path / "models" / layout]


def test_the_variable_names_the_folders_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SDCLI_LORAS", str(tmp_path))
    assert settings.network_folders("loras") == [tmp_path]
    monkeypatch.setenv("SDCLI_LORAS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"SDCLI_LORAS: .*none is no folder"):
        settings.network_folders("loras")


def test_two_folders_of_different_spelling_on_one_disk_are_one(tmp_path, monkeypatch):
    (tmp_path / "loras").mkdir()
    monkeypatch.delenv("SDCLI_LORAS", raising=False)
    monkeypatch.setenv("SDCLI_MODELS", str(tmp_path))
    found = settings.network_folders("loras")
    assert len({Path(folder).resolve() for folder in found}) == len(found)
