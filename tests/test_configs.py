"""Workflow files: the one in configs/ for users to copy, and the project's own."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def jobs(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["jobs"]


def commands(path: str) -> list[str]:
    """Every `run:` of a workflow file, in order."""
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def test_the_workflow_for_users_draws_its_pictures_and_reports_them(tmp_path):
    draws = [command for command in commands("configs/github-workflow.yml") if command.startswith("sd ")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in draws:
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
        )
        assert ran.returncode == 0, ran.stderr
    reports = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert len(reports) == len(draws) == 2
    assert all((tmp_path / report["path"]).is_file() for report in reports)


@pytest.mark.parametrize("command", commands(".ci/github-workflow.yml"))
def test_each_command_of_the_projects_workflow_is_a_script_or_an_install_that_exists(command):
    if command.startswith("scripts/"):
        script, *options = command.split()
        assert os.access(ROOT / script, os.X_OK)
        text = (ROOT / script).read_text(encoding="utf-8")
        assert all(re.search(rf"^ *{option}\)", text, re.MULTILINE) for option in options)
    elif extra := re.fullmatch(r"pip install -e '\.\[(\w+)\]'", command):
        assert extra[1] in PROJECT["optional-dependencies"]
    else:
        assert command == "pip install torch --index-url https://download.pytorch.org/whl/cpu"


def test_the_projects_workflow_runs_every_supported_python_on_three_systems():
    matrix = jobs(".ci/github-workflow.yml")["test"]["strategy"]["matrix"]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]


def test_the_lowest_versions_are_those_that_the_project_declares():
    ran = subprocess.run(
        [sys.executable, ROOT / "scripts" / "lowest_versions"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert len(ran.stdout.splitlines()) == len(declared)
    for pinned, requirement in zip(ran.stdout.splitlines(), declared, strict=True):
        assert requirement.startswith(pinned.replace("==", ">="))
