"""Running a batch: what is done is not done again, what fails fails alone, and the journal tells no lies."""

import json
from dataclasses import replace

import pytest

from sdcli.batch import journal as journals
from sdcli.batch.journal import Journal
from sdcli.batch.merge import merge
from sdcli.batch.run import Records, journal_path, resume
from sdcli.errors import UsageError, WriteError
from tests.batch.stub import Stub, draw, files, jobs, picture_of, plan_of


def test_every_picture_is_drawn_and_journalled(tmp_path):
    draw(tmp_path, jobs(3))
    assert files(tmp_path) == {f"job-{i}.png": picture_of(job.request) for i, job in enumerate(jobs(3))}
    entries = list(journals.read(tmp_path / "jobs.journal.jsonl"))
    assert [entry.state for entry in entries] == ["writing", "done"] * 3


def test_what_is_done_is_not_drawn_again(tmp_path):
    draw(tmp_path, jobs(3))
    again = Stub()
    records = draw(tmp_path, jobs(5), again)
    assert again.drawn == [3, 4]
    assert records.count("skipped") == 3 and records.count("done") == 2


def test_a_job_whose_settings_changed_is_drawn_again_beside_the_old_picture(tmp_path):
    draw(tmp_path, jobs(1))
    again = Stub()
    draw(tmp_path, jobs(1, steps=3), again)
    assert again.drawn == [0] and sorted(files(tmp_path)) == ["job-0-2.png", "job-0.png"]
    once_more = Stub()
    draw(tmp_path, jobs(1, steps=3), once_more)
    assert once_more.drawn == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut short")])
def test_a_picture_that_is_gone_or_altered_is_drawn_again(damage, tmp_path):
    draw(tmp_path, jobs(2))
    damage(tmp_path / "job-1.png")
    again = Stub()
    draw(tmp_path, jobs(2), again)
    assert again.drawn == [1]


def test_a_torn_last_line_of_the_journal_costs_one_picture_at_most(tmp_path):
    draw(tmp_path, jobs(3))
    journal = tmp_path / "jobs.journal.jsonl"
    whole = journal.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - 900, -97):
        journal.write_bytes(whole[:cut])
        again = Stub()
        records = draw(tmp_path, jobs(3), again)
        assert len(again.drawn) <= 1 and records.count("done", "skipped") == 3
        assert all(json.loads(line) for line in journal.read_bytes().splitlines()[-2:-1])


def test_a_foreign_file_of_the_same_name_is_never_touched(tmp_path):
    (tmp_path / "job-0.png").write_bytes(b"mine")
    draw(tmp_path, jobs(1))
    assert files(tmp_path) == {"job-0.png": b"mine", "job-0-2.png": picture_of(jobs(1)[0].request)}


def test_a_job_that_fails_fails_alone(tmp_path):
    records = draw(tmp_path, jobs(4), Stub(fails=(1,)))
    assert [records.by_number[i].state for i in range(4)] == ["done", "failed", "done", "done"]
    assert records.by_number[1].failure.kind == "model"


def test_a_failure_is_remembered_until_it_is_to_be_tried_again(tmp_path):
    draw(tmp_path, jobs(2), Stub(fails=(1,)))
    again = Stub()
    records = draw(tmp_path, jobs(2), again)
    assert again.drawn == [] and records.by_number[1].failure.message == "x.safetensors: is gone; find it"
    retried = draw(tmp_path, jobs(2), again, retry_failed=True)
    assert again.drawn == [1] and retried.count("failed") == 0
    assert draw(tmp_path, jobs(2)).count("failed") == 0


def test_fail_fast_stops_at_the_first_failure(tmp_path):
    records = draw(tmp_path, jobs(4), Stub(fails=(1,)), fail_fast=True)
    assert [records.by_number[i].state for i in range(4)] == ["done", "failed", "not_run", "not_run"]


def test_a_lost_worker_is_told_of(tmp_path):
    told = []
    draw(
        tmp_path,
        jobs(2),
        Stub(lost=(1,)),
        tell=lambda type, *_, **facts: told.append((type, facts.get("message"))),
    )
    assert ("warning", "a worker was lost") in told


