"""Goldens: pictures or hashes that a batch is compared with; new, gone and changed are three states."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcli import store
from sdcli.batch.goldens import Goldens, facts_of
from sdcli.batch.outcome import Failure, Outcome
from sdcli.errors import UsageError, WriteError
from sdcli.request.jobfile.batch_job import BatchJob, Tolerance
from sdcli.request.picture import Picture
from sdcli.request.request import Request

FACTS = {"model": {"family": "sd1", "sha256": "a" * 64}, "device": "cpu", "dtype": "float32", "threads": 2}
KINDS = pytest.mark.parametrize("where", ["goldens", "goldens.jsonl"])
NAMES = ("a.png", "sub/b.png")


def outcome(tolerance=None, **facts):
    request = Request("a cat", seed=7, steps=4)
    return Outcome(
        BatchJob(request, tolerance=tolerance or Tolerance()),
        "done",
        request=request,
        facts={**FACTS, **facts},
    )


def picture(add=0, metadata=True, size=(8, 8), **facts):
    pixels = np.full((*size, 3), 100, np.uint8)
    pixels[0, 0, 0] += add
    return Picture(Image.fromarray(pixels), outcome().request, {**FACTS, **facts}).png(metadata)


@pytest.fixture
def goldens(tmp_path):
    """Goldens of two pictures, written and opened again: goldens("goldens.jsonl")."""

    def make(where, **facts):
        made = Goldens.open(tmp_path / where, update=True)
        for name in NAMES:
            made.update(name, picture(**facts), facts_of(outcome(**facts)))
        made.finish()
        return Goldens.open(tmp_path / where)

    return make


@KINDS
def test_a_picture_that_is_as_its_golden_is_done(goldens, where):
    found = goldens(where).check(outcome(), picture(), "sub/b.png")
    assert (found.state, found.comparison.passes) == ("done", True)


@KINDS
def test_a_picture_without_a_golden_is_new(goldens, where):
    found = goldens(where).check(outcome(), picture(), "c.png")
    assert (found.state, found.comparison, found.is_good) == ("new", None, False)


@KINDS
def test_goldens_without_a_job_are_gone(goldens, where):
    assert goldens(where).gone(["a.png", "c.png"]) == ["sub/b.png"]


@KINDS
def test_a_picture_that_differs_is_changed_and_the_facts_that_differ_are_named(goldens, where):
    found = goldens(where).check(outcome(dtype="bfloat16"), picture(add=9), "a.png")
    assert found.state == "changed"
    assert found.comparison.reasons == {"dtype": ("float32", "bfloat16")}


@KINDS
def test_another_size_is_named(goldens, where):
    found = goldens(where).check(outcome(), picture(size=(8, 16)), "a.png")
    assert (found.state, "8x8 RGB -> 16x8 RGB" in found.comparison.message) == ("changed", True)


@pytest.mark.parametrize(("where", "state"), [("goldens", "done"), ("goldens.jsonl", "changed")])
def test_another_rounding_passes_if_the_golden_is_a_picture_for_a_hash_knows_no_nearness(
    goldens, where, state
):
    found = goldens(where).check(outcome(threads=1), picture(add=1, threads=1), "a.png")
    assert (found.state, found.comparison.reasons) == (state, {"threads": ("2", "1")})


def test_a_jobs_own_tolerance_decides(goldens):
    made = goldens("goldens")
    states = [
        made.check(outcome(tolerance, threads=1), picture(add=4, threads=1), "a.png").state
        for tolerance in (Tolerance(), Tolerance(max=4, psnr=50))
    ]
    assert states == ["changed", "done"]


@KINDS
def test_an_update_makes_a_changed_picture_the_golden(goldens, where):
    made = goldens(where)
    made.update("a.png", picture(add=9), facts_of(outcome()))
    made.finish()
    assert (
        Goldens.open(made.path if where.endswith("l") else made.folder)
        .check(outcome(), picture(add=9), "a.png")
        .is_good
    )


@KINDS
def test_goldens_that_are_gone_can_be_removed(goldens, where):
    made = goldens(where)
    made.remove(made.gone(["a.png"]))
    made.finish()
    assert made.names() == ["a.png"]


@KINDS
def test_an_outcome_without_a_picture_stays_as_it_is(goldens, where):
    failed = dataclasses.replace(outcome(), state="failed", failure=Failure("model", 3, "bad"))
    assert goldens(where).check(failed, b"", "a.png") is failed


@KINDS
def test_goldens_that_are_not_there_are_made_by_update_only(tmp_path, where):
    with pytest.raises(UsageError, match="there are no goldens; --update makes them"):
        Goldens.open(tmp_path / where)
    assert Goldens.open(tmp_path / where, update=True).names() == []


def test_a_golden_picture_without_metadata_is_compared_by_its_pixels(goldens, tmp_path):
    made = goldens("goldens")
    (tmp_path / "goldens" / "a.png").write_bytes(picture(metadata=False))
    assert made.check(outcome(), picture(), "a.png").comparison.verdict == "same_pixels"
    assert made.check(outcome(threads=1), picture(add=1), "a.png").state == "changed"


def test_a_damaged_golden_is_a_changed_picture_with_the_reason(goldens, tmp_path):
    made = goldens("goldens")
    (tmp_path / "goldens" / "a.png").write_bytes(picture()[:60])
    found = made.check(outcome(), picture(), "a.png")
    assert (found.state, found.comparison.verdict) == ("changed", "failed")
    assert found.comparison.message.startswith("its golden cannot be used: ")


@pytest.mark.parametrize("name", ["../a.png", "/tmp/a.png", "sub/../../a.png"])
def test_no_golden_is_written_outside_its_folder(goldens, name):
    with pytest.raises(UsageError, match="is outside the batch's folder"):
        goldens("goldens").update(name, picture(), {})


def test_a_file_of_hashes_is_the_same_bytes_whatever_the_order_of_its_updates(tmp_path):
    files = []
    for i, names in enumerate((NAMES, NAMES[::-1])):
        made = Goldens.open(tmp_path / f"{i}.jsonl", update=True)
        for name in names:
            made.update(name, picture(), facts_of(outcome()))
        made.finish()
        files.append((tmp_path / f"{i}.jsonl").read_text())
    assert files[0] == files[1]
    assert [json.loads(line)["name"] for line in files[0].splitlines()] == list(NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: is no golden"),
        ("\n[1]", ":2: is no golden"),
        ('{"name": "a", "sha256": 1, "shape": "x"}', ":1: is no golden"),
        ('{"name": "a", "sha256": "1", "shape": "x"}\n' * 2, ":2: a is there twice"),
        (b"\xff\xfe", "it is not utf-8"),
    ],
)
def test_a_bad_line_of_hashes_is_named(tmp_path, text, message):
    path = tmp_path / "goldens.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        Goldens.open(path)
    assert message in str(error.value)


def test_a_picture_is_no_folder_of_goldens(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(UsageError, match="a folder of pictures or a"):
        Goldens.open(tmp_path / "a.png")


# --- replacing a file


def test_a_file_is_replaced_at_once_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "sub" / "a.png"
    for data in (b"old", [b"n", b"ew"]):
        assert store.replace(data, path) == path
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["a.png"]


def test_a_replacement_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    store.replace(b"old", path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match="the disk is full"):
        store.replace(b"new", path)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["a.png"])


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(WriteError):
        store.replace(b"new", Path(tmp_path))
