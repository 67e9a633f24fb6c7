"""The page on batches: each job file in it is read."""

import re
from pathlib import Path

import pytest

from sdcli.request.jobfile.ranges import parse_range
from sdcli.request.jobfile.read import read_jobs
from tests.request.jobfile.reading import no_input

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(yml|json|csv|text)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
JOBS = (16 + 24 + 3, 2 + 6, 2, 4, 3)


@pytest.mark.parametrize(("example", "number"), list(zip(EXAMPLES, JOBS, strict=True)))
def test_each_job_file_of_the_page_is_read(tmp_path, example, number):
    kind, text = example
    (tmp_path / "in").mkdir()
    for name in re.findall(r"in/\w+\.png", text):
        (tmp_path / name).touch()
    (tmp_path / f"jobs.{kind}").write_text(text, encoding="utf-8")
    assert len(read_jobs([f"{tmp_path}/jobs.{kind}"], no_input, {})) == number


def test_the_ranges_of_the_page_have_the_values_it_says():
    rows = re.findall(r"^\| `([\d.]+ *\w* *\d*)` \| ([\d., ]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for text, said in rows:
        assert parse_range(text, whole=False) == [float(each) for each in said.split(",")]
