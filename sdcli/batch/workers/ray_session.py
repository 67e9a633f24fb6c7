"""Ray session: joins or starts a cluster, without a word on the terminal and without a call home."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

from sdcli.errors import UsageError

OBJECT_STORE = 256 * 2**20  # bytes of shared memory: finished pictures pass through it, and nothing else
CONNECT_SECONDS = 10


@contextlib.contextmanager
def ray_session(address: str) -> Iterator[None]:
    """Inside, this process is connected to the cluster at `address`; `local` starts one that ends with the session.

    A program that is connected already stays so. Raises UsageError if the cluster cannot be joined.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import; it reports to its makers otherwise
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it, Ray prints a hint on GPUs

    import ray

    if ray.is_initialized():
        yield
        return
    with _printing_nothing():
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    if address not in ("local", "auto"):
        _check_someone_answers(address)
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} if address == "local" else {}
    try:
        with _signals_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--on ray:{address}: {reason:.400}; its machines need the same Ray ({ray.__version__} here) and Python, "
            "and the same RAY_AUTH_TOKEN if tokens are used"
        ) from error


def _check_someone_answers(address: str) -> None:
    """Raise UsageError at once if nothing listens at the address; Ray itself waits for a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(
            f"--on ray:{address}: cannot be reached: {reason}; start the cluster with `ray start --head`"
        ) from None


@contextlib.contextmanager
def _printing_nothing() -> Iterator[None]:
    """Inside, Ray does not print the reports of other machines on standard output; it has no setting for that."""
    from ray._private import worker

    name = "print_to_stdstream"
    before = getattr(worker, name, None)
    setattr(worker, name, lambda *arguments, **more: None)
    try:
        yield
    finally:
        setattr(worker, name, before)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What this process does on SIGTERM and Ctrl-C stays as it was; Ray replaces the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
