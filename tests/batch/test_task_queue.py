"""Which task a worker draws next."""

from sdcli.batch.workers.task_queue import MAX_LOSSES, TaskQueue
from tests.batch.batches import task

TASKS = [task(number, model) for number, model in enumerate(["test:sd1"] * 3 + ["test:sd2"] * 2)]
SD2 = TASKS[-1].request.loading


def taken(queue, *held):
    return [found and found.number for found in map(queue.take, held)]


def test_a_worker_without_a_model_takes_the_tasks_in_their_order():
    assert taken(TaskQueue(TASKS), *[None] * 6) == [0, 1, 2, 3, 4, None]


def test_a_worker_goes_on_with_its_model_and_then_takes_the_next_of_all():
    assert taken(TaskQueue(TASKS), SD2, SD2, SD2) == [3, 4, 0]


def test_a_task_that_is_put_back_comes_before_those_behind_it():
    queue = TaskQueue(TASKS)
    first = queue.take(None)
    queue.take(None)
    queue.put_back(first)
    assert taken(queue, None, None) == [0, 2]


def test_a_task_that_loses_three_workers_has_failed_and_waits_no_more():
    queue = TaskQueue(TASKS[:1])
    answers = [queue.lose(queue.take(None), "killed") for _ in range(MAX_LOSSES)]
    assert answers[:-1] == [None, None]
    assert answers[-1].failure.kind == "lost"
    assert "killed" in answers[-1].failure.message
    assert len(queue) == 0
