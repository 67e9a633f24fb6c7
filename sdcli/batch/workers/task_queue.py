"""TaskQueue: which task a worker draws next, and what becomes of a task whose worker is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from sdcli.batch.executor import Failed, Task
from sdcli.batch.outcome import Failure
from sdcli.request.request import Loading

MAX_LOSSES = 3
"""How often a task may lose its worker. It may be what kills them, and must not kill one after the other."""


class TaskQueue:
    """The tasks that wait for a worker, in their order; a worker goes on with the model that it holds if it can."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._by_model: dict[Loading, deque[tuple[int, Task]]] = {}  # each with its place in the order
        self._places = {task.number: place for place, task in enumerate(tasks)}
        self._losses: Counter[int] = Counter()
        for place, task in enumerate(tasks):
            self._by_model.setdefault(task.request.loading, deque()).append((place, task))

    def __len__(self) -> int:
        return sum(map(len, self._by_model.values()))

    def take(self, held: Loading | None) -> Task | None:
        """The next task by the model that a worker holds, else the next of all; None if none waits."""
        waiting = {loading: tasks for loading, tasks in self._by_model.items() if tasks}
        if not waiting:
            return None
        tasks = waiting.get(held) if held is not None else None
        tasks = tasks or min(waiting.values(), key=lambda each: each[0][0])
        return tasks.popleft()[1]

    def put_back(self, task: Task) -> None:
        """Let a task that was taken wait again, before those behind it."""
        self._by_model[task.request.loading].appendleft((self._places[task.number], task))

    def lose(self, task: Task, reason: str) -> Failed | None:
        """Put back a task whose worker was lost; one that lost too many has failed and is not put back."""
        self._losses[task.number] += 1
        if self._losses[task.number] < MAX_LOSSES:
            self.put_back(task)
            return None
        message = (
            f"its worker was lost {MAX_LOSSES} times, at last: {reason}; draw it alone, or with fewer workers"
        )
        return Failed(task.number, Failure("lost", 1, message))
