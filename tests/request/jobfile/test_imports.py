"""Imports: what a job file does not need is not imported for it."""

import subprocess
import sys

PROGRAM = """
import sys
from sdcli.request.jobfile.read import read_jobs
read_jobs(["-"], lambda: sys.argv[1].encode(), {})
print([name for name in ("torch", "yaml", "dynamicprompts", "numpy") if name in sys.modules])
"""


def imported(text):
    """Which heavy modules a process has imported that read a job file with this text."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM, text], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_a_list_of_prompts_imports_nothing_heavy():
    assert imported("a {red|blue} car\na cat --steps 5") == "[]"


def test_yaml_is_imported_for_yaml():
    assert imported("jobs: [a cat]") == "['yaml']"
