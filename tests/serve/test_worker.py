"""The worker: pictures are drawn one after the other, and each becomes a file while the next is drawn."""

import asyncio
import threading

import pytest

from sdcli.errors import OutOfMemory, UsageError
from sdcli.request.request import Loading, Request
from sdcli.serve import worker
from sdcli.serve.queue import Ask, Finished, Queue
from sdcli.serve.worker import Worker

WAIT = 60.0  # seconds after which a test has failed


def finished(ask) -> Finished:
    return Finished(b"file", ask.request, {}, {"steps": 1.0}, "", (64, 64))


@pytest.fixture
def run(monkeypatch):
    """Let a worker draw with these functions; returns (jobs, what was told of bugs)."""

    def run(count, draw, encode):
        monkeypatch.setattr(worker, "draw", draw)
        monkeypatch.setattr(worker, "encode", encode)
        told: list[str] = []

        async def work():
            queue = Queue()
            thread = Worker(queue, Loading(), asyncio.get_running_loop(), told.append)
            monkeypatch.setattr(type(thread.models), "use", lambda self, loading: threading.Lock())
            jobs = queue.submit([Ask(Request("a cat", seed=seed)) for seed in range(count)])
            thread.start()
            for job in jobs:
                async with asyncio.timeout(WAIT):
                    async for _ in job.follow():
                        pass
            queue.inbox.put(None)
            return jobs

        return asyncio.run(work()), told

    return run


def test_a_picture_is_drawn_while_the_one_before_becomes_a_file(run):
    second_begun = threading.Event()

    def draw(ask, *_):
        if ask.request.seed == 1:
            second_begun.set()
        return ask

    def encode(ask, drawn):
        assert second_begun.wait(WAIT)
        return finished(ask)

    jobs, told = run(2, draw, encode)
    assert [job.state for job in jobs] == ["done", "done"] and told == []


def test_pictures_end_in_the_order_in_which_they_were_asked_for_and_one_waits_for_its_file_at_most(run):
    begun, ended = [], []

    def draw(ask, *_):
        begun.append(ask.request.seed)
        return ask

    def encode(ask, drawn):
        assert begun[-1] - ask.request.seed <= 2
        ended.append(ask.request.seed)
        return finished(ask)

    jobs, told = run(8, draw, encode)
    assert ended == list(range(8)) and told == []
    assert all(job.drawing.result.request.seed == seed for seed, job in enumerate(jobs))


def test_a_picture_that_cannot_be_drawn_or_written_leaves_the_others(run):
    def draw(ask, *_):
        if ask.request.seed == 0:
            raise OutOfMemory("not enough")
        return ask

    def encode(ask, drawn):
        if ask.request.seed == 1:
            raise UsageError("too large")
        if ask.request.seed == 2:
            raise RuntimeError("a bug")
        return finished(ask)

    jobs, told = run(4, draw, encode)
    assert [job.state for job in jobs] == ["failed", "failed", "failed", "done"]
    assert [job.drawing.failure.kind for job in jobs[:3]] == ["memory", "usage", "bug"]
    assert len(told) == 1 and "a bug" in told[0]
