"""The ray executor: the bytes of a local run on a cluster of two machines, whatever becomes of them."""

import dataclasses
import importlib.util
import os
import socket
import sys
from importlib.machinery import PathFinder

import pytest

from sdcli.batch.executors import ray as ray_executor
from sdcli.batch.executors.ray import ray as on_ray
from sdcli.batch.workers import machine, ray_actors
from sdcli.batch.workers.dispatch import NoWorkers
from sdcli.batch.workers.ray_actors import environment, shares
from sdcli.errors import UsageError
from tests.batch.batches import (
    drawn_here,
    events_of,
    failures_in,
    files_in,
    losses_in,
    mixed,
    task,
    wait_until,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Ray leaves files open
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(ray_executor.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'sdcli\[ray\]'"):
        on_ray()


def test_a_folder_called_ray_is_not_taken_for_it(monkeypatch, tmp_path):
    (tmp_path / "ray").mkdir()
    monkeypatch.setattr(ray_executor.importlib.util, "find_spec", PathFinder.find_spec)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=r"pip install 'sdcli\[ray\]'"):
        on_ray()


@pytest.mark.parametrize("address", ["somewhere", "ray://host:10001", "host:port", "host:1:2", ":6379"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="HOST:PORT"):
        on_ray(address)


@pytest.mark.parametrize(
    ("nodes", "threads", "expected"),
    [
        ([{"CPU": 8}], 2, (4, {"num_cpus": 2})),
        ([{}, {"CPU": 1}, {"CPU": 1}], 2, (2, {"num_cpus": 1})),
        ([{"CPU": 8}, {"CPU": 3}], 4, (2, {"num_cpus": 4})),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}], 2, (3, {"num_gpus": 1, "num_cpus": 0})),
        ([{}], 2, (1, {"num_cpus": 1})),
    ],
)
def test_a_cluster_takes_an_actor_a_gpu_or_for_the_cores_of_a_picture(nodes, threads, expected):
    assert shares(nodes, threads, uses_device=True) == expected


def test_pictures_on_the_cpu_leave_the_gpus_alone():
    assert shares([{"CPU": 8, "GPU": 2}], 4, uses_device=False) == (2, {"num_cpus": 4})


def test_an_actor_gets_the_threads_of_the_driver_and_what_else_decides_the_bits():
    here = {
        "OMP_NUM_THREADS": "9",
        "MKL_CBWR": "AVX2",
        "SDCLI_LORAS": "/l",
        "SDCLI_CACHE": "/c",
        "HOME": "/h",
    }
    assert environment(here, threads=4) == {
        "OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE", "MKL_CBWR": "AVX2", "SDCLI_LORAS": "/l",
    }  # fmt: skip


def test_nothing_to_draw_starts_no_cluster(monkeypatch):
    monkeypatch.setattr(ray_executor.importlib.util, "find_spec", lambda name: machine.__spec__)
    assert events_of(on_ray(), []) == []


@pytest.fixture(scope="module")
def cluster(breaking_samplers):
    """A cluster of two machines with a core each, beside a head that draws nothing."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@needs_ray
def test_a_cluster_draws_the_bytes_of_a_local_run_and_an_actor_that_is_killed_costs_nothing(
    cluster, tmp_path, capfd
):
    tasks = mixed()
    tasks.insert(1, task(100, sampler="poisoned"))
    tasks.insert(2, task(101, sampler=f"deadly_once:mark={tmp_path / 'killed'}"))
    events = events_of(on_ray(cluster.address), tasks)
    assert failures_in(events) == {100: "bug"}
    assert [lost.numbers for lost in losses_in(events)] == [(101,)]
    assert files_in(events) == drawn_here(tasks[:1] + tasks[2:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_ray
def test_a_task_that_kills_every_actor_fails_after_three(cluster):
    events = events_of(on_ray(cluster.address), [task(100, sampler="deadly"), *mixed()])
    assert failures_in(events) == {100: "lost"}
    assert files_in(events) == drawn_here(mixed())


@pytest.mark.slow
@needs_ray
def test_a_machine_that_differs_is_refused_by_name(cluster, monkeypatch):
    other = dataclasses.replace(machine.this_machine(), torch="1.0")
    monkeypatch.setattr(ray_actors, "this_machine", lambda: other)
    with pytest.raises(NoWorkers, match=rf"on {socket.gethostname()} is not used: torch is .*, not 1.0"):
        events_of(on_ray(cluster.address), mixed())


@pytest.mark.slow
@needs_ray
def test_a_picture_that_the_machines_lack_is_named(cluster, monkeypatch):
    monkeypatch.setattr(ray_actors, "file_digests", lambda request: {"/only/here.png": "0" * 64})
    with pytest.raises(NoWorkers, match=r"/only/here.png is missing there; copy it to the same path"):
        events_of(on_ray(cluster.address), mixed())


@pytest.mark.slow
@needs_ray
def test_closing_the_iterator_kills_the_actors(cluster, tmp_path):
    from tests.batch.batches import is_running, pids_in

    slow = f"slow:folder={tmp_path}"
    events = on_ray(cluster.address).run(
        [task(0), *(task(n, sampler=slow) for n in (1, 2))], lambda number: None
    )
    next(events)
    assert wait_until(lambda: pids_in(tmp_path))
    events.close()
    assert wait_until(lambda: not any(map(is_running, pids_in(tmp_path))), seconds=10)


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_is_not_there_is_told_of_at_once():
    with pytest.raises(UsageError, match=r"--on ray:127.0.0.1:9: cannot be reached: connection refused"):
        events_of(on_ray("127.0.0.1:9"), mixed())


@pytest.mark.slow
@needs_ray
def test_a_machine_that_is_removed_midway_costs_no_picture(cluster, tmp_path):
    """The last test with the cluster, which has one machine less afterwards."""
    tasks = [task(number, sampler=f"slow:folder={tmp_path},seconds=0.5") for number in range(10)]
    begun = []

    def started(number):
        begun.append(number)
        if len(begun) == 5:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    events = list(on_ray(cluster.address).run(tasks, started))
    assert failures_in(events) == {}
    assert len(losses_in(events)) == 1
    assert files_in(events) == drawn_here(tasks)
