"""Dispatch with workers that are played: each task's number decides what becomes of its worker."""

from dataclasses import dataclass, field

import pytest

from sdcli.batch.executor import Drawn, Failed, Lost
from sdcli.batch.workers.dispatch import Answered, Gone, NoWorkers, Ready, dispatch
from sdcli.batch.workers.task_queue import MAX_LOSSES
from tests.batch.batches import failures_in, losses_in, task


@dataclass
class Played:
    """Workers that answer in turn. `fates` are what becomes of a task each time that it is given, by its number."""

    wanted: int = 2
    patience: float = 60.0
    fates: dict[int, list[str]] = field(default_factory=dict)
    on_start: list[str] = field(default_factory=list)  # what becomes of the workers that are started, in turn
    reports: list = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)
    stopped: bool = False

    def start(self, worker):
        fate = self.on_start.pop(0) if self.on_start else "ready"
        if fate == "ready":
            self.reports.append(Ready(worker))
        elif fate != "never":
            self.reports.append(Gone(worker, "no memory", is_unfit=fate == "unfit"))

    def give(self, worker, task):
        self.given.append((worker, task.number))
        fates = self.fates.get(task.number, [])
        fate = fates.pop(0) if fates else "drawn"
        if fate == "drawn":
            self.reports.append(Answered(worker, Drawn(task.number, task.request, {}, {}, bytes)))
            return
        self.reports.append(Gone(worker, f"worker {worker} {fate}", fate == "away", fate == "unfit"))
        if fate == "away":
            self.reports.append(Ready(worker))

    def wait(self):
        return [self.reports.pop(0)] if self.reports else []

    def stop(self):
        self.stopped = True


def run(workers, count=6):
    return list(dispatch(workers, [task(number) for number in range(count)], lambda number: None))


def ends(events):
    return sorted(event.number for event in events if isinstance(event, (Drawn, Failed)))


def test_each_task_is_answered_once_and_the_workers_are_stopped():
    workers = Played()
    assert ends(run(workers)) == list(range(6))
    assert workers.stopped


def test_a_task_whose_worker_is_lost_is_drawn_by_another_one_next():
    workers = Played(wanted=1, fates={0: ["died"]})
    events = run(workers)
    assert losses_in(events) == [Lost("worker 1 died", (0,))]
    assert workers.given[:3] == [(1, 0), (2, 0), (2, 1)]
    assert ends(events) == list(range(6))


def test_a_task_that_loses_every_worker_fails_and_the_others_are_drawn():
    events = run(Played(fates={2: ["died"] * 9}))
    assert failures_in(events) == {2: "lost"}
    assert len(losses_in(events)) == MAX_LOSSES
    assert ends(events) == list(range(6))


def test_a_worker_that_was_away_is_used_again_when_it_answers():
    workers = Played(wanted=1, fates={0: ["away"]})
    assert ends(run(workers)) == list(range(6))
    assert {worker for worker, _ in workers.given} == {1}


def test_a_worker_that_is_unfit_is_not_replaced_and_its_task_is_not_to_blame():
    workers = Played(wanted=4, fates={0: ["unfit"] * 3})
    events = run(workers)
    assert ends(events) == list(range(6))
    assert failures_in(events) == {}
    assert workers.wanted == 1


def test_a_batch_that_no_worker_fits_ends_with_the_reason():
    with pytest.raises(NoWorkers, match="6 pictures are left, and no worker: no memory"):
        run(Played(on_start=["unfit", "unfit"]))


def test_workers_that_cannot_be_started_are_not_started_for_ever():
    workers = Played(on_start=["dead"] * 99)
    with pytest.raises(NoWorkers, match="no memory"):
        run(workers)
    assert len(workers.on_start) >= 99 - 4
    assert workers.stopped


def test_workers_that_never_come_are_not_waited_for_for_ever():
    with pytest.raises(NoWorkers, match="none came within 0 seconds"):
        run(Played(patience=0.01, on_start=["never"] * 2))


def test_no_more_workers_are_started_than_there_are_tasks():
    workers = Played(wanted=64)
    run(workers, count=3)
    assert {worker for worker, _ in workers.given} <= {1, 2, 3}


def test_closing_the_iterator_stops_the_workers():
    workers = Played()
    events = dispatch(workers, [task(0), task(1)], lambda number: None)
    next(events)
    events.close()
    assert workers.stopped


def test_each_drawing_that_begins_is_told_again_after_a_loss_too():
    begun = []
    list(dispatch(Played(wanted=1, fates={0: ["died"]}), [task(0), task(1)], begun.append))
    assert begun == [0, 0, 1]


def test_a_worker_has_its_next_task_before_the_driver_writes_its_last_one():
    workers = Played(wanted=1)
    next(dispatch(workers, [task(0), task(1)], lambda number: None))
    assert workers.given == [(1, 0), (1, 1)]
