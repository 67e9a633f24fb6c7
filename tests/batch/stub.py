"""A batch without networks: an executor whose pictures are made of their seeds, and plans for it."""

import zlib
from dataclasses import dataclass, field

from sdcli.batch.executor import Drawn, Failed, Lost
from sdcli.batch.journal import Journal
from sdcli.batch.outcome import Failure
from sdcli.batch.plan import Destination
from sdcli.batch.planner import make_plan
from sdcli.batch.run import Records, Run, journal_path, resume
from sdcli.errors import ModelError
from sdcli.request.jobfile.batch_job import BatchJob, Source
from sdcli.request.request import Request


def picture_of(request):
    """Bytes that stand for the PNG of a request."""
    return (
        b"PNG of "
        + request.prompt.encode()
        + zlib.compress(bytes(range(256)) * 8)
        + str(request.seed).encode()
    )


@dataclass
class Stub:
    """Draws at once; tasks whose seeds are in `fails` fail, and `lost` events come before each task in it."""

    fails: tuple = ()
    lost: tuple = ()
    drawn: list = field(default_factory=list)

    def run(self, tasks, started):
        for task in tasks:
            started(task.number)
            if task.request.seed in self.lost:
                yield Lost("a worker was lost")
            if task.request.seed in self.fails:
                yield Failed(task.number, Failure.of(ModelError("x.safetensors: is gone; find it")))
                continue
            self.drawn.append(task.request.seed)
            yield Drawn(
                task.number,
                task.request,
                {"sdcli": "0"},
                {"steps": 0.1},
                lambda task=task: picture_of(task.request),
            )


def jobs(count, **changes):
    return [
        BatchJob(
            Request(f"thing {i}", seed=i, model="test:sd1", width=64, height=64, **changes),
            name=f"job-{i}",
            source=Source("jobs.yaml", i + 1),
        )
        for i in range(count)
    ]


def plan_of(root, some, **options):
    return make_plan(some, Destination(root, **options))


def draw(root, some, stub=None, title="jobs", shard=None, retry_failed=False, fail_fast=False, tell=None):
    """Draw a batch below `root` as the command does; returns its records."""
    plan = plan_of(root, some)
    if shard:
        plan = plan.shard(*shard)
    records = Records(plan)
    path = journal_path(root, title, shard)
    resume(records, path, retry_failed)
    with Journal(path) as journal:
        Run(records, stub or Stub(), journal, tell or (lambda *_, **__: None), fail_fast).run()
    return records


def files(root):
    """Name -> bytes of every file below a folder but the journals."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".journal" not in path.name
    }
