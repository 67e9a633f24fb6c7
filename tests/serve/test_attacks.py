"""Attacks: what clients must not achieve, whatever they send; after each, the server draws as before."""

import http.client
import json
import random
import socket
import threading
from pathlib import Path

import pytest

from tests.serve.running import SMALL, events_of

CHANCE = random.Random(0)


@pytest.fixture(autouse=True)
def draws_as_before(server):
    """After each attack, the same request gets the same picture, and no bug was told."""
    body = {"prompt": "a cat", "seed": 1, **SMALL}
    before = picture(server, body)
    yield
    server.until(lambda: server.metric("sd_running") == 0)
    assert picture(server, body) == before
    log = Path(f"/proc/{server.process.pid}/fd/2")
    if log.exists():  # on Linux
        assert "Traceback" not in log.resolve().read_text()


def picture(server, body) -> str:
    return events_of(server.ask("POST", "/v1/jobs", body, Accept="text/event-stream")[2])[-2]["picture"]


def raw(server, data: bytes) -> bytes:
    """The answer to these bytes; empty if the connection was closed."""
    with server.connect() as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
        except OSError:
            return b""


def test_a_rebound_name_reaches_nothing(server):
    body = {"prompt": "a cat", **SMALL}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/images/generations"), ("DELETE", "/v1/jobs/x")):
        data = body if method == "POST" else None
        status, headers, _ = server.ask(method, path, data, Host="rebound.example:7860")
        assert status == 403 and headers["x-content-type-options"] == "nosniff"


def test_a_foreign_pages_simple_request_draws_nothing(server):
    body = json.dumps({"prompt": "a cat", **SMALL}).encode()
    before = server.metric('sd_pictures_total{state="done"}')
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain", "Origin": "http://evil.example"},
        {"Content-Type": "application/json", "Origin": "null"},
        {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"},
    ):
        assert server.ask("POST", "/v1/images/generations", body, **headers)[0] in (403, 415)
    assert server.metric('sd_pictures_total{state="done"}') == before


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd",
     "/v1/models//etc/passwd", "/v1/jobs/..%5c..%5cboot.ini/picture", "/v1/models/%00", "/v1/jobs/%ff"],
)  # fmt: skip
def test_no_path_reaches_a_file(server, path):
    status, _, data = server.ask("GET", path)
    assert status in (400, 404) and b"root:" not in data


@pytest.mark.parametrize("headers", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked"])
def test_a_body_of_100_mb_is_not_taken(server, headers):
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + headers + b"\r\n\r\n"
        )  # fmt: skip
        chunk = b"x" * 1_000_000
        if b"chunked" in headers:
            chunk = b"%x\r\n%s\r\n" % (len(chunk), chunk)
        try:
            for _ in range(100):
                connection.sendall(chunk)
        except OSError:
            pass  # it does not listen any more
        try:
            answer = connection.recv(65536)
        except OSError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")


def test_two_lengths_and_requests_within_requests_are_refused(server):
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for lengths in (
        b"Content-Length: 2\r\nContent-Length: 50\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: +5\r\n",
    ):
        assert raw(server, head + lengths + b"\r\n{}" + smuggled).startswith((b"HTTP/1.1 400", b""))
    both = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert not raw(server, head + both + smuggled).count(b"200 OK") > 1


GARBAGE = [
    b"", b"{", b"[]", b"null", b"5", b'"x"', b"{}", b"\xff\xfe\x00", b'{"prompt": NaN}', b"[" * 5000, b'{"a":' * 2000,
    b'{"prompt": "a", "prompt": "b"}', b'{"prompt": "\\ud800"}', b'{"prompt": "a\\u0000b"}', b'{"seed": 1e400}',
    b'{"prompt": "a", "steps": 99999999999999999999999999}', b'{"prompt": {"a": 1}}', b'{"prompt": "a", "seed": [[]]}',
    b'{"prompt": "a", "width": "64..8192"}', b'{"prompt": "a", "size": "0x0"}', b'{"prompt": "a", "n": -1}',
    b'{"prompt": "a", "mask": "AAAA"}', b'{"prompt": "a", "image": "iVBORw0KGgo="}',
    b'{"prompt": "<lora:../../x:1>"}', b'{"prompt": "__../../../etc/passwd__"}', b'{"prompt": "a", "style": ["x"]}',
    b'{"prompt": "a", "zip": 5}', b'{"prompt": "a", "except": [{}]}', b'{"jobs": {"a": 1}}',
    b'{"defaults": 1, "jobs": [1]}',
    b'{"vars": {"x": "$x"}, "jobs": [{"prompt": "$x$x"}], "version": 2}', b'{"prompt": "a", "model": "../tiny"}',
    b'{"prompt": "a", "control": ["x"]}', b'{"prompt": "a", "background": "url(x)"}',
    b'{"prompt": "a", "sigmas": "1,2"}', b'{"prompt": "a", "seed": "1..1000000"}',
    b'{"prompt": "a", "control": [{"file": "x", "image": "/etc/passwd"}]}', b'{"prompt": "a", "region": [{}]}',
]  # fmt: skip
PATHS = [
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/jobs",
    "/v1/models",
    "/v1/jobs/x",
    "/nope",
    "/v1/jobs?format=exe",
    "/sdapi/v1/img2img",
    "/sdapi/v1/options",
    "/sdapi/v1/png-info",
    "/sdapi/v1/extra-single-image",
    "/sdapi/v1/progress",
    "/controlnet/model_list",
]


