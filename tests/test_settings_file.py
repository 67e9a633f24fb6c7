"""The settings file and the SD_* variables: what they fill in, what they leave alone, and how faults are told."""

import json
import os
import re
import textwrap
import tomllib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies
from PIL import Image

from sdcli import settings, settings_file
from sdcli.commands._settings import DECLARED, with_source
from sdcli.commands._settings_example import FOLDER_VALUES, example_file
from sdcli.errors import UsageError
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests import upscaler_files
from tests.pictures import photo

ROOT = Path(__file__).parents[1]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the settings file that SD_SETTINGS names: write("steps = 3") -> its path."""

    def call(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("SD_SETTINGS", str(path))
        return path

    return call


def made(ran) -> dict:
    """The report of the one picture of a run."""
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.fixture
def asked(sd):
    """The recorded request of a picture of a test model: asked("--steps", 2) -> {"prompt": …}."""
    return lambda *more: made(sd("txt2img", "a cat", "--seed", 7, "--json", *more))["request"]


# --- what wins


def test_without_settings_a_picture_is_as_ever(asked):
    request = asked("-m", "test:sd1", "--steps", 1)
    assert (request["model"], request["steps"], request["sampler"]) == ("test:sd1", 1, "dpmpp_2m")
    assert {"negative", "device", "dtype", "threads", "rng", "like"}.isdisjoint(request)


def test_a_setting_is_recorded_as_if_it_had_been_typed(asked, write):
    typed = asked("-m", "test:sd1", "--steps", 2, "--sampler", "heun", "--negative", "fog")
    write('model = "test:sd1"\nsteps = 2\nsampler = "heun"\nnegative = "fog"')
    assert asked() == typed


def test_what_is_typed_wins_over_a_variable_and_that_over_the_file(asked, write, monkeypatch):
    write('model = "test:sd1"\nsteps = 3\ncfg = 3\nsampler = "heun"')
    monkeypatch.setenv("SD_STEPS", "2")
    monkeypatch.setenv("SD_CFG", "2")
    request = asked("--steps", 1)
    assert (request["steps"], request["cfg"], request["sampler"]) == (1, 2.0, "heun")


def test_an_empty_variable_is_as_good_as_none(asked, write, monkeypatch):
    write('model = "test:sd1"\nsteps = 1')
    monkeypatch.setenv("SD_STEPS", "")
    assert asked()["steps"] == 1


def test_noise_levels_that_are_typed_leave_no_room_for_steps_and_schedule(asked, write):
    write('model = "test:sd1"\nsteps = 9\nschedule = "exponential"')
    request = asked("--sigmas", "10,1,0")
    assert (request["steps"], request["sigmas"]) == (2, "10,1,0")
    assert request.get("schedule") != "exponential"


def test_a_sampler_that_is_typed_with_its_schedule_keeps_that(asked, write):
    write('model = "test:sd1"\nsteps = 1\nschedule = "exponential"')
    assert asked("--sampler", "Euler a Karras")["schedule"] == "karras"
    assert asked("--sampler", "euler_a")["schedule"] == "exponential"


def test_sd_tokens_shows_what_the_settings_make_of_a_prompt(sd, write):
    write('like = "comfyui"')
    assert made(sd("tokens", "(a cat:1.2)", "--json"))["like"] == "comfyui"


def test_an_empty_sd_settings_switches_the_file_off(tmp_path, monkeypatch, sd):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sdcli.settings_file.user_folder", lambda kind: tmp_path / "config" / "sdcli")
    (tmp_path / "config" / "sdcli").mkdir(parents=True)
    (tmp_path / "config" / "sdcli" / "settings.toml").write_text("steps = 3")
    monkeypatch.delenv("SD_SETTINGS")
    assert settings_file.read_settings()["steps"].value == 3
    monkeypatch.setenv("SD_SETTINGS", "")
    assert settings_file.read_settings() == {}


def test_a_user_without_a_file_has_no_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("SD_SETTINGS")
    monkeypatch.setattr("sdcli.settings_file.user_folder", lambda kind: tmp_path / "none")
    assert settings_file.read_settings() == {}
    monkeypatch.setattr("sdcli.settings_file.user_folder", lambda kind: None)
    assert settings_file.settings_path() is None


# --- where pictures go


@pytest.mark.parametrize(
    ("file", "typed", "written"),
    [
        ('out = "p"', [], "p/a-cat-7.png"),
        ('out = "p/{seed}.webp"', [], "p/7.webp"),
        ('out = "p/{seed}.png"', ["-o", "x.jpg"], "x.jpg"),
        ('out = "p/{seed}.png"', ["--format", "jpg"], "p/7.jpg"),
        ('out = "p/{seed}.png"\nformat = "jpg"', [], "p/7.png"),
        ('format = "jpg"', [], "a-cat-7.jpg"),
        ('format = "jpg"', ["-o", "x.png"], "x.png"),
        ('format = "jpg"', ["-o", "p/"], "p/a-cat-7.jpg"),
        ("quality = 50", [], "a-cat-7.png"),
        ('quality = 50\nformat = "jpg"', [], "a-cat-7.jpg"),
    ],
    ids=str,
)  # fmt: skip
def test_a_picture_goes_where_the_settings_and_what_is_typed_say_together(draw, write, file, typed, written):
    write(file)
    assert draw("a cat", "--seed", 7, *typed).lines == [written]


def test_a_sweep_takes_of_a_name_only_the_folder(draw, write):
    write('out = "p/{seed}.png"')
    ran = draw("a cat", "--seed", 7, "--sweep", "cfg=2,3")
    assert (ran.code, {str(Path(line).parent) for line in ran.lines}, len(ran.lines)) == (0, {"p"}, 2), (
        ran.err
    )


def test_a_format_in_a_variable_wins_over_the_name_in_the_file(draw, write, monkeypatch):
    write('out = "p/{seed}.png"')
    monkeypatch.setenv("SD_FORMAT", "webp")
    assert draw("a cat", "--seed", 7).lines == ["p/7.webp"]


def test_a_setting_of_the_quality_is_for_jpg(draw, write):
    write("quality = 10")
    sizes = [
        os.path.getsize(draw("a cat", "--seed", 7, "-o", "x.jpg", *more).lines[0])
        for more in ([], ["--quality", 95])
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("text", "typed", "is_written"), [("false", [], False), ("1", [], True), ("no", ["--metadata"], True)]
)
def test_metadata_can_be_switched_off_for_good(draw, monkeypatch, text, typed, is_written):
    monkeypatch.setenv("SD_METADATA", text)
    with Image.open(draw("a cat", "--seed", 7, *typed).lines[0]) as picture:
        assert ("sd" in picture.info) == is_written


# --- pictures that are made again


def test_settings_leave_a_picture_that_is_made_again_as_it_was(draw, sd, write, monkeypatch):
    first = draw("a cat", "--seed", 7).lines[0]
    write('model = "tiny"\nsteps = 9\nsampler = "heun"\nnegative = "fog"\ndtype = "bfloat16"\nrng = "philox"')
    monkeypatch.setenv("SD_THREADS", "1")
    again = sd("again", first).lines[0]
    assert Path(again).read_bytes() == Path(first).read_bytes()


def test_a_picture_is_made_again_on_the_device_of_the_settings_unless_it_records_one(draw, sd, write):
    plain, on_cpu = draw("a cat", "--seed", 7).lines + draw("a cat", "--seed", 8, "--device", "cpu").lines
    path = write('device = "cuda:99"')
    assert f"{path}:1: --device cuda:99" in sd("again", plain).err
    assert sd("again", on_cpu).code == 0
    assert sd("again", plain, "--device", "cpu").code == 0


# --- batches


def test_settings_fill_what_neither_a_job_file_nor_the_command_line_says(sd, write, tmp_path):
    write('model = "test:sd1"\nsteps = 1\ncfg = 3\nsampler = "heun"\nschedule = "karras"')
    jobs = """
        jobs:
          - {name: own, prompt: a cat, steps: 2, sampler: [euler, ddim]}
          - {name: levels, prompt: a cat, sigmas: "10,5,0"}
          - {name: tiny, prompt: a cat, model: tiny, stop_after: 1}
    """
    (tmp_path / "jobs.yaml").write_text(textwrap.dedent(jobs))
    ran = sd("batch", "jobs.yaml", "-o", "out", "--cfg", 2)
    assert ran.code == 0, ran.err
    requests = [read_png_metadata(path, path).request(path) for path in ran.lines]
    found = {(each.model, each.steps, each.cfg, each.sampler, each.sigmas is None) for each in requests}
    assert found == {
        ("test:sd1", 2, 2, "euler", True),
        ("test:sd1", 2, 2, "ddim", True),
        ("test:sd1", 2, 2, "heun", False),
        ("tiny", 1, 2, "heun", True),
    }


# --- upscaler files, which know few settings


def test_an_upscaler_file_takes_of_the_settings_what_it_can_use(sd, tmp_path, write):
    upscaler_files.write(tmp_path / "x4.safetensors", upscaler_files.rrdb())
    photo().save(tmp_path / "in.png")
    write('steps = 9\nsampler = "heun"\nnegative = "fog"\nout = "p/{prompt}/{seed}.png"')
    ran = sd("upscale", "in.png", "-m", "x4.safetensors")
    assert ran.code == 0, ran.err
    assert Path(ran.lines[0]).parent == Path("p") or Path(ran.lines[0]).parts[0] == "p"
    assert sd("upscale", "in.png", "-m", "x4.safetensors", "--steps", 3).code == 2


# --- folders


def test_folders_of_the_file_are_relative_to_it_and_give_way_to_variables(write, tmp_path, monkeypatch):
    (tmp_path / "loras").mkdir()
    write(
        '[folders]\nmodels = ["models", "/srv/models"]\nloras = "loras"\nwildcards = "cards"\nstyles = "s.csv"\n'
    )
    monkeypatch.delenv("SDCLI_MODELS", raising=False)
    monkeypatch.chdir("/")
    assert settings.model_folders() == [tmp_path / "models", Path("/srv/models")]
    assert settings.network_folders("loras") == [tmp_path / "loras"]
    assert (settings.wildcards_folder(), settings.styles_file()) == (tmp_path / "cards", tmp_path / "s.csv")
    monkeypatch.setenv("SDCLI_MODELS", "")
    monkeypatch.setenv("SDCLI_WILDCARDS", "/w")
    assert settings.model_folders() == []
    assert settings.wildcards_folder() == Path("/w")


def test_a_lora_in_a_folder_of_the_file_is_found(sd, write, tmp_path):
    (tmp_path / "l").mkdir()
    write('[folders]\nloras = ["l", "none"]')
    ran = sd("txt2img", "a <lora:x:1> cat", "-m", "test:sd1")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert (
        f"settings.toml:2: {tmp_path / 'none'} is no folder; name the one with your loras, or leave it out"
        in ran.err
    )


# --- faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("steps = 3\nstepps = 4", "settings.toml:2: no setting is called 'stepps'; did you mean 'steps'?"),
        ("seed = 3", "settings.toml:1: no setting is called 'seed'"),
        ("\nclip-skip = 2", "settings.toml:2: no setting is called 'clip-skip'; did you mean 'clip_skip'?"),
        ('loras = "x"', "settings.toml:1: no setting is called 'loras'; it belongs under [folders]"),
        ("[folders]\nsteps = 3", "settings.toml:2: no setting is called 'steps'; it belongs above [folders]"),
        ("[folders]\nlora = 'x'", "settings.toml:2: no setting is called 'lora'; did you mean 'loras'?"),
        ("folders = 3", "settings.toml:1: folders is a table"),
        ("folders.cache = 3", "settings.toml:1: cache = 3 is not a path in quotes"),
        (
            "[folders]\nmodels = ['a', 3]",
            "settings.toml:2: models = ['a', 3] is not a list of folders in quotes",
        ),
        ("[folder]\nmodels = 'a'", "settings.toml:1: no setting is called 'folder'; did you mean 'folders'?"),
        ("steps = 'three'", "settings.toml:1: --steps: 'three' is not a whole number"),
        ("steps = 0", "settings.toml:1: --steps: 0 is outside 1...1000"),
        ("steps = true", "settings.toml:1: --steps: True is not a whole number"),
        ("\n\ndevice = 'gpu'", "settings.toml:3: --device 'gpu' is not a device"),
        ("dtype = 'half'", "settings.toml:1: --dtype: 'half' is unknown"),
        ("sampler = 'eulr'", "settings.toml:1: no sampler is called 'eulr'; did you mean 'euler'?"),
        ("quality = 0", "settings.toml:1: --quality: 0 is outside 1...100"),
        ("format = 'gif'", "settings.toml:1: --format: 'gif' is unknown"),
        ("out = ''", "settings.toml:1: --out: is empty"),
        ("steps = 3\nsteps = 4", "settings.toml:2: is not TOML: Cannot overwrite a value"),
        ("steps = [", "is not TOML"),
        ("x = " + "[" * 10_000, "is not TOML"),
        ("model = 'no-such-model'", "settings.toml:1: no-such-model: no such model"),
        ("device = 'cuda:99'", "settings.toml:1: --device cuda:99: "),
    ],
    ids=lambda value: value[:40],
)
def test_a_fault_is_one_line_that_names_file_line_and_remedy(sd, write, text, fault):
    write(text)
    ran = sd("txt2img", "a cat", *(() if "model" in text else ("-m", "tiny")))
    assert (ran.code in (2, 3), ran.err.count("\n"), ran.out) == (True, 1, b""), ran.err
    assert fault in ran.err


@pytest.mark.parametrize(
    ("variable", "text", "fault"),
    [
        ("SD_STEPS", "many", "SD_STEPS=many: is not a whole number"),
        ("SD_STEPS", "0", "SD_STEPS=0: --steps: 0 is outside 1...1000"),
        ("SD_CFG", "nan", "SD_CFG=nan: --cfg: nan is not a finite number"),
        ("SD_METADATA", "maybe", "SD_METADATA=maybe: is neither true nor false"),
        ("SD_DEVICE", "cuda:99", "SD_DEVICE=cuda:99: --device cuda:99: "),
        ("SD_SETTINGS", "none.toml", "SD_SETTINGS=none.toml: there is no such file"),
        ("SD_SETTINGS", "/", "SD_SETTINGS=/: cannot be read: is a directory"),
    ],
)  # fmt: skip
def test_a_fault_of_a_variable_names_it(sd, monkeypatch, variable, text, fault):
    monkeypatch.setenv(variable, text)
    ran = sd("txt2img", "a cat")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert fault in ran.err


def test_a_file_that_is_no_text_is_refused(sd, write):
    write("").write_bytes(b"\xff\xfe\0")
    assert "is not UTF-8" in sd("txt2img", "a cat").err
    write("").write_bytes(b"#" * 2_000_000)
    assert "is larger than 1,000,000 bytes" in sd("txt2img", "a cat").err


def test_a_wrong_setting_matters_only_where_it_is_used(sd, write, asked):
    write("steps = 0")
    assert asked("-m", "test:sd1", "--steps", 1)["steps"] == 1
    assert sd("samplers").code == 0


def test_an_error_about_something_else_does_not_blame_a_setting():
    setting = settings_file.Setting("device", "cpu", "SD_DEVICE", is_variable=True)
    text = "out of memory; try --device cpu"
    assert str(with_source(UsageError(text), [setting])) == text


@hypothesis.given(strategies.text(max_size=60))
def test_any_text_is_settings_or_one_usage_error(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_file, "_text", lambda path: text)
        patch.setenv("SD_SETTINGS", "x.toml")
        try:
            settings_file.read_settings()
        except UsageError as error:
            assert str(error).startswith("x.toml")


@hypothesis.given(
    key=strategies.sampled_from([*DECLARED, *settings_file.FOLDER_KEYS, "seed", "x"]),
    value=strategies.sampled_from(
        ["1", "0", "true", "'x'", "''", "[]", "['a']", "{}", "1979-05-27", "nan", "'\\u0000'", '"\\u0000"']
    ),
)
def test_any_value_of_any_key_is_taken_or_refused_with_its_line(key, value):
    from sdcli.commands._settings import value_of

    table = "[folders]\n" if key in settings_file.FOLDER_KEYS else "\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_file, "_text", lambda path: f"{table}{key} = {value}")
        patch.setenv("SD_SETTINGS", "x.toml")
        try:
            for setting in settings_file.read_settings().values():
                value_of(setting)
        except UsageError as error:
            assert re.match(r"x\.toml:2: ", str(error))


# --- sd settings


def shown(ran) -> dict:
    return {each["key"]: (each["value"], each["source"]) for each in map(json.loads, ran.lines)}


def test_sd_settings_shows_what_is_in_force_and_whence(sd, write, monkeypatch):
    path = write('steps = 3\ncfg = 3\n[folders]\nmodels = ["m"]\n')
    monkeypatch.setenv("SD_CFG", "2.5")
    monkeypatch.setenv("SDCLI_MODELS", "/a:/b" if os.pathsep == ":" else "/a;/b")
    found = shown(sd("settings", "--json"))
    assert found["steps"] == (3, f"{path}:1")
    assert found["cfg"] == (2.5, "SD_CFG")
    assert found["model"] == ("tiny", "built-in")
    assert found["sampler"] == (None, "built-in")
    assert found["folders.models"] == ([str(Path("/a")), str(Path("/b"))], "SDCLI_MODELS")
    lines = sd("settings").lines
    assert f"steps = 3  ({path}:1)" in lines and "sampler = the model's  (built-in)" in lines


def test_sd_settings_names_a_variable_that_is_no_setting_but_not_its_value(sd, monkeypatch):
    monkeypatch.setenv("SD_SAMPLR", "secret")
    ran = sd("settings")
    assert "SD_SAMPLR is not read: there is no such setting; did you mean 'SD_SAMPLER'?" in ran.err
    assert "secret" not in ran.err + ran.out.decode()


def test_sd_settings_tells_the_path_of_the_file(sd, write, monkeypatch):
    assert sd("settings", "--path").code == 2  # the tests run without
    assert sd("settings", "--path").err.startswith("sd: SD_SETTINGS is empty")
    assert sd("settings", "--path").lines == []
    path = write("")
    assert sd("settings", "--path").lines == [str(path)]


def test_the_example_is_the_file_in_configs(sd):
    text = (ROOT / "configs" / "settings.toml").read_text(encoding="utf-8")
    assert sd("settings", "--example").out.decode() == text == example_file()


def test_the_example_sets_nothing_and_explains_every_setting(sd, write):
    write(example_file())
    assert settings_file.read_settings() == {}
    table = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", example_file(), flags=re.MULTILINE))
    assert table.pop("folders").keys() == FOLDER_VALUES.keys() == {*settings_file.FOLDER_KEYS}
    assert table.keys() == DECLARED.keys() == {*settings_file.REQUEST_KEYS, *settings_file.OUTPUT_KEYS}


def test_every_example_value_is_one_that_can_be_set(sd, write):
    write(re.sub(r"^#(?=\w+ = )", "", example_file().partition("# The folders")[0], flags=re.MULTILINE))
    ran = sd("settings", "--json")
    assert ran.code == 0, ran.err
    assert [key for key in DECLARED if shown(ran)[key][1] == "built-in"] == []


def test_no_setting_is_of_one_picture():
    of_one_picture = {
        "prompt",
        "seed",
        "image",
        "mask",
        "depth",
        "variation_seed",
        "latents_in",
        "margins",
        "width",
        "height",
    }
    of_one_model = {"vae", "revision", "prediction", "ztsnr"}
    assert not {*settings_file.REQUEST_KEYS} & (of_one_picture | of_one_model)
    assert {*settings_file.REQUEST_KEYS} <= {*Request.__dataclass_fields__}
