"""The ray executor: actors of Ray on this machine or on a cluster, each with a model, on a GPU or some cores."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence

from sdcli.batch.executor import Event, Executor, Task
from sdcli.batch.workers.dispatch import dispatch
from sdcli.errors import UsageError


def ray(option: str = "") -> Executor:
    """Draw on a cluster of Ray: `ray` starts one on this machine, `ray:auto` and `ray:HOST:PORT` join one.

    A cluster is joined from one of its machines. Without an address, RAY_ADDRESS is one, if it is set.
    """
    address = option or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto") and not re.fullmatch(
        r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address
    ):
        raise UsageError(
            f"--on ray:{address}: is not the address of a cluster; use ray:auto on one of its machines, or "
            "ray:HOST:PORT"
        )
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:  # a folder called ray beside the program is no package
        raise UsageError("--on ray: Ray is not installed; pip install 'sdcli[ray]'")
    return Ray(address)


class Ray:
    """Draws tasks in actors of the cluster at an address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def run(self, tasks: Sequence[Task], started: Callable[[int], None]) -> Iterator[Event]:
        """Draw the tasks; closing the iterator kills the actors.

        Raises UsageError if the cluster cannot be joined, and NoWorkers if nothing can be drawn on it.
        """
        if not tasks:
            return

        from sdcli.batch.workers.ray_actors import RayActors
        from sdcli.batch.workers.ray_session import ray_session

        with ray_session(self.address):
            yield from dispatch(RayActors(tasks), tasks, started)
