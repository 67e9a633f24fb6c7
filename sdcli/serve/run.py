"""Run: a server from its socket to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sdcli.errors import UsageError, naming_options
from sdcli.request.request import Loading
from sdcli.serve.app import make_app
from sdcli.serve.bodies import Rules as BodyRules
from sdcli.serve.budget import Budget
from sdcli.serve.names import Served
from sdcli.serve.queue import Queue
from sdcli.serve.security import Rules as SecurityRules
from sdcli.serve.service import Service
from sdcli.serve.worker import Worker

if TYPE_CHECKING:
    from types import FrameType

HEADER_SECONDS = 15.0  # until the headers of a request must have arrived
CLOSING_SECONDS = 3  # for answers that are being sent when the server ends


@dataclass(frozen=True)
class Server:
    """What `sd serve` is told."""

    models: tuple[str, ...]
    loading: Loading
    port: int = 7860
    devices: tuple[str, ...] = ("auto",)
    places: int = 16
    budget: Budget = field(default_factory=Budget)
    security: SecurityRules = field(default_factory=SecurityRules)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises UsageError for a port that is in use or an address that is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(
            f"--host {host}: {(error.strerror or 'unknown address').lower()}; try 127.0.0.1"
        ) from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(1024)
    except OSError as error:
        found.close()
        reasons = {errno.EADDRINUSE: "is in use; give another one, or 0 for a free one"}
        reason = reasons.get(
            error.errno or 0, f"cannot be listened on: {(error.strerror or 'unknown').lower()}"
        )
        raise UsageError(f"--port {port}: {reason}") from None
    return found


def address_of(listening: socket.socket, host: str) -> str:
    """The URL of a socket."""
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def run(server: Server, ready: Callable[[str], None], tell: Callable[[str], None]) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the number of the signal when all clients are answered.

    A picture may still be in work: a thread that draws must not be waited for, as a step can take long.

    `ready` is given the address when the first model is loaded. Raises SdError if it cannot be, or the port is in use.
    """
    served = Served(list(server.models), server.loading)
    with contextlib.closing(listen(server.security.host, server.port)) as listening, naming_options(False):
        return asyncio.run(_serve(server, served, listening, ready, tell))


async def _serve(
    server: Server,
    served: Served,
    listening: socket.socket,
    ready: Callable[[str], None],
    tell: Callable[[str], None],
) -> int:
    """Serve until a signal; returns its number."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()
    queue = Queue(server.places)
    queue.workers = len(server.devices)
    service = Service(BodyRules(served, server.budget, server.devices), queue, tell)
    web = _Uvicorn(
        uvicorn.Config(
            make_app(service, server.security),
            http=_TimedProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    with _signals(loop, stopped):
        workers = [Worker(queue, _loading(server, served, device), loop, tell) for device in server.devices]
        for worker in workers:
            worker.start()
        loaded = asyncio.gather(*(asyncio.wrap_future(worker.ready) for worker in workers))
        await _first(loaded, stopped)
        if stopped.done():
            return stopped.result()
        loaded.result()
        serving = asyncio.create_task(web.serve([listening]))
        ready(address_of(listening, server.security.host))
        await _first(serving, stopped)
        if serving.done():
            serving.result()
            raise UsageError("the server ended by itself; give --debug to see why")
        queue.cancel_all()  # whoever waits is answered
        web.should_exit = True
        await serving
        return stopped.result()


def _loading(server: Server, served: Served, device: str) -> Loading:
    import dataclasses

    return dataclasses.replace(server.loading, model=served.default.model, device=device)


async def _first(*awaited: asyncio.Future[Any]) -> None:
    """Wait until one of these is done."""
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


def _set(future: asyncio.Future[int], number: int) -> None:
    if not future.done():
        future.set_result(number)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stopped: asyncio.Future[int]) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM ends the server, and the second one the process, at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if begun:
            before[number](number, frame) if callable(before[number]) else signal.raise_signal(signal.SIGKILL)
        begun.append(number)
        loop.call_soon_threadsafe(_set, stopped, number)

    begun: list[int] = []
    before: dict[int, Any] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a process may be started with Ctrl-C ignored
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _TimedProtocol(H11Protocol):
    """uvicorn's HTTP, in which the headers of a request must arrive in time: who dribbles them is cut off."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the clock if a request's headers are awaited, and stop it when they are there."""
        is_awaited = self.cycle is None or self.cycle.response_complete
        if not is_awaited and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif is_awaited and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