def garbage(chance: random.Random) -> tuple[str, str, bytes, str]:
    """A method, path, body and type that make no sense, or hardly."""
    body = bytearray(chance.choice(GARBAGE))
    for _ in range(chance.choice((0, 0, 1, 5)) if body else 0):
        body[chance.randrange(len(body))] = chance.randrange(256)
    kind = chance.choice(
        ["application/json"] * 8
        + ["multipart/form-data; boundary=x", "multipart/form-data", "text/plain", ""]
    )
    if kind.startswith("multipart"):
        body = bytearray(
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            + body
            + b"\r\n--x--\r\n"
        )
    return (
        chance.choice(["POST"] * 8 + ["GET", "PUT", "PATCH", "BREW"]),
        chance.choice(PATHS),
        bytes(body),
        kind,
    )


def throw_garbage(server, count: int, chance: random.Random) -> set[int]:
    """The statuses of the answers to so many requests that make no sense."""
    statuses: set[int] = set()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for _ in range(count):
        method, path, body, kind = garbage(chance)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
        except (http.client.HTTPException, OSError):
            connection.close()
    connection.close()
    return statuses


def test_requests_that_make_no_sense_are_refused(server):
    statuses = throw_garbage(server, 300, random.Random(1))
    assert statuses and not any(status >= 500 for status in statuses), statuses


@pytest.mark.slow
def test_10_000_requests_that_make_no_sense_are_refused(server):
    statuses = throw_garbage(server, 10_000, random.Random(2))
    assert not any(status >= 500 for status in statuses), statuses


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:40]))
def test_each_kind_of_garbage_is_refused_as_a_job_and_as_a_generation(server, body):
    for path in ("/v1/jobs", "/v1/images/generations"):
        status, _, data = server.ask("POST", path, body)
        assert 400 <= status < 500 and json.loads(data)["error"]["message"], (path, data)


@pytest.mark.parametrize("path", ["img2img", "png-info", "extra-single-image"])
def test_garbage_is_refused_by_a1111s_api(server, path):
    for body in GARBAGE:
        status, _, data = server.ask("POST", f"/sdapi/v1/{path}", body)
        assert 400 <= status < 500 and json.loads(data)["detail"], (body, data)


def test_bodies_that_come_slowly_keep_nobody_waiting(server):
    slow = [server.connect() for _ in range(20)]
    for connection in slow:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"prompt": '
        )
    assert server.json("POST", "/v1/jobs", {"prompt": "a cat", "seed": 2, **SMALL})[0] == 202
    for connection in slow:
        connection.close()


@pytest.mark.slow
def test_a_body_that_does_not_come_is_answered_408(server):
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"prompt": '
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")  # after 30 s


def test_a_body_of_millions_of_values_is_refused_before_it_is_read(server):
    for body in (
        b"[" + b"[]," * 4_000_000 + b"[]]",
        b'{"prompt": "a", "seed": [' + b"1," * 4_000_000 + b"1]}",
    ):
        status, _, data = server.ask("POST", "/v1/jobs", body)
        assert status == 400 and b"values" in data


def test_200_clients_at_once_get_a_picture_or_are_told_to_wait(server):
    statuses: list[int] = []
    seeds: list[int] = []

    def ask(seed: int) -> None:
        body = {"prompt": "a bus", "seed": seed, **SMALL, "steps": 1}
        status, headers, data = server.ask("POST", "/v1/images/generations", body)
        statuses.append(status)
        if status == 200:
            seeds.append(json.loads(data)["data"][0]["seed"])
        else:
            assert int(headers["retry-after"]) >= 1

    before = server.metric('sd_pictures_total{state="done"}')
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 200 and set(statuses) <= {200, 429}
    assert len(set(seeds)) == len(seeds) == statuses.count(200) >= 16
    assert server.metric('sd_pictures_total{state="done"}') - before == len(
        seeds
    )  # what was accepted was drawn


def test_clients_that_say_nothing_keep_nobody_waiting(server):
    silent = [server.connect() for _ in range(100)]
    for connection in silent[:50]:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-")
    assert server.json("GET", "/healthz")[0] == 200
    for connection in silent:
        connection.close()


@pytest.mark.slow
def test_headers_that_do_not_come_end_the_connection(server):
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert connection.recv(100) == b""  # after 15 s


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_2_000_pictures_leave_no_memory_behind(server):
    def draw(first: int, count: int) -> None:
        for seed in range(first, first + count):
            body = {"prompt": f"a cat {seed}", "seed": seed, **SMALL, "steps": 1}
            assert server.ask("POST", "/v1/images/generations", body)[0] == 200

    draw(0, 300)
    before = resident(server.process.pid)
    draw(300, 1700)
    assert resident(server.process.pid) - before < 30_000_000
