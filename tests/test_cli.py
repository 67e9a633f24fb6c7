"""The command line as a user meets it: results, exit codes, and one-line errors."""

import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sdcli import registry
from sdcli.models import load
from sdcli.pipeline import unet

COMMANDS = registry.names("commands")
WITHOUT_TORCH = [
    (["--help"], 0),
    (["--version"], 0),
    *[([command, "--help"], 0) for command in COMMANDS],
    (["samplers"], 0),
    (["samplers", "euler_a"], 0),
    (["info", "there-is-none.png"], 4),
    (["again", "there-is-none.png"], 4),
    (["txt2img"], 2),
    (["img2img", "a cat", "-i", "there-is-none.png"], 4),
    (["inpaint", "a cat", "-i", "there-is-none.png"], 2),
    (["upscale", "there-is-none.png"], 4),
    (["annotate", "depht", "there-is-none.png"], 2),
    (["txt2img", "a cat", "--steps", "0"], 2),
    (["txt2img", "a cat", "--sampler", "eular"], 2),
    (["txt2img", "a cat", "-m", "no-such-model"], 3),
    (["txt2img", "a cat", "-o", "x.tiff"], 2),
]


@pytest.mark.parametrize(
    ("arguments", "code"), WITHOUT_TORCH, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_help_and_errors_are_answered_without_importing_torch(arguments, code):
    program = (
        "import sys; from sdcli import cli; code = cli.run(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'transformers', 'diffusers'} & set(sys.modules);"
        "print(heavy) if heavy else None; sys.exit(99 if heavy else code)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert len(ran.stderr.splitlines()) == (code != 0), ran.stderr


def test_txt2img_prints_the_path_of_a_picture_and_nothing_else(draw):
    ran = draw("A red apple!", "--seed", 7)
    assert (ran.code, ran.lines, ran.err) == (0, ["a-red-apple-7.png"], "")
    with Image.open("a-red-apple-7.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))


def test_the_same_command_twice_gives_the_same_bytes_under_another_name(draw):
    first, second = draw("a cat", "--seed", 7), draw("a cat", "--seed", 7)
    assert (first.lines, second.lines) == (["a-cat-7.png"], ["a-cat-7-2.png"])
    assert Path("a-cat-7.png").read_bytes() == Path("a-cat-7-2.png").read_bytes()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_a"])
@pytest.mark.parametrize("size", [64, 72, 88])
def test_a_picture_of_count_is_byte_for_byte_the_picture_its_seed_gives_alone(draw, sampler, size):
    options = ("--sampler", sampler, "--width", size, "--height", size + 8)
    many = draw("a cat", "--seed", 7, "--count", 4, "-o", "many/{seed}.png", *options)
    assert many.lines == [f"many/{seed}.png" for seed in (7, 8, 9, 10)]
    draw("a cat", "--seed", 9, "-o", "alone/{seed}.png", *options)
    assert Path("many/9.png").read_bytes() == Path("alone/9.png").read_bytes()


def test_a_count_of_variations_keeps_the_seed_and_counts_up_the_variation_seed(draw):
    options = ("--seed", 7, "--variation-strength", 0.2)
    many = draw(
        "a cat", *options, "--variation-seed", 30, "--count", 3, "-o", "many/{seed}-{variation_seed}.png"
    )
    assert many.lines == [f"many/7-{seed}.png" for seed in (30, 31, 32)]
    draw("a cat", *options, "--variation-seed", 32, "-o", "alone.png")
    assert Path("many/7-32.png").read_bytes() == Path("alone.png").read_bytes()


def test_a_count_that_would_go_beyond_the_last_variation_seed_is_a_usage_error(draw):
    ran = draw(
        "a cat", "--seed", 7, "--variation-strength", 0.2, "--variation-seed", 4294967295, "--count", 2
    )
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_each_of_these_options_changes_the_picture(draw):
    def pixels(*options):
        path = draw("a cat", "--seed", 7, *options).lines[0]
        return hashlib.sha256(Image.open(path).tobytes()).hexdigest()

    changes = [(), ("--seed", 8), ("--cfg", 1), ("-n", "a dog"), ("--steps", 3), ("--sampler", "heun")]
    changes += [("--sampler", "euler_a"), ("--schedule", "uniform"), ("--clip-skip", 2), ("--width", 128)]
    changes += [
        ("--sampler", "euler_a:eta=0.5"),
        ("--schedule", "karras:rho=3", "--steps", 3),
        ("--cfg", 0),
        ("--cfg", -1),
    ]
    assert len({pixels(*options) for options in changes}) == len(changes)


def test_samplers_plot_saves_a_chart_with_a_colour_for_each_schedule(sd):
    ran = sd("samplers", "--plot", "levels.png", "--steps", 12)
    assert ran.lines == ["levels.png"]
    with Image.open("levels.png") as image:
        assert len(image.getcolors(1 << 20)) > len(registry.names("schedules"))


IGNORED_NEGATIVE = "the negative prompt has no effect at --cfg 1"


def test_a_negative_prompt_that_is_ignored_at_cfg_1_is_warned_of_once(draw):
    assert draw("a cat", "-n", "a dog", "--cfg", 1, "--count", 2).err.count(IGNORED_NEGATIVE) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["-n", "a dog", "--cfg", 2],
        ["-n", "a dog", "--cfg", 1, "--sampler", "euler_cfg_pp"],
        ["-n", "a dog", "--cfg", 1, "--guidance", "perp_neg"],
        ["--cfg", 1],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_there_is_no_warning_if_no_negative_prompt_is_ignored(draw, options):
    ran = draw("a cat", *options)
    assert (ran.code, ran.err) == (0, "")


def test_json_prints_one_object_per_picture(draw):
    ran = draw("a cat", "--seed", 7, "--count", 2, "--json")
    reports = [json.loads(line) for line in ran.lines]
    assert [report["path"] for report in reports] == ["a-cat-7.png", "a-cat-8.png"]
    assert [report["seed"] for report in reports] == [7, 8]
    assert reports[0]["request"]["sampler"] == "dpmpp_2m"
    assert set(reports[0]["seconds"]) == {"load", "text", "steps", "decode"}


def test_a_prompt_comes_from_standard_input_and_a_png_goes_to_standard_output(draw, sd):
    ran = draw("-", "--seed", 7, "-o", "-", stdin="a cät\n".encode())
    assert Image.open(io.BytesIO(ran.out)).size == (64, 64)
    metadata = json.loads(sd("info", "-", "--json", stdin=ran.out).out)
    assert metadata["prompt"] == "a cät"


def test_a_seed_that_is_not_given_is_drawn_at_random_and_reported(draw):
    seeds = {json.loads(draw("a cat", "--json").out)["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_again_makes_the_same_file(draw, sd):
    draw("a cat", "-n", "a dog", "--seed", 7, "--sampler", "euler_a:eta=0.5", "--cfg", 3.5, "--clip-skip", 2)
    assert sd("again", "a-cat-7.png").lines == ["a-cat-7-2.png"]
    assert Path("a-cat-7.png").read_bytes() == Path("a-cat-7-2.png").read_bytes()


def test_again_with_changes_keeps_every_other_field(draw, sd):
    draw("a cat", "-n", "a dog", "--seed", 7)
    ran = sd("again", "a-cat-7.png", "--steps", 3, "--prompt", "a cow", "--json")
    assert (ran.code, ran.err) == (0, "")
    request = json.loads(ran.out)["request"]
    assert (request["steps"], request["prompt"], request["negative"]) == (3, "a cow", "a dog")


def test_again_warns_of_another_model_and_another_torch(draw, sd):
    from sdcli.request.picture import Picture
    from sdcli.request.png_metadata import read_png_metadata

    draw("a cat", "--seed", 7)
    with Image.open("a-cat-7.png") as image:
        facts = {**read_png_metadata("a-cat-7.png").facts("a-cat-7.png"), "torch": "1.0"}
        facts["model"] = {**facts["model"], "sha256": "0" * 64}
        request = read_png_metadata("a-cat-7.png").request("a-cat-7.png")
        del facts["request"]
        Path("other.png").write_bytes(Picture(image.copy(), request, facts).png())
    lines = sd("again", "other.png").err.splitlines()
    assert [line.split(" was made ")[1].split(";")[0].split(",")[0] for line in lines] == [
        "with another model",
        "with torch 1.0",
    ]


def test_again_warns_of_another_class_of_arithmetic(draw, sd, monkeypatch):
    draw("a cat", "--seed", 7)
    monkeypatch.setattr("sdcli.models.device.arithmetic", lambda device, dtype: "Intel AVX2 AMX")
    monkeypatch.setattr(
        "sdcli.models.load.load_model", functools.partial(load.load_model)
    )  # not one kept by a test
    (line,) = sd("again", "a-cat-7.png").err.splitlines()
    assert line.startswith("sd: a-cat-7.png was made with arithmetic ")
    assert line.endswith(", here it is Intel AVX2 AMX; the picture may differ")


def test_info_shows_how_a_picture_was_made(draw, sd):
    draw("a cat", "--seed", 7, "--sampler", "DPM++ 2M Karras")
    lines = sd("info", "a-cat-7.png").lines
    assert lines[0] == "a-cat-7.png: PNG, 64x64"
    assert {"  prompt: a cat", "  seed: 7", "  sampler: dpmpp_2m", "  schedule: karras"} <= set(lines)


@pytest.mark.parametrize("name", ["cat", "cat.safetensors", "CAT.PNG"])
def test_info_recognises_a_picture_by_its_first_bytes_whatever_its_name(draw, sd, name):
    draw("a cat", "--seed", 7)
    Path("a-cat-7.png").rename(name)
    assert sd("info", name).lines[0] == f"{name}: PNG, 64x64"
    ran = sd("info", name, "--vae", "x.safetensors")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "--vae is about a model" in ran.err


@pytest.mark.parametrize("name", ["there-is-none.jpg", "THERE-IS-NONE.PNG", "bad", "bad.webp"])
def test_info_of_a_picture_that_cannot_be_read_ends_with_the_exit_code_for_pictures(sd, name):
    if name.startswith("bad"):
        Path(name).write_bytes(b"\x89PNG and no more" if name == "bad" else b"<html>")
    ran = sd("info", name)
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)


def test_no_metadata_leaves_nothing_to_make_the_picture_again_from(draw, sd):
    draw("a cat", "--seed", 7, "--no-metadata")
    assert "it does not say how" in sd("info", "a-cat-7.png").lines[1]
    ran = sd("again", "a-cat-7.png")
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)


def test_steps_dir_gets_two_pictures_of_each_step_soft_or_decoded(draw):
    draw("a cat", "--seed", 7, "--steps-dir", "steps", "--decode-steps")
    names = [f"a-cat-7-step-{i}{what}.png" for i in (1, 2) for what in ("-x", "")]
    assert sorted(os.listdir("steps")) == names
    last, final = Image.open("steps/a-cat-7-step-2.png"), Image.open("a-cat-7.png")
    assert last.tobytes() == final.tobytes()
    draw("a cat", "--seed", 7, "--steps-dir", "soft")
    assert sorted(os.listdir("soft")) == names
    soft = Image.open("soft/a-cat-7-step-2.png")
    assert soft.size == final.size
    assert soft.tobytes() != final.tobytes()


def test_a_filmstrip_shows_the_steps_in_rows_of_ten(draw):
    draw("a cat", "--steps", 12, "--filmstrip", "film.png", "--width", 128)
    with Image.open("film.png") as film:
        assert film.size == (10 * 128, 2 * 64)


def test_each_picture_of_a_count_has_its_own_filmstrip(draw):
    draw("a cat", "--seed", 7, "--filmstrip", "film-{seed}.png", "--decode-steps", "--count", 2)
    assert Path("film-7.png").is_file()
    assert Path("film-8.png").is_file()


@pytest.mark.parametrize("total", [1, 2, 59, 60, 61, 119, 1000])
def test_a_filmstrip_has_at_most_sixty_frames_the_last_step_among_them(total):
    from sdcli.commands._filmstrip import Filmstrip

    wanted = [number for number in range(1, total + 1) if Filmstrip().wants(number, total)]
    assert len(wanted) == min(total, 60)
    assert wanted[-1] == total


def test_final_latents_that_are_saved_and_loaded_give_the_same_picture(draw):
    draw("a cat", "--seed", 7, "--latents-out", "end.safetensors")
    ran = draw("a cat", "--seed", 8, "--latents-in", "end.safetensors")
    assert (ran.code, ran.err) == (0, "")
    assert Image.open("a-cat-7.png").tobytes() == Image.open("a-cat-8.png").tobytes()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_a", "euler"])
def test_a_file_with_the_unit_noise_of_a_seed_draws_the_picture_of_that_seed(draw, sampler):
    import torch
    from safetensors.torch import save_file

    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    save_file({"latents": noise}, "noise.safetensors")
    draw("a cat", "--seed", 7, "--sampler", sampler)
    draw("a cat", "--seed", 7, "--sampler", sampler, "--latents-in", "noise.safetensors", "-o", "given.png")
    assert Image.open("a-cat-7.png").tobytes() == Image.open("given.png").tobytes()


ERRORS = {
    "--steps 0": (2, "--steps: 0 is outside 1...1000"),
    "--steps many": (2, "'many' is not a valid integer"),
    "--seed -2": (2, "outside 0...18446744073709551615"),
    "--seed 4294967296": (2, "outside 0...4294967295"),
    "--seed 4294967295 --count 2": (2, "outside 0...4294967295"),
    "--width 100": (2, "the nearest are 96 and 104"),
    "--cfg nan": (2, "not a finite number"),
    "--sampler dpmpp": (2, "did you mean 'dpmpp_2m'?"),
    "--sampler euler:eta=1": (2, "it has no options"),
    "--sampler euler_a:etta=1": (2, "did you mean 'eta'?"),
    "--schedule caras": (2, "did you mean 'karras'?"),
    "--dtype float15": (2, "did you mean 'float16'?"),
    "--dtype float16 --device cpu": (2, "--dtype float16 is for CUDA"),
    "--device gpu": (2, "use auto, cpu, cuda"),
    "--sed 7": (2, "--seed"),
    "--count 0": (2, "--count"),
    "-o - --count 2": (2, "-o - writes one picture"),
    "-o out.tiff": (2, "name it out.png"),
    "-o {sed}.png": (2, "did you mean 'seed'?"),
    "--latents-out x.safetensors --count 2": (2, "--latents-out holds one"),
    "--latents-in none.safetensors": (2, "there is no such file"),
    "-o /proc/nowhere/x.png": (6, "choose another folder"),
    "--model no-such-model": (3, "no such model"),
}


@pytest.mark.parametrize("options", ERRORS)
def test_an_error_is_one_line_that_names_the_thing_and_a_next_step(draw, options):
    ran = draw("a cat", *options.split())
    code, words = ERRORS[options]
    assert (ran.code, ran.out) == (code, b"")
    assert words in ran.err
    assert ran.err.startswith("sd: ")
    assert len(ran.err.splitlines()) == 1
    assert os.listdir() == []


def test_an_unknown_command_is_answered_with_the_nearest(sd):
    assert "did you mean 'txt2img'?" in sd("text2img", "a cat").err


def test_a_network_that_returns_infinities_leaves_no_picture_and_the_error_names_the_noise_level(
    draw, monkeypatch
):
    monkeypatch.setattr(unet, "call_unet", lambda model, x, *_: x / 0)
    ran = draw("a cat", "--seed", 7, "--schedule", "trailing")
    assert (ran.code, len(ran.err.splitlines()), os.listdir()) == (7, 1, [])
    assert "noise level 14.61 is not finite" in ran.err


def test_a_decode_that_is_not_finite_is_tried_once_more_in_float32_and_recorded(draw, monkeypatch):
    from sdcli.pipeline import vae

    real, calls = vae._decoded, []

    def broken(model, x, dtype=None):
        calls.append(dtype)
        return real(model, x, dtype) / (0 if dtype is None else 1)

    monkeypatch.setattr(vae, "_decoded", broken)
    ran = draw("a cat", "--seed", 7, "--json")
    assert (ran.code, json.loads(ran.out)["fallback"], len(calls)) == (0, "VAE in float32", 2)
    monkeypatch.setattr(vae, "_decoded", lambda model, x, dtype=None: real(model, x, dtype) / 0)
    assert draw("a cat", "--seed", 8).code == 7


@pytest.mark.parametrize("error", ["MemoryError", "OutOfMemoryError", "allocator"])
def test_running_out_of_memory_is_a_one_line_error(draw, monkeypatch, error):
    import torch

    kinds = {
        "MemoryError": MemoryError(),
        "OutOfMemoryError": torch.OutOfMemoryError("CUDA out of memory"),
        "allocator": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    }

    def full(*_):
        raise kinds[error]

    monkeypatch.setattr(unet, "call_unet", full)
    ran = draw("a cat")
    assert (ran.code, len(ran.err.splitlines()), os.listdir()) == (5, 1, [])


DEBUG_HELP = "Show the traceback of an error."


@pytest.mark.parametrize(
    "command", [*([name] for name in COMMANDS), ["models", "pull"], ["models", "convert"]], ids=" ".join
)
def test_every_command_and_subcommand_offers_debug_once(sd, command):
    out = sd(*command, "--help").out.decode()
    assert (out.count("--debug "), out.count(DEBUG_HELP)) == (1, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["txt2img", "a cat", "-m", "no-such-model", "--debug"],
        ["txt2img", "--debug", "a cat", "-m", "no-such-model"],
        ["models", "convert", "no-such-model", "out", "--debug"],
        ["models", "--debug", "convert", "no-such-model", "out"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_debug_shows_the_traceback_above_the_line_of_an_error(sd, arguments):
    ran = sd(*arguments)
    assert ran.code == 3
    assert ran.err.startswith("Traceback")
    assert ran.err.splitlines()[-1].startswith("sd: no-such-model: ")


def test_a_prompt_that_reads_debug_is_a_prompt(sd):
    ran = sd("txt2img", "-m", "no-such-model", "--", "--debug")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)


def test_a_bug_keeps_its_traceback(draw, monkeypatch):
    def buggy(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(unet, "call_unet", buggy)
    with pytest.raises(ZeroDivisionError):
        draw("a cat")


def test_nothing_is_fetched_for_a_local_model(draw, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert draw("a cat").code == 0


def start(toy: Path, folder: Path, *options: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "sdcli",
        "txt2img",
        "a cat",
        "-q",
        "-m",
        str(toy),
        "--seed",
        "7",
        *options,
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=_interruptible
    )


def _interruptible() -> None:
    """Stop ignoring SIGINT, which a process inherits if the tests were started in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_keeps_the_finished_pictures_and_leaves_nothing_half_written(toy, tmp_path, name, code):
    process = start(toy, tmp_path, "--count", "1000", "-s", "2")
    first = [process.stdout.readline().strip() for _ in range(2)]
    process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    for file in tmp_path.iterdir():
        Image.open(file).load()
    assert set(first) <= set(os.listdir(tmp_path))


def test_a_kill_at_any_moment_leaves_only_complete_files(toy, tmp_path):
    for pause in (0.0, 0.011, 0.023, 0.037):
        process = start(toy, tmp_path, "--count", "1000", "-s", "1")
        process.stdout.readline()
        time.sleep(pause)
        process.kill()
        process.communicate()
    files = list(tmp_path.iterdir())
    assert len(files) >= 4
    for file in files:
        assert file.suffix == ".png"
        Image.open(file).load()


def test_drawing_ends_quietly_when_the_reader_of_its_output_closes_the_pipe(toy, tmp_path):
    with start(toy, tmp_path, "--count", "1000", "-s", "1") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""


def test_a_list_ends_quietly_when_its_reader_closes_the_pipe():
    ran = subprocess.run(
        f"{sys.executable} -m sdcli samplers | true", shell=True, capture_output=True, text=True
    )
    assert ran.stderr == ""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(
    st.sampled_from(["txt2img", "again", "info", "samplers", "-n", "--seed", "--steps", "-o", "--json", "-", "--",
                     "--sampler", "--width", "-h", "--count", "euler:", "karras:rho=", "--cfg=1e999"]),
    st.text(max_size=8),
), max_size=5))  # fmt: skip
@example(["txt2img", "--steps", "\udcff"])
@example(["txt2img", "\udcff"])
@example(["samplers", "\0"])
def test_no_command_line_ends_in_a_traceback_or_in_more_than_one_line_of_error(sd, monkeypatch, arguments):
    from sdcli.models.cache import ModelCache

    def stop(*_):
        raise SystemExit(0)

    monkeypatch.setattr(ModelCache, "checkpoint", stop)  # at the model
    try:
        ran = sd(*arguments)
    except SystemExit:
        return
    assert ran.code in (0, 2, 3, 4, 6)
    assert len(ran.err.splitlines()) == (ran.code != 0)


def test_help_lists_the_options_of_the_picture_before_those_of_the_model(sd):
    text = sd("inpaint", "--help").out.decode()
    places = [
        text.index(f" {flag} ")
        for flag in ("--negative", "--seed", "--steps", "--mask", "--mask-blur", "--vae")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "command", ["txt2img", "img2img", "inpaint", "outpaint", "depth2img", "upscale", "again"]
)
def test_every_drawing_command_has_each_option_of_its_groups_once(command):
    from click import Option

    options = [
        flag
        for each in registry.find("commands", command).params
        if isinstance(each, Option)
        for flag in each.opts
    ]
    assert len(options) == len(set(options))
    assert {"--negative", "--seed", "--model", "--networks", "--latents-in"} <= set(options)
