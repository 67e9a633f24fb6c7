"""D2: no test depends on the speed of the machine; on a loaded one, lines of progress came where none was expected."""

import ast
import re
from pathlib import Path

import hypothesis
import pytest

from sdcli.commands import _generate

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))


def test_d2_sd_prints_no_progress_in_tests_however_slow_the_steps_are(draw, monkeypatch):
    monkeypatch.setattr(_generate.time, "monotonic", iter(range(0, 10**6, 1000)).__next__)
    assert draw("a cat", "--seed", 7, "--steps", 5).err == ""


def test_d2_users_get_a_line_of_progress_at_most_every_interval(monkeypatch, capsys):
    monkeypatch.setattr(_generate.time, "monotonic", iter(range(0, 10**6, 3)).__next__)
    monkeypatch.setattr(_generate, "PROGRESS_INTERVAL", 5.0)

    class Step:
        number, total = 1, 6

    list(_generate._progress_lines(iter([Step()] * 6), "steps"))
    assert 1 <= len(capsys.readouterr().err.splitlines()) < 6


def test_d2_no_example_of_hypothesis_has_a_deadline():
    assert hypothesis.settings().deadline is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_d2_no_test_compares_a_time_with_a_fixed_limit(path):
    """Limits are `allowed(…)`, and a process that is waited for has no timeout; `process_time` is of the CPU."""
    if path.name == "speed.py":
        return
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and re.search(
            r"(process_time|perf_counter|monotonic)\(", ast.unparse(node)
        ):
            assert "allowed(" in ast.unparse(node), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".communicate", ".wait", "subprocess.run")
        ):
            assert not [each for each in node.keywords if each.arg == "timeout"], f"{path}:{node.lineno}"