def test_pictures_that_cannot_be_written_end_the_batch(tmp_path, monkeypatch):
    from sdcli import store

    def full(*_, **__):
        raise WriteError("x.png: cannot be written: the disk is full")

    monkeypatch.setattr(store, "save", full)
    stub = Stub()
    with pytest.raises(WriteError):
        draw(tmp_path, jobs(50), stub)
    assert len(stub.drawn) < 10


def test_two_processes_do_not_work_on_one_journal(tmp_path):
    with Journal(tmp_path / "x.jsonl"), pytest.raises(UsageError, match="another sd is at work"):
        Journal(tmp_path / "x.jsonl")


def test_an_interrupted_batch_keeps_what_was_drawn(tmp_path):
    class Interrupted(Stub):
        def run(self, tasks, started):
            yield from super().run(tasks[:2], started)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, jobs(5), Interrupted())
    again = Stub()
    draw(tmp_path, jobs(5), again)
    assert again.drawn == [2, 3, 4]


def test_shards_merge_into_the_set_of_the_whole_batch(tmp_path):
    some = jobs(12)
    for i in (1, 2, 3):
        draw(tmp_path / f"shard-{i}", some, shard=(i, 3))
    draw(tmp_path / "whole", some)
    records = Records(plan_of(tmp_path / "merged", some))
    path = journal_path(tmp_path / "merged", "jobs")
    with Journal(path) as journal:
        merge(records, [tmp_path / f"shard-{i}" for i in (1, 2, 3)], journal, lambda *_, **__: None)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert records.count("done") == 12
    assert draw(tmp_path / "merged", some, again := Stub()).count("skipped") == 12 and again.drawn == []


def test_a_shard_that_is_missing_or_altered_leaves_its_jobs_open(tmp_path):
    some = jobs(12)
    draw(tmp_path / "a", some, shard=(1, 2))
    altered = next((tmp_path / "a").glob("*.png"))
    altered.write_bytes(b"other")
    records = Records(plan := plan_of(tmp_path / "merged", some))
    with Journal(journal_path(tmp_path / "merged", "jobs")) as journal:
        merge(records, [tmp_path / "a"], journal, lambda *_, **__: None)
    assert records.count("done") == len(plan.shard(1, 2).jobs) - 1


def test_a_folder_without_a_journal_cannot_be_merged(tmp_path):
    records = Records(plan_of(tmp_path / "merged", jobs(1)))
    with (
        Journal(tmp_path / "merged" / "jobs.journal.jsonl") as journal,
        pytest.raises(UsageError, match="holds no journal"),
    ):
        merge(records, [tmp_path], journal, lambda *_, **__: None)


def test_shards_that_draw_into_one_folder_are_one_batch(tmp_path):
    for i in (1, 2):
        draw(tmp_path, jobs(6), shard=(i, 2))
    again = Stub()
    draw(tmp_path, jobs(6), again)
    assert again.drawn == []


def test_the_outcomes_tell_what_the_pictures_record(tmp_path):
    records = draw(tmp_path, jobs(2), Stub(fails=(1,)))
    done, failed = records.outcomes(tmp_path / "jobs.journal.jsonl")
    assert done.state == "done" and done.facts == {"sdcli": "0"} and done.request.seed == 0
    assert done.path == tmp_path / "job-0.png" and done.seconds == {"steps": 0.1}
    assert failed.state == "failed" and failed.failure.code == 3 and failed.path is None


def test_a_journal_with_anything_in_it_is_read_without_an_error(tmp_path):
    path = tmp_path / "jobs.journal.jsonl"
    path.write_bytes(
        b'null\n[]\n{"v":1}\n{"v":1,"state":3,"key":"x"}\n\xff\xfe\n{"v":2,"state":"done"}\n' + b"[" * 9000
    )
    records = Records(plan_of(tmp_path, jobs(1)))
    resume(records, path)
    assert records.count("not_run") == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug"), UsageError("too wide; use .png")])
def test_a_picture_that_cannot_be_encoded_fails_alone(error, tmp_path):
    class BadEncoding(Stub):
        def run(self, tasks, started):
            for event in super().run(tasks, started):
                if event.number != 1:
                    yield event
                    continue

                def encode():
                    raise error

                yield replace(event, encode=encode)

    records = draw(tmp_path, jobs(3), BadEncoding())
    assert [records.by_number[i].state for i in range(3)] == ["done", "failed", "done"]
