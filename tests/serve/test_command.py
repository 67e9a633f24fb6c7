"""`sd serve` as a command: what it refuses before it listens, and how it ends."""

import base64
import signal
import socket
import subprocess
import sys

import pytest

from tests.serve.running import events_of, start, stop


def test_other_machines_are_not_served_without_a_token(sd):
    ran = sd("serve", "--host", "0.0.0.0", "--port", 0)
    assert ran.code == 2 and "--token-file" in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "é"])
def test_a_token_is_one_line_of_printable_characters(sd, tmp_path, content):
    (tmp_path / "token").write_text(content, encoding="utf-8")
    ran = sd("serve", "--token-file", "token", "--port", 0)
    assert ran.code == 2 and "holds no token" in ran.err


def test_a_port_in_use_is_one_line(sd):
    with socket.create_server(("127.0.0.1", 0)) as other:
        ran = sd("serve", "--port", other.getsockname()[1])
    assert ran.code == 2 and "in use" in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-m", "no-such-model"], 3, "no-such-model"),
        (["-m", "tiny", "-m", "tiny.safetensors"], 2, "called tiny"),
        (["--host", "no such host"], 2, "--host"),
        (["--device", "gpu"], 2, "gpu"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(sd, toy, arguments, code, told):
    if "tiny.safetensors" in arguments:
        arguments = ["-m", str(toy), "-m", str(toy.parent / "other" / toy.name)]
        (toy.parent / "other").mkdir(exist_ok=True)
        if not (toy.parent / "other" / toy.name).exists():
            (toy.parent / "other" / toy.name).symlink_to(toy)
        told = f"called {toy.name}"
    ran = sd("serve", "--port", 0, *arguments)
    assert ran.code == code and told in ran.err and len(ran.err.splitlines()) == 1


def test_missing_packages_are_named_with_what_installs_them(sd, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    ran = sd("serve", "--port", 0)
    assert ran.code == 2 and "uvicorn" in ran.err and "sdcli[serve]" in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly_in_the_middle_of_a_picture(tmp_path, number, code):
    served = start(tmp_path)
    try:
        served.occupy(1)
        with served.post("/v1/images/generations", {"prompt": "a bus", "seed": 1, "steps": 1}) as waiting:
            served.until(lambda: served.metric("sd_queue_length") == 1)
            served.process.send_signal(number)
            answer = waiting.recv(65536)
        assert served.process.wait() == code
        assert answer.startswith(b"HTTP/1.1 409")
        lines = (tmp_path / "server.log").read_text().splitlines()
        assert len(lines) == (number == signal.SIGINT), lines
        assert all("the server has ended" in line for line in lines)
    finally:
        stop(served)


def test_a_server_that_is_killed_leaves_nothing_but_its_port(tmp_path):
    served = start(tmp_path)
    served.occupy(1)
    stop(served)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log"]
    again = start(tmp_path, "--port", str(served.port))
    try:
        assert again.port == served.port and again.json("GET", "/v1/jobs")[1]["jobs"] == []
    finally:
        stop(again)


def test_a_killed_client_stops_its_picture(tmp_path):
    served = start(tmp_path)
    try:
        command = [
            sys.executable,
            "-m",
            "sdcli",
            "--server",
            served.url,
            "txt2img",
            "a cat",
            "--steps",
            "900",
        ]
        client = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        served.until(lambda: served.metric("sd_running") == 1)
        client.kill()
        client.wait()
        served.until(lambda: served.metric('sd_pictures_total{state="cancelled"}') == 1)
    finally:
        stop(served)


def test_each_device_draws_its_own_pictures_which_are_the_command_lines(tmp_path, sd):
    served = start(tmp_path, "--device", "cpu", "--device", "cpu")
    try:
        ids = served.occupy(1, running=1) + served.occupy(1, seed=50, running=2)
        served.free(ids)
        body = {"prompt": "a cat", "seed": "1..4", "steps": 3, "width": 64, "height": 64}
        events = events_of(served.ask("POST", "/v1/jobs", body, Accept="text/event-stream")[2])
        drawn = {each["seed"]: each["picture"] for each in events if each["type"] == "job_done"}
        sd("txt2img", "a cat", "--seed", 1, "-c", 4, "-s", 3, "-W", 64, "-H", 64)
        here = {seed: (tmp_path / f"a-cat-{seed}.png").read_bytes() for seed in range(1, 5)}
        assert {seed: base64.b64decode(text) for seed, text in drawn.items()} == here
    finally:
        stop(served)


def test_a_token_is_asked_of_everybody(tmp_path, sd):
    (tmp_path / "token").write_text("secret-words\n")
    served = start(tmp_path, "--token-file", "token")
    try:
        assert served.ask("GET", "/v1/models")[0] == 401
        assert served.ask("GET", "/v1/models", Authorization="Bearer secret-words")[0] == 200
        typed = ("txt2img", "a cat", "--seed", 1, "-s", 1, "-W", 64, "-H", 64)
        refused = sd("--server", served.url, *typed)
        assert refused.code == 1 and "token" in refused.err
        assert sd("--server", served.url, "--token-file", "token", *typed).lines == ["a-cat-1.png"]
    finally:
        stop(served)


def test_several_models_are_served_by_their_names(tmp_path, toy):
    served = start(tmp_path, "-m", "tiny", "-m", str(toy))
    try:
        ids = [model["id"] for model in served.json("GET", "/v1/models")[1]["data"]]
        assert ids == ["tiny", "toy"]
        body = {"prompt": "a cat", "seed": 1, "steps": 1, "width": 64, "height": 64, "model": "toy"}
        data = served.ask("POST", "/v1/jobs", body, Accept="text/event-stream")[2]
        done = events_of(data)[-2]
        assert done["type"] == "job_done" and done["request"]["model"] == "toy"
        assert str(toy.parent).encode() not in data
        for bad in (str(toy), "../toy", "toy/../toy", "/etc/passwd"):
            assert served.json("POST", "/v1/jobs", {**body, "model": bad})[0] == 404
    finally:
        stop(served)


def test_the_client_of_a_killed_server_ends_with_one_line(tmp_path):
    served = start(tmp_path)
    try:
        command = [
            sys.executable,
            "-m",
            "sdcli",
            "--server",
            served.url,
            "txt2img",
            "a cat",
            "--steps",
            "900",
        ]
        client = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
        served.until(lambda: served.metric("sd_running") == 1)
        served.process.kill()
        errors = client.communicate()[1].decode().splitlines()
        assert client.returncode == 1 and len(errors) == 1 and "server" in errors[0]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log"]
    finally:
        stop(served)
