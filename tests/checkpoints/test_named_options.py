"""Names, parts of names and hashes of files in the options that take a file."""

import hashlib
import json

import pytest

from sdcli.checkpoints import hashes
from sdcli.checkpoints.lookup import any_file, with_any_hash
from sdcli.checkpoints.recorded import recorded
from sdcli.checkpoints.upscaler_file import find as find_upscaler
from sdcli.errors import ModelError, UsageError
from sdcli.notes import telling
from sdcli.request.request import Request
from tests import embeddings


def file_called(tool, name):
    (path,) = tool.rglob(f"{name}.safetensors")
    return path


def request(**options):
    return recorded(Request(prompt="neg", seed=1, **options))


def test_names_stand_for_files_of_their_kind_in_other_options(tool, tmp_path):
    found = recorded(Request(prompt="neg", vae="mse", embedding=("neg",), lora=("ann@0.5",), seed=1))
    assert str(found.vae).endswith("mse.safetensors")
    assert [path.endswith("neg.safetensors") for path in found.embedding] == [True]
    assert found.lora[0].endswith("anna.safetensors@0.5")


@pytest.fixture
def conditioned(tool):
    """The tool's folder with a control network, an IP-Adapter, an image encoder and a hypernetwork as well."""
    for name, folder in (
        ("pose_v11", "controlnet"),
        ("face-plus", "ipadapter"),
        ("clip_h", "clip_vision"),
        ("glow_2", "hypernetworks"),
    ):
        embeddings.write(tool / "models" / folder / f"{name}.safetensors", {"x": ((1,), [0.0])})
    return tool


def test_parts_of_names_stand_for_every_kind_of_file_and_each_is_told_of(conditioned, tmp_path):
    (tmp_path / "a.png").touch()
    told = []
    with telling(told.append):
        found = request(
            control=("pose:image=a.png:weight=0.5",),
            ip_adapter=("face plus:image=a.png:encoder=clip:weight=0.3",),
            hypernet=("glow@0.5",),
        )
    path = {name: file_called(conditioned, name) for name in ("pose_v11", "face-plus", "clip_h", "glow_2")}
    assert found.control == (f"{path['pose_v11']}:image=a.png:weight=0.5",)
    assert found.ip_adapter == (f"{path['face-plus']}:image=a.png:encoder={path['clip_h']}:weight=0.3",)
    assert found.hypernet == (f"{path['glow_2']}@0.5",)
    taken = [line.partition(": taken for ")[2].partition(" ")[0] for line in told]
    assert taken == ["pose_v11", "face-plus", "clip_h", "glow_2"]


@pytest.mark.parametrize("digits", [8, 10, 12, 64])
def test_a_hash_names_a_lora_by_its_whole_bytes_or_its_tensors(tool, digits):
    path = file_called(tool, "anna")
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    for hash in (whole, hashes.without_header(path)):
        text = f"sha256:{hash[:digits]}"
        assert request(lora=(f"{text}@0.5:te=0.2",)).lora == (f"{path}@0.5:te=0.2",)
        assert any_file("x", text.upper().replace("SHA", "sha")).path == path


def test_hashes_name_embeddings_vaes_and_upscalers(tool):
    def text(name):
        return f"sha256:{hashlib.sha256(file_called(tool, name).read_bytes()).hexdigest()[:10]}"

    found = request(vae=text("mse"), embedding=(text("neg"),))
    assert str(found.vae) == str(file_called(tool, "mse"))
    assert found.embedding == (str(file_called(tool, "neg")),)
    assert find_upscaler(text("sharp")) == file_called(tool, "sharp")


def test_a_hash_that_no_file_has_says_which_kind_was_looked_for(tool):
    with pytest.raises(ModelError, match=r"--lora sha256:0{10}@0.5: no LoRA in .* has this hash"):
        request(lora=("sha256:0000000000@0.5",))
    with pytest.raises(UsageError, match="--vae sha256:xyz: is no hash"):
        request(vae="sha256:xyz")


def test_the_hash_that_a_lora_records_finds_it_before_any_file_is_hashed(tool, monkeypatch):
    path = file_called(tool, "anna")
    header = {"__metadata__": {"sshs_model_hash": "ab" * 32}}
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = json.dumps({**json.loads(data[8 : 8 + length]), **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    monkeypatch.setattr(hashes, "digest", None)
    assert with_any_hash("loras", "abababababab") == path


def test_hashes_of_tensors_are_computed_once(tool, monkeypatch):
    monkeypatch.setattr(hashes, "SMALL_FILE", 0)
    path = file_called(tool, "anna")
    first = hashes.without_header(path)
    assert hashes.known([path]) == {} and hashes.known([path], skips_header=True) == {path: first}
    hashes._computed_once.cache_clear()
    monkeypatch.setattr(hashes, "_compute", None)
    assert hashes.without_header(path) == first


def test_sd_info_tells_a_file_of_any_kind_by_a_part_of_its_name(sd, tool):
    for name, kind in (("shar", "Real-ESRGAN"), ("ann", "LoRA"), ("mse", "VAE"), ("drea", "sd1 model")):
        ran = sd("info", name)
        assert ran.code == 0 and kind in ran.lines[0], (name, ran.err)
    digits = hashlib.sha256(file_called(tool, "sharp").read_bytes()).hexdigest()[:10]
    assert "Real-ESRGAN" in sd("info", f"sha256:{digits}").lines[0]
    assert sd("models", "check", "shar").lines[0].startswith("good: ")


def test_sd_upscale_takes_a_part_of_an_upscalers_name(sd, tool, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    ran = sd("upscale", tmp_path / "in.png", "-m", "shar", "-o", tmp_path / "out.png", "--json")
    assert ran.code == 0 and "-m shar: taken for sharp" in ran.err, ran.err
    assert json.loads(ran.lines[0])["upscaler"]["name"] == "sharp"


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ({"lora": "a@0.8,te=0.6"}, "a@0.8:te=0.6"),
        ({"lora": "a:0.8"}, "a@0.8"),
        ({"hypernet": "glow:0.5"}, "glow@0.5"),
        ({"control": "pose@0.5:image=x.png"}, "pose:weight=0.5:image=x.png"),
        ({"control": "pose,weight=0.5,image=x.png"}, "pose:weight=0.5:image=x.png"),
        ({"ip_adapter": "face.safetensors@0.5:image=x.png"}, "face.safetensors:weight=0.5:image=x.png"),
        ({"ip_adapter": "face,image=x.png"}, "face:image=x.png"),
        ({"embedding": "neg@0.5"}, "(neg:1.2)"),
    ],
)
def test_settings_in_the_spelling_of_other_tools_are_answered_with_ours(tool, option, right):
    ((name, text),) = option.items()
    with pytest.raises(UsageError) as error:
        request(**{name: (text,)})
    assert right in str(error.value)


def test_a_file_whose_own_name_ends_like_a_setting_is_taken_as_it_is(tool, tmp_path):
    odd = tmp_path / "pose@0.5"
    odd.touch()
    assert request(control=(f"{odd}:image=x.png",)).control == (f"{odd}:image=x.png",)
