"""What each command imports: torch only where a picture is drawn, diffusers and transformers not even there."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sdcli

HEAVY = ["torch", "numpy", "diffusers", "transformers", "scipy", "sympy"]
NOT_FOR_DRAWING = ["diffusers", "transformers", "scipy", "sympy", "torch._dynamo", "torch._inductor"]
RUN = "import sys; from sdcli import cli; code = cli.run(sys.argv[1:])"


def loaded(program: str, *arguments: str, cwd=None) -> tuple[int, set[str], str]:
    """(the value of `code`, all modules that were imported, standard error) after a program in a fresh process."""
    report = "; import json, sys; print(chr(10) + json.dumps([code, list(sys.modules)]))"
    ran = subprocess.run(
        [sys.executable, "-c", program + report, *arguments], capture_output=True, text=True, cwd=cwd
    )
    assert ran.returncode == 0, ran.stderr
    code, modules = json.loads(ran.stdout.splitlines()[-1])
    return code, set(modules), ran.stderr


def among(modules: set[str], names: list[str]) -> set[str]:
    """The modules that are one of these names or inside of one."""
    return {module for module in modules if any(f"{module}.".startswith(f"{name}.") for name in names)}


@cache
def of_plain_torch() -> frozenset[str]:
    return frozenset(loaded("import torch; code = 0")[1])


@pytest.mark.parametrize("model", ["tiny", "test:sdxl"])
def test_drawing_a_picture_imports_none_of_the_reference_libraries(model, tmp_path):
    arguments = ("txt2img", "a cat", "-m", model, "-s", "1", "-W", "64", "-H", "64")
    code, modules, errors = loaded(RUN, *arguments, cwd=tmp_path)
    assert code == 0 and len(list(tmp_path.glob("*.png"))) == 1, errors
    assert "torch" in modules
    assert among(modules, NOT_FOR_DRAWING) - of_plain_torch() == set()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["txt2img", "--help"], 0),
        (["samplers"], 0),
        (["models"], 0),
        (["info", "tiny"], 0),
        (["info", "test:sdxl"], 0),
        (["txt2img", "a cat", "--no-such-option"], 2),
        (["txt2img", "a cat", "--steps", "0"], 2),
        (["txt2img", "a cat", "-m", "no-such-model"], 3),
        (["txt2img", "a cat", "-m", "broken.safetensors"], 3),
        (["info", "broken.safetensors"], 3),
        (["train", "lora", "--help"], 0),
        (["train", "lora", "--data", "none", "-o", "x.safetensors"], 2),
        (["noise", "none.png"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_draws_nothing_imports_nothing_heavy(arguments, code, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 100)
    ended, modules, errors = loaded(RUN, *arguments, cwd=tmp_path)
    assert ended == code, errors
    assert among(modules, HEAVY) == set()


SLOW = ["importlib.metadata", "huggingface_hub", "tokenizers", "logging", "statistics"]
"""What takes long to import and is not needed for an answer."""


@pytest.mark.parametrize(
    ("arguments", "code", "most"),
    [
        (["--help"], 0, 10),
        (["--version"], 0, 10),
        (["tokns"], 2, 10),
        (["txt2img", "--help"], 0, 32),
        (["txt2img", "a cat", "--no-such-option"], 2, 32),
        (["txt2img", "a cat", "--steps", "0"], 2, 33),
        (["samplers"], 0, 30),
        (["models"], 0, 85),
        (["tokens", "a red apple"], 0, 110),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_answer_needs_few_modules(arguments, code, most, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    ended, modules, errors = loaded(RUN, *arguments, cwd=tmp_path)
    assert ended == code, errors
    assert among(modules, SLOW) == set()
    assert len(among(modules, ["sdcli"])) <= most


def modules_in(package: str) -> list[str]:
    """The package and all modules in it."""
    folder = Path(sdcli.__file__).parent.parent.joinpath(*package.split("."))
    files = [file.relative_to(folder.parent) for file in folder.rglob("*.py")]
    start = package.rpartition(".")[0]
    return sorted(
        ".".join([start, *(file.parent if file.stem == "__init__" else file.with_suffix("")).parts])
        for file in files
    )


@pytest.mark.parametrize("package", ["sdcli.request", "sdcli.checkpoints"])
def test_requests_and_checkpoints_are_read_without_torch(package):
    names = modules_in(package)
    assert len(names) > 5
    program = f"import importlib; [importlib.import_module(name) for name in {names!r}]; code = 0"
    _, modules, _ = loaded(program)
    assert set(names) <= modules
    assert among(modules, ["torch", "diffusers", "transformers", "scipy", "sympy"]) == set()


def test_importing_the_package_imports_nothing_heavy():
    _, modules, _ = loaded("import sdcli; code = 0")
    assert among(modules, HEAVY) == set()
    assert "sdcli" in modules


def test_the_networks_are_plain_torch_modules_that_need_no_other_room_of_the_package():
    names = modules_in("sdcli.models.architectures")
    program = f"import importlib; [importlib.import_module(name) for name in {names!r}]; code = 0"
    _, modules, _ = loaded(program)
    assert among(modules, NOT_FOR_DRAWING) - of_plain_torch() == set()
    assert among(modules, ["sdcli"]) == {"sdcli", "sdcli.models", *names}
