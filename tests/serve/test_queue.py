"""The queue: places, shared drawings, and what is forgotten."""

import asyncio

import pytest

from sdcli.request.request import Request
from sdcli.serve import queue as queues
from sdcli.serve.queue import Ask, Drawing, Finished, Queue, QueueFull


def ask(seed: int = 0) -> Ask:
    return Ask(Request("a cat", seed=seed))


def finished(size: int = 10) -> Finished:
    return Finished(b"x" * size, Request("a cat"), {}, {"steps": 1.0}, "", (64, 64))


def test_equal_asks_share_a_drawing_and_take_one_place():
    queue = Queue(places=1)
    first, second = queue.submit([ask()]), queue.submit([ask()])
    assert first[0].drawing is second[0].drawing
    assert first[0].id != second[0].id


def test_a_full_queue_takes_none_of_several():
    queue = Queue(places=2)
    queue.submit([ask(9)])
    with pytest.raises(QueueFull):
        queue.submit([ask(seed) for seed in range(2)])
    assert queue.waiting == 1 and queue.inbox.qsize() == 1


def test_more_pictures_than_there_are_places_are_taken_when_nothing_waits():
    queue = Queue(places=2)
    queue.begin(queue.submit([ask(9)])[0].drawing)
    assert len(queue.submit([ask(seed) for seed in range(3)])) == 3
    with pytest.raises(QueueFull):
        queue.submit([ask(4)])


def test_a_drawing_in_work_takes_no_place():
    queue = Queue(places=1)
    queue.begin(queue.submit([ask(1)])[0].drawing)
    queue.submit([ask(2)])
    with pytest.raises(QueueFull):
        queue.submit([ask(3)])


def test_a_waiting_job_knows_how_many_drawings_are_before_it():
    queue = Queue()
    jobs = queue.submit([ask(1), ask(2), ask(2), ask(3)])
    assert [queue.ahead_of(job) for job in jobs] == [0, 1, 1, 2]
    queue.begin(jobs[0].drawing)
    assert [queue.ahead_of(job) for job in jobs] == [0, 1, 1, 2]
    queue.cancel(*jobs[1:3])
    queue.end(jobs[0].drawing, "done", finished())
    assert [queue.ahead_of(job) for job in jobs] == [0, 0, 0, 0]


def test_a_shared_drawing_stops_when_the_last_of_its_jobs_is_cancelled():
    queue = Queue()
    first, second = (queue.submit([ask()])[0] for _ in range(2))
    queue.begin(first.drawing)
    queue.cancel(first)
    assert first.state == "cancelled" and second.state == "running" and not second.drawing.stops
    queue.cancel(second)
    assert second.drawing.stops


def test_an_ask_that_equals_one_being_stopped_gets_a_drawing_of_its_own():
    queue = Queue()
    (job,) = queue.submit([ask()])
    queue.begin(job.drawing)
    queue.cancel(job)
    (other,) = queue.submit([ask()])
    queue.end(job.drawing, "cancelled")
    assert other.drawing is not job.drawing and other.state == "queued" and queue.waiting == 1


def test_a_cancelled_job_that_waits_frees_its_place():
    queue = Queue(places=1)
    queue.cancel(*queue.submit([ask(1)]))
    assert queue.submit([ask(2)])[0].state == "queued"


def test_kept_jobs_are_forgotten_when_they_are_old_many_or_large(monkeypatch):
    queue = Queue(places=100)
    monkeypatch.setattr(queues, "KEPT_JOBS", 3)
    monkeypatch.setattr(queues, "KEPT_BYTES", 25)
    jobs = [queue.submit([ask(seed)], keep=True)[0] for seed in range(5)]
    assert len(queue.kept()) == 5  # none has ended
    for job in jobs:
        queue.end(job.drawing, "done", finished())
    assert queue.kept() == jobs[-2:]
    monkeypatch.setattr(queues, "KEPT_SECONDS", -1.0)
    assert queue.kept() == [] and queue.find(jobs[-1].id) is None


def test_whoever_follows_a_job_sees_its_end():
    async def follow() -> list[str]:
        queue = Queue()
        (job,) = queue.submit([ask()])
        states: list[str] = []
        async for drawing in job.follow():
            states.append(drawing.state)
            if len(states) == 1:
                queue.begin(drawing)
            elif len(states) == 2:
                queue.end(drawing, "done", finished())
        return states

    assert asyncio.run(follow()) == ["queued", "running", "done"]


@pytest.mark.parametrize(
    ("count", "steps", "expected"), [(0, 20, []), (2, 9, [3, 6]), (3, 4, [1, 2, 3]), (3, 2, [1]), (3, 1, [])]
)
def test_previews_are_spread_evenly_and_none_is_of_the_last_step(count, steps, expected):
    drawing = Drawing(ask(), preview_count=count)
    assert [step for step in range(1, steps + 1) if drawing.wants_preview(step, steps)] == expected
