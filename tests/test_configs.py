"""What users copy: every file in configs/ is read or run here; and the project's own workflow."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sdcli.request.jobfile.read import read_jobs

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
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
    extras = PROJECT["optional-dependencies"]
    assert "sdcli[serve]" in extras["test"]
    own = [each for each in extras["test"] if each != "sdcli[serve]"]
    declared = [*PROJECT["dependencies"], *own, *extras["serve"]]
    lowest = [requirement.partition(",")[0].replace(">=", "==") for requirement in declared]
    assert sorted(ran.stdout.splitlines()) == sorted(lowest)


# --- batches: the job files, and who draws them

JOB_FILES = {"sweep.yaml": 20, "regression.yaml": 5, "catalogue.jsonl": 5, "prompts.txt": 3, "items.csv": 5}
"""Job file -> the number of pictures that it says it is."""
SMALL = 'version: 1\ndefaults: {model: "test:sd1", steps: 1}\njobs: [{name: a, prompt: [a cat, a dog], seed: 1..3}]\n'


@pytest.mark.parametrize("name", JOB_FILES)
def test_each_job_file_asks_for_as_many_pictures_as_it_should(name):
    jobs_in_it = read_jobs([str(CONFIGS / name)], lambda: b"", {})
    assert len(jobs_in_it) == JOB_FILES[name]
    assert len({job.name for job in jobs_in_it if job.name}) in (0, len(jobs_in_it))


def test_every_file_in_configs_is_tested_here():
    tested = {
        *JOB_FILES,
        "github-workflow.yml",
        "github-batch.yml",
        "gitlab-ci.yml",
        "slurm.sh",
        "settings.toml",
    }
    assert {path.name for path in CONFIGS.iterdir()} == tested


@pytest.fixture
def shell(tmp_path):
    """Run a text in bash in an empty folder that holds jobs.yaml, with `sd` on the path: shell("…", SHARDS="2")."""
    (tmp_path / "jobs.yaml").write_text(SMALL)

    def call(text: str, *arguments: str, **variables: str) -> str:
        path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", text, "bash", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, **variables},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{text}\n{ran.stderr}"
        return ran.stdout

    return call


def commands_in(name: str) -> list[str]:
    """The `sd` commands that the comments at the beginning of a sample file name."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    return [
        found.split("   ")[0].rstrip() for found in re.findall(r"^#.*?\b(sd batch .*)$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("name", [pytest.param("sweep.yaml", marks=pytest.mark.slow), "prompts.txt"])
def test_the_commands_that_a_job_file_names_in_its_head_run(shell, tmp_path, name):
    shutil.copy(CONFIGS / name, tmp_path)
    named = commands_in(name)
    assert named
    for command in named:
        shell(f"{command.replace('--steps 12', '')} --steps 2")
    assert len(list(tmp_path.rglob("*.png"))) >= JOB_FILES[name]


def test_a_regression_suite_fails_where_a_picture_is_changed(shell, tmp_path):
    text = (CONFIGS / "regression.yaml").read_text(encoding="utf-8")
    fast = text.replace("model: tiny", 'model: "test:sd1"').replace("(a red apple:1.3)", "a red apple")
    (tmp_path / "regression.yaml").write_text(fast)
    update, check = commands_in("regression.yaml")
    shell(f"{update} --steps 2")
    shell(f"{check} --steps 2; test -s report.xml -a -s report.md")
    shell(f"! {check.replace('-o out', '-o other')} --steps 3")
    assert len(list((tmp_path / "out").glob("*.png"))) == JOB_FILES["regression.yaml"]


def test_the_workflow_for_batches_draws_each_job_once_and_merges_the_parts(shell, tmp_path):
    drawing, merging = jobs("configs/github-batch.yml").values()
    shards = drawing["strategy"]["matrix"]["shard"]
    assert shards == [*range(1, int(drawing["env"]["SHARDS"]) + 1)]
    (draw,) = [step["run"] for step in drawing["steps"] if step.get("run", "").startswith("sd ")]
    (merge,) = [step["run"] for step in merging["steps"] if step.get("run", "").startswith("sd ")]
    for shard in map(str, shards):
        shell(draw.replace("${{ matrix.shard }}", shard), SHARDS=str(len(shards)))
        (tmp_path / "parts" / f"part-{shard}").mkdir(parents=True)
        (tmp_path / "out").rename(tmp_path / "parts" / f"part-{shard}" / "out")
        assert (tmp_path / f"report-{shard}.xml").is_file()
    shell(merge, GITHUB_STEP_SUMMARY="summary.md")
    assert len(list((tmp_path / "all").rglob("*.png"))) == 6
    assert all((tmp_path / name).is_file() for name in ("sheet.png", "gallery.html", "summary.md"))


@pytest.mark.slow
def test_the_pipeline_for_gitlab_draws_each_job_once_and_merges_the_parts(shell, tmp_path):
    pipeline = yaml.safe_load((CONFIGS / "gitlab-ci.yml").read_text(encoding="utf-8"))
    parts = pipeline["draw"]["parallel"]
    for part in range(1, parts + 1):
        shell(*pipeline["draw"]["script"], CI_NODE_INDEX=str(part), CI_NODE_TOTAL=str(parts))
    shell(*pipeline["merge"]["script"])
    assert len(list((tmp_path / "all").rglob("*.png"))) == 6
    assert all((tmp_path / name).is_file() for name in ("sheet.png", "gallery.html", "report-1.xml"))


SBATCH = """#!/bin/bash
# Runs what is submitted at once: each job of an array in turn.
first=1 last=1
while [[ $1 == --* ]]; do
    [[ $1 == --array=* ]] && first=${1#--array=} last=${first#*-} first=${first%-*}
    [[ $1 == --dependency=afterany:7 ]] && echo waited >> sbatch.log
    shift
done
for ((i = first; i <= last; i++)); do SLURM_ARRAY_TASK_ID=$i bash "$@" >> sbatch.log; done
echo 7
"""


@pytest.mark.slow
def test_the_script_for_slurm_submits_an_array_and_the_merge_behind_it(shell, tmp_path):
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    assert shell('bash "$1" jobs.yaml 3', str(CONFIGS / "slurm.sh")) == "7\n"
    assert len(list((tmp_path / "all").rglob("a-*.png"))) == 6
    assert all((tmp_path / "all" / name).is_file() for name in ("sheet.png", "gallery.html"))
    assert "waited" in (tmp_path / "sbatch.log").read_text()
