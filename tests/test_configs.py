"""What lies in configs/ for users to copy does what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_workflow_draws_its_pictures_and_reports_them(tmp_path):
    text = (CONFIGS / "github-workflow.yml").read_text(encoding="utf-8")
    commands = [
        line for line in re.findall(r"^ +(?:- )?run: (.*)$", text, re.MULTILINE) if line.startswith("sd ")
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
        )
        assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert len(told) == len(commands) == 2
    assert all((tmp_path / each["path"]).is_file() for each in told)
