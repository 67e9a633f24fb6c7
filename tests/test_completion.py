"""Completion as a user has it: in real shells, which run the printed script. zsh and fish are tried where they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters import loras

COMMANDS = Path(sys.executable).parent
"""The folder in which `sd` is."""


@pytest.fixture
def folder(tmp_path):
    """A folder with pictures, a model and LoRAs, in which the shells run."""
    for name in ("photo.png", "photo.txt", "jobs.yaml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dream.safetensors").write_bytes(b"")
    (tmp_path / "loras").mkdir()
    loras.write(tmp_path / "loras" / "watercolour.safetensors")
    return tmp_path


@pytest.fixture
def run(folder):
    """Run a program in a shell, with `sd` on the path: run("bash", "…") -> its output."""

    def call(shell: str, program: str, *options: str) -> str:
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not here")
        environment = {
            "PATH": os.pathsep.join([str(COMMANDS), os.environ["PATH"]]),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(folder),
            "TERM": "dumb",
            "SD_SETTINGS": "",
            "SDCLI_MODELS": str(folder / "models"),
            "SDCLI_LORAS": str(folder / "loras"),
            "HF_HUB_CACHE": str(folder / "hub"),
        }
        ran = subprocess.run(
            [shell, *options, "-c", program],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.stderr == "", ran.stderr
        return ran.stdout

    return call


BASH = """
compopt() { [[ $2 == default ]] && is_path=FILES; }
eval "$(sd completion bash)"
function_of=$(complete -p sd | sed 's/.*-F \\([^ ]*\\).*/\\1/')
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$(sed 's/[:=]/ & /g' <<< "$line")"  # as readline does at COMP_WORDBREAKS
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    is_path=
    "$function_of" sd "${COMP_WORDS[COMP_CWORD]}"
    echo "$line=> ${COMPREPLY[*]:-$is_path}"
done
"""
CASES = {
    "sd tx": "txt2img",
    "sd sett": "settings",
    "sd txt2img cat --sampl": "--sampler",
    "sd txt2img cat --sampler euler_an": "",
    "sd txt2img cat --sampler heunpp": "heunpp2",
    "sd txt2img cat --schedule karr": "karras",
    "sd txt2img cat -m dre": "dream",
    "sd txt2img cat --lora wat": "watercolour",
    "sd txt2img cat --sweep samp": "sampler=",
    "sd completion f": "fish",
}
"""A line that is begun -> the only word that completes it."""
IN_BASH = {
    "sd txt2img cat --sampler euler_a:e": "eta=1.0",
    "sd txt2img cat --sampler euler_a:eta=0.5,s": "0.5,s_noise=1.0",
    "sd txt2img cat --sampler=heunpp": "heunpp2",
    "sd txt2img cat --sweep dtype=float16,bf": "float16,bfloat16",
}
"""The same, where bash splits the word at : and = and completes what is behind."""


def test_bash_completes_commands_options_and_names(run):
    lines = "\n".join([*CASES, *IN_BASH])
    out = run("bash", f"{BASH.replace('done', f'done <<END{chr(10)}{lines}{chr(10)}END')}")
    found = dict(line.split("=> ") for line in out.splitlines())
    assert {line: words.strip() for line, words in found.items()} == {**CASES, **IN_BASH}


def test_bash_completes_file_names_where_a_path_is_meant(run):
    out = run("bash", BASH.replace("\ndone\n", "\ndone <<< 'sd img2img cat -i ph'\n"))
    assert out == "sd img2img cat -i ph=> FILES\n"


def test_zsh_completes_as_bash_does(run):
    stubs = """
    _arguments() { :; }; autoload -Uz compinit; compinit -u -D
    _describe() { shift 2 2>/dev/null; print -l -- "${(@P)1%%:*}"; }
    compadd() { print -l -- "${(@P)argv[-1]}"; }
    _path_files() { echo FILES; }
    """
    for line, word in CASES.items():
        if not word:
            continue
        words = " ".join(f"'{each}'" for each in line.split())
        program = (
            f'{stubs}\neval "$(sd completion zsh)"\nwords=({words}); CURRENT=${{#words}}; _sd_completion'
        )
        assert word in run("zsh", program, "-f"), line


def test_fish_completes_as_bash_does(run):
    for line, word in CASES.items():
        program = f"sd completion fish | source; complete -C '{line}'"
        words = [each.split("\t")[0] for each in run("fish", program, "--no-config").splitlines()]
        assert word in words or not word, line
    assert "photo.png" in run(
        "fish", "sd completion fish | source; complete -C 'sd img2img cat -i ph'", "--no-config"
    )


def test_a_broken_settings_file_leaves_the_line_as_it_is(run, folder):
    (folder / "broken.toml").write_text("steps = [")
    begin = "export SD_SETTINGS=broken.toml; unset SDCLI_MODELS"
    assert (
        run("bash", begin + BASH.replace("done", "done <<< 'sd txt2img cat -m dre'"))
        == "sd txt2img cat -m dre=> \n"
    )
