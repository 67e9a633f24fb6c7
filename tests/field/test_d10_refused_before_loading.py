"""D10: what cannot be drawn is refused before the networks are loaded; version 0.1 first loaded, for 20 to 50 s."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sdcli import registry
from sdcli.checkpoints import checkpoint
from sdcli.checkpoints.defaults import job_by
from sdcli.models import load
from sdcli.pipeline.rehearsal import rehearse
from sdcli.request import fields
from sdcli.request.inputs import InputImages
from sdcli.request.request import Request

FIELDS = {each.name: each for each in dataclasses.fields(Request)}
BAD_TEXTS = {
    "model": "no-such-model", "vae": "none.safetensors", "revision": "main", "image": "none.png",
    "mask": "none.png", "depth": "none.png", "background": "no-colour", "seed_size": "100x100",
    "sigmas": "1,2", "device": "gpu", "latents_in": "none.safetensors", "embedding": "none.safetensors",
    "lora": "none.safetensors", "hypernet": "none.safetensors", "ip_adapter": "none.safetensors:image=none.png",
    "reference": "none.png:fidelity=2", "freeu": "1,2",
    "margins": "0,0,0,0", "region": "a cat@2,0,1,1", "control": "net:weight=2:weight=3",
    "style": "none", "hires_by": "none", "styles_file": "none.csv", "wildcards": "none",
}  # fmt: skip
"""A bad value of each text field whose declaration does not say which are bad."""
ANY_TEXT = ("prompt", "negative", "prompt_2", "negative_2")


def bad_values(name: str) -> list[object]:
    """Values of a field that its declaration refuses; those of a new field are found by themselves."""
    option = fields.option_of(FIELDS[name])
    if option.plugin:
        return ["no-such-plugin", f"{registry.names(option.plugin)[0]}:no_such_option=1"]
    if option.choices:
        return ["no-such-choice"]
    if option.low is not None and option.high is not None:
        return [option.low - 1, option.high + 1]
    return [BAD_TEXTS[name]] if name in BAD_TEXTS else []


@pytest.fixture
def unreachable(monkeypatch):
    """Loading networks fails the test."""
    monkeypatch.setattr(load, "load_model", lambda *_: pytest.fail("the model was loaded"))


@pytest.mark.parametrize("name", FIELDS)
def test_d10_every_field_has_a_bad_value_that_is_tried(name):
    option = fields.option_of(FIELDS[name])
    assert bad_values(name) or option.type is bool or name in ANY_TEXT


@pytest.mark.parametrize(
    ("flag", "value"),
    [(fields.option_of(FIELDS[name]).flags[-1], value) for name in FIELDS for value in bad_values(name)
     if fields.option_of(FIELDS[name]).flags],
)  # fmt: skip
def test_d10_a_bad_value_of_every_option_is_refused_before_loading(sd, unreachable, toy, flag, value):
    Image.new("RGB", (64, 64)).save("in.png")
    command = ["again", "made.png"] if flag == "--again" else ["inpaint", "a cat", "--alpha-mask"]
    others = {"--image": "in.png", "--model": str(toy)}
    others |= {"--variation-seed": 3} if flag == "--variation-strength" else {}
    others |= {"--variation-strength": 0.5} if flag == "--variation-seed" else {}
    arguments = [f"{key}={one}" for key, one in {**others, flag: value}.items()]
    if flag in (
        "--depth",
        "--scale",
        "--noise-level",
        "--window",
        "--hires",
        "--hires-strength",
        "--hires-by",
    ):
        command = ["again", str(made(sd, toy))]
        arguments = [f"{flag}={value}"]
    elif flag == "--mask":
        command = ["inpaint", "a cat"]
    ran = sd(*command, *arguments)
    assert ran.code in (2, 3, 4), ran.err
    assert len(ran.err.splitlines()) == 1


def made(sd, toy: Path) -> Path:
    """A picture with metadata, written without drawing it."""
    from sdcli.request.picture import Picture

    picture = Picture(Image.new("RGB", (64, 64)), Request("a cat", seed=7, model=toy), {})
    Path("made.png").write_bytes(picture.png())
    return Path("made.png")


def latents(name: str, tensors: dict, metadata: dict | None = None) -> str:
    save_file(tensors, name, metadata)
    return name


LATENTS = {
    "cut short": lambda: Path(latents("l.safetensors", {"latents": torch.zeros(1, 4, 8, 8)})).write_bytes(
        Path("l.safetensors").read_bytes()[:-7]),
    "not safetensors": lambda: Path("l.safetensors").write_bytes(b"\0" * 100),
    "another tensor": lambda: latents("l.safetensors", {"x": torch.zeros(1, 4, 8, 8)}),
    "another size": lambda: latents("l.safetensors", {"latents": torch.zeros(1, 4, 16, 8)}),
    "not finite": lambda: latents("l.safetensors", {"latents": torch.full((1, 4, 8, 8), torch.nan)}),
    "a bad level": lambda: latents("l.safetensors", {"latents": torch.zeros(1, 4, 8, 8)}, {"sigma": "high"}),
    "an unvisited level": lambda: latents("l.safetensors", {"latents": torch.zeros(1, 4, 8, 8)}, {"sigma": "3.21"}),
}  # fmt: skip


@pytest.mark.parametrize("fault", LATENTS)
def test_d10_a_bad_latents_file_is_refused_before_loading(draw, unreachable, fault):
    LATENTS[fault]()
    ran = draw("a cat", "--latents-in", "l.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [("--stop-after 30 --steps 20", "--stop-after 30 is more than the 20 steps"),
     ("--stop-after 4 --sigmas 14,7,2,0", "--stop-after 4 is more than the 3 steps"),
     ("--stop-after 8 --steps 20 -i in.png --strength 0.35", "--stop-after 8 is more than the 7 steps"),
     ("--dtype float16 --device cpu", "--dtype float16 is for CUDA"),
     ("--clip-skip 12", "--clip-skip 12: the text encoder of"),
     ("--guidance classifier:scorer=beauty", "no scorer is called 'beauty'"),
     ("-i in.png --fit error -W 128 -H 64", "128x64"),
     ("-m test:x4", "needs a picture to enlarge"), ("-m test:pix2pix", "needs a picture to edit"),
     ("-m test:depth", "needs a picture or a depth map")],
)  # fmt: skip
def test_d10_what_only_the_model_can_tell_is_read_from_its_header(sd, unreachable, toy, options, words):
    Image.new("RGB", (64, 64)).save("in.png")
    command = "img2img" if "-i" in options else "txt2img"
    ran = sd(command, "a cat", *([] if "-m" in options else ["-m", toy]), *options.split())
    assert ran.code in (2, 3, 4)
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so the device exists")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_d10_a_device_that_is_not_here_is_refused_before_loading(draw, unreachable, device):
    ran = draw("a cat", "--device", device)
    assert (ran.code, f"--device {device}: torch sees 0 CUDA devices" in ran.err) == (2, True)


def out_of_range():
    """(kind, plugin with an option far outside of its range) for each option that is checked."""
    for kind in ("samplers", "schedules", "guidance"):
        for name in registry.names(kind):
            for option, default in registry.describe(kind, name).options.items():
                if isinstance(default, float | int) and not isinstance(default, bool):
                    yield kind, f"{name}:{option}=-1000"


FLAGS = {"samplers": "--sampler", "schedules": "--schedule", "guidance": "--guidance"}


@pytest.mark.parametrize(("kind", "spec"), [*out_of_range()])
def test_d10_an_option_outside_its_range_is_refused_before_loading_if_it_is_at_all(
    sd, toy, monkeypatch, kind, spec
):
    """Drawing with a value that passed before loading must not refuse it later."""
    from sdcli.errors import NotFinite, SdError

    passed = []
    real = load.load_model
    monkeypatch.setattr(load, "load_model", lambda *all: passed.append(1) or real(*all))
    ran = sd("txt2img", "a cat", "-m", toy, "-s", 4, "--seed", 7, FLAGS[kind], spec)
    assert ran.code in ((0, NotFinite.code) if passed else (2,)), ran.err
    assert issubclass(NotFinite, SdError)


@pytest.mark.parametrize("guidance", registry.names("guidance"))
@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_d10_a_rehearsal_takes_no_time_whatever_is_drawn(toy, sampler, guidance):
    found = checkpoint.read(str(toy))
    request = Request("a cat", seed=7, sampler=sampler, guidance=guidance, cfg=5.0)
    calls = []
    torch_calls = torch.Tensor.__mul__
    try:
        torch.Tensor.__mul__ = lambda *all: calls.append(1) or torch_calls(*all)
        rehearse(found, job_by(found.family, 64, request), InputImages())
    finally:
        torch.Tensor.__mul__ = torch_calls
    assert len(calls) < 5000


def test_d10_a_refused_request_leaves_the_global_seed_alone(toy):
    found = checkpoint.read(str(toy))
    before = torch.get_rng_state()
    rehearse(found, job_by(found.family, 64, Request("a cat", seed=7, sampler="euler_a")), InputImages())
    assert torch.equal(before, torch.get_rng_state())


def test_d10_from_python_too(unreachable, toy):
    import sdcli

    with pytest.raises(sdcli.UsageError, match="stop"):
        sdcli.generate(Request("a cat", model=toy, steps=20, stop_after=30))


def test_d10_options_that_no_model_has_to_tell_need_no_torch(tmp_path):
    program = "import sys; from sdcli import cli; code = cli.run(sys.argv[1:]); "
    program += "sys.exit(99 if 'torch' in sys.modules else code)"
    command = [sys.executable, "-c", program, "txt2img", "a cat", "--sampler", "euler_a:eta=x"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 2
