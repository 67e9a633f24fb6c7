"""JUnit, Markdown, annotations and the CSV index: read back by independent readers, with hostile texts."""

import csv
import io
from xml.etree import ElementTree as XML

import pytest
from hypothesis import given

from sdcli.batch.comparison import Comparison
from sdcli.batch.reports.index_csv import index_csv
from sdcli.batch.reports.junit import junit
from sdcli.batch.reports.markdown import MAX_BYTES, annotations, markdown, summary_file
from sdcli.request.jobfile.batch_job import Source
from tests.batch.reports.outcomes import HOSTILE, failed, outcome, sweep
from tests.request.strategies import TEXT


def rows(outcomes):
    return list(csv.DictReader(io.StringIO(index_csv(outcomes), newline="")))


# --- JUnit


def test_junit_counts_what_failed_and_what_was_skipped(tmp_path):
    outcomes = [*sweep(tmp_path), outcome("skipped"), outcome("not_run"), outcome("gone"), failed(kind="bug")]
    suite = XML.fromstring(junit(outcomes, "fruit", 12.5)).find("testsuite")
    counts = {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped", "time")}
    assert counts == {
        "name": "fruit",
        "tests": "16",
        "failures": "2",
        "errors": "1",
        "skipped": "2",
        "time": "12.500",
    }
    assert len(suite.findall("testcase")) == 16


def test_junit_tells_where_a_failed_picture_was_asked_for_and_why_it_failed():
    case = XML.fromstring(junit([failed(name="pear", entry="fruit")], "t", 1)).find("testsuite/testcase")
    assert (case.get("name"), case.get("classname"), case.get("line")) == ("pear", "jobs.yaml.fruit", "3")
    fault = case.find("failure")
    assert (fault.get("type"), fault.get("message")) == ("write", "the disk is full; free some space")
    assert fault.text == "jobs.yaml:3: the disk is full; free some space"


def test_junit_names_the_picture_and_its_seconds(tmp_path):
    case = XML.fromstring(junit(sweep(tmp_path)[:1], "t", 1)).find("testsuite/testcase")
    assert (case.findtext("system-out"), case.get("time")) == (str(tmp_path / "apple-4-1.png"), "1.750")


def test_junit_gives_the_comparison_as_the_reason_of_a_changed_picture():
    changed = outcome("changed", comparison=Comparison("different", 43, 0.96, 41.2, message="43 of 255"))
    assert (
        XML.fromstring(junit([changed], "t", 1)).find("testsuite/testcase/failure").get("message")
        == "43 of 255"
    )


@given(TEXT, TEXT)
def test_junit_is_xml_whatever_the_texts_are(name, message):
    suite = XML.fromstring(junit([failed(message, name=name)], name, 0)).find("testsuite")
    told = suite.find("testcase/failure").get("message")
    assert len(told) == len(message)
    assert [a for a, b in zip(told, message, strict=True) if a != b and a != "\ufffd"] == []


@pytest.mark.parametrize("character", ["\x00", "\x08", "\x1b", "\ud800", "\uffff"])
def test_junit_replaces_a_character_that_xml_forbids(character):
    read = XML.fromstring(junit([failed(f"a{character}b")], "t", 0))
    assert read.find("testsuite/testcase/failure").get("message") == "a\ufffdb"


# --- Markdown


def test_markdown_begins_with_a_summary_and_what_is_wrong(tmp_path):
    lines = markdown(sweep(tmp_path), "fruit", 12.5).splitlines()
    assert lines[0] == "## fruit"
    assert lines[2] == "12 pictures: 11 done, 1 failed in 12.5 s"
    assert lines[4] == "### What is wrong"
    assert lines[8].endswith("| failed | the disk is full; free some space | jobs.yaml:3 |")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_row_of_markdown_stays_one_row_and_holds_no_html(text):
    table = markdown([failed(text, name=text[:100] or "x")], "t", 0).split("### What is wrong")[1].strip()
    assert len(table.splitlines()) == 3
    row = table.splitlines()[2]
    assert row.replace("\\|", "").count("|") == 5
    assert "<" not in row


def test_markdown_over_a_mebibyte_says_how_many_pictures_it_leaves_out():
    outcomes = [outcome(prompt="apple " * 60) for _ in range(4000)]
    page = markdown(outcomes, "t", 0)
    shown = page.count("\n| apple ")
    assert MAX_BYTES - 1000 < len(page.encode()) < 2**20
    assert page.endswith(f"{4000 - shown} more are not shown, for a summary holds 1 MiB.\n")


def test_the_summary_file_is_where_github_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s.md"))
    assert summary_file() == tmp_path / "s.md"
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert summary_file() is None


# --- annotations


def test_an_annotation_marks_the_line_of_the_job_file():
    lines = annotations(
        [outcome(), failed("no: such, model\n100 %", name="a,b:c", source=Source("my,jobs.yaml", 12))]
    )
    assert lines == ["::error file=my%2Cjobs.yaml,line=12,title=a%2Cb%3Ac::failed: no: such, model%0A100 %25"]


def test_ten_annotations_are_followed_by_a_warning_that_counts_the_others():
    lines = annotations([failed()] * 14)
    assert [line.split(" ")[0] for line in lines[:10]] == ["::error"] * 10
    assert lines[10:] == [
        "::warning::4 more pictures failed or differ; the summary and the reports list them"
    ]


# --- CSV


def test_the_index_has_a_row_a_job_with_its_axes_and_settings(tmp_path):
    axes = {"mood": "happy", "cfg": 7}
    row = rows(
        [outcome(name="x", cfg=7.0, steps=20, axes=axes, path=tmp_path / "a.png", seconds={"steps": 2.5})]
    )[0]
    assert list(row)[:5] == ["name", "state", "path", "mood", "seed"]
    assert row["path"] == str(tmp_path / "a.png")
    told = {key: row[key] for key in ("name", "state", "mood", "cfg", "steps", "seed", "seconds", "error")}
    assert told == {
        "name": "x",
        "state": "done",
        "mood": "happy",
        "cfg": "7",
        "steps": "20",
        "seed": "7",
        "seconds": "2.5",
        "error": "",
    }


def test_the_index_tells_why_a_picture_failed():
    assert rows([failed("no such model", name="x")])[0]["error"] == "no such model"


@given(TEXT)
def test_the_index_is_read_back_as_it_was_written(text):
    read = rows([outcome(prompt=text, name="x")])[0]["prompt"]
    assert read.removeprefix("'") == text.removeprefix("'")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " ="])
def test_no_cell_of_the_index_is_run_as_a_formula(start):
    assert rows([outcome(prompt=f"{start}1+1", name="x")])[0]["prompt"] == f"'{start}1+1"


def test_a_negative_number_is_a_number_in_the_index():
    assert rows([outcome(cfg=-5.0)])[0]["cfg"] == "-5"


def test_each_line_of_the_index_ends_as_rfc_4180_wants():
    text = index_csv([outcome(prompt="a")])
    assert text.endswith("\r\n") and text.count("\n") == text.count("\r\n") == 2
