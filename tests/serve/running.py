"""Running: a real `sd serve` in a process of its own, and how tests speak to it byte by byte."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SMALL = {"steps": 2, "width": 64, "height": 64}
LONG = {"steps": 900, "width": 256, "height": 256}
"""A picture that is not done before the test is."""


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict, bytes]:
        """(status, headers, body) of an answer; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            more.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, path, data, more)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        """(status, JSON) of an answer."""
        status, _, data = self.ask(method, path, body)
        return status, json.loads(data)

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.rpartition(" ")[0] == name)

    def connect(self) -> socket.socket:
        """A connection on which a test writes bytes itself."""
        return socket.create_connection(("127.0.0.1", self.port))

    def post(self, path: str, body: object) -> socket.socket:
        """A connection on which a request was sent and no answer was read yet."""
        data, connection = json.dumps(body).encode(), self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return connection

    def occupy(self, jobs: int, seed: int = 0, running: int = 1) -> list[str]:
        """Let it draw long pictures, until so many are drawn at once; returns the ids of their jobs."""
        ids: list[str] = []
        for first, count in ((seed, 1), (seed + 1, jobs - 1)):
            if count:
                body = {"prompt": "a cat", "count": count, "seed": first, **LONG}
                ids += [job["id"] for job in self.json("POST", "/v1/jobs", body)[1]["jobs"]]
                self.until(lambda: self.metric("sd_running") == running)
        return ids

    def free(self, ids: list[str]) -> None:
        """Cancel jobs, and wait until nothing is drawn."""
        for id in ids:
            self.json("DELETE", f"/v1/jobs/{id}")
        self.until(lambda: self.metric("sd_queue_length") == self.metric("sd_running") == 0)

    def until(self, holds) -> None:
        """Wait until something holds, for as long as the server lives."""
        for _ in range(6000):
            if holds():
                return
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.01)
        raise AssertionError("it never held")


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Inside, programs are started that Ctrl-C ends, even if this one was started with Ctrl-C ignored, as by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(folder: Path, *options: str, **environment: str) -> Served:
    """Start `sd serve` on a free port, and wait until it has printed its address."""
    command = [sys.executable, "-m", "sdcli", "serve", "--port", "0", *options]
    with open(folder / "server.log", "wb") as log, heeding_interrupts():
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, cwd=folder, env={**os.environ, **environment}
        )
    line = process.stdout.readline().decode().strip()
    served = Served(process, line)
    if not line.startswith("http://"):
        stop(served)
        raise AssertionError((folder / "server.log").read_text())
    return served


def stop(served: Served) -> None:
    """End a server at once."""
    served.process.kill()
    served.process.wait()
    served.process.stdout.close()


def events_of(data: bytes) -> list[dict]:
    """The JSON of server-sent events."""
    return [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: ")]
