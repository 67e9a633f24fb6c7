"""Small batches for the executors, and samplers that break what draws them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sdcli.batch.executor import Drawn, Event, Executor, Failed, Lost, Task
from sdcli.batch.executors.local import local
from sdcli.request.request import Request

SAMPLERS = '''
import os, signal, time
from sdcli.diffusion.samplers.euler import euler


def deadly(denoise, x, sigmas, noise):
    """Kill the process that draws it."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield x


def deadly_once(denoise, x, sigmas, noise, *, mark=""):
    """Kill the process that draws it, but no second one: then the file `mark` is there."""
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    yield from euler(denoise, x, sigmas, noise)


def poisoned(denoise, x, sigmas, noise):
    """Fail as a bug does."""
    raise RuntimeError("poison")
    yield x


def slow(denoise, x, sigmas, noise, *, folder="", seconds=60.0):
    """Print, leave the number of its process in a folder, and wait."""
    print("this must not reach standard output", flush=True)
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(seconds)
    yield from euler(denoise, x, sigmas, noise)
'''
NAMES = ("deadly", "deadly_once", "poisoned", "slow")


def install_samplers(folder: Path) -> Path:
    """Write an installed package with the samplers above; returns the folder for sys.path."""
    (folder / "breaking_samplers.py").write_text(SAMPLERS)
    package = folder / "breaking_samplers-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking-samplers\nVersion: 1\n")
    entries = "".join(f"{name} = breaking_samplers:{name}\n" for name in NAMES)
    (package / "entry_points.txt").write_text(f"[sdcli.samplers]\n{entries}")
    return folder


def task(number: int, model: str = "test:sd1", sampler: str = "euler", **more: object) -> Task:
    """A task that takes milliseconds."""
    suffix = str(more.pop("suffix", ".png"))
    fields = {"seed": number, "width": 64, "height": 64, "steps": 2, **more}
    return Task(number, Request(prompt=f"picture {number}", model=model, sampler=sampler, **fields), suffix)


def mixed() -> list[Task]:
    """Pictures of two models, in two formats."""
    kinds = [
        {"model": model, "suffix": suffix}
        for model in ("test:sd1", "test:sd2")
        for suffix in (".png", ".webp")
    ]
    return [task(number, **kind) for number, kind in enumerate(kinds * 2)]


def events_of(executor: Executor, tasks: list[Task]) -> list[Event]:
    """All that an executor tells of the tasks."""
    return list(executor.run(tasks, lambda number: None))


def files_in(events: list[Event]) -> dict[int, bytes]:
    """Number -> bytes of the file of each picture that was drawn."""
    return {event.number: event.encode() for event in events if isinstance(event, Drawn)}


def failures_in(events: list[Event]) -> dict[int, str]:
    """Number -> kind of each task that failed."""
    return {event.number: event.failure.kind for event in events if isinstance(event, Failed)}


def losses_in(events: list[Event]) -> list[Lost]:
    """The workers that were lost."""
    return [event for event in events if isinstance(event, Lost)]


def drawn_here(tasks: list[Task]) -> dict[int, bytes]:
    """The files as the local executor draws them."""
    return files_in(events_of(local(), tasks))


def is_running(pid: int) -> bool:
    """True if a process exists and is no zombie; for Linux."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 60) -> bool:
    """True as soon as the condition holds, False if it does not within so many seconds."""
    for _ in range(round(20 * seconds)):
        if condition():
            return True
        time.sleep(0.05)
    return False


def pids_in(folder: Path) -> list[int]:
    """The processes that the sampler `slow` named in a folder."""
    return [int(name) for name in os.listdir(folder) if name.isdigit()]
