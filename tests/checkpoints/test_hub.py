"""Models by repo id, with a small imitation of the hub on this machine in place of the real one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks the hub for: a repo's list of files, and the files.

    `asked` are the paths of all requests; `state` makes every answer an error of that kind.
    """

    folder: Path
    asked: list[str]
    state = "open"
    broken_after = 0
    ranges: list[int]

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.split("?")[0]
        self.asked.append(path)
        if self.state == "login page":
            return self.reply(200, b"<html>Welcome to our network", {}, with_body)
        if self.state == "login":
            return self.reply(401, b"{}", {}, with_body)
        if self.state != "open" or "/none/" in path:
            code = {"gated": "GatedRepo", "no revision": "RevisionNotFound"}.get(self.state, "RepoNotFound")
            return self.reply(403 if code == "GatedRepo" else 404, b"{}", {"X-Error-Code": code}, with_body)
        files = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        if path.startswith("/api/models/"):
            if "/tree/" in path:
                body = [
                    {"type": "file", "path": f, "size": (self.folder / f).stat().st_size, "oid": "x"}
                    for f in files
                ]
            else:
                siblings = [{"rfilename": f, "size": (self.folder / f).stat().st_size} for f in files]
                body = {"id": "me/toy", "sha": COMMIT, "siblings": siblings}
            return self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"}, with_body)
        if "/resolve/" not in path:
            return self.reply(404, b"", {}, with_body)
        file = self.folder / path.split("/resolve/")[1].split("/", 1)[1]
        if not file.is_file():
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        data = file.read_bytes()
        if with_body and self.broken_after:
            return self.reply_in_part(data)
        more = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self.reply(200, data, more, with_body)

    def reply_in_part(self, data):
        """The rest of the data from where the Range asks for it; the first connection breaks."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.ranges.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start : None if start or len(self.ranges) > 1 else self.broken_after])

    def reply(self, code, body, headers, with_body):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(toy, tmp_path):
    """A hub that holds the toy model as me/toy, and files that are not needed; `hub.run(...)` runs sd with this hub."""
    folder = Path(shutil.copytree(toy, tmp_path / "repo"))
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not needed")
    (folder / "README.md").write_text("not needed")
    handler = type("Handler", (Hub,), {"folder": folder, "asked": [], "ranges": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def run(*arguments, **environment):
        settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf")}
        settings |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", **environment}
        command = [sys.executable, "-m", "sdcli", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True
        )

    handler.run = staticmethod(run)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_repo_is_fetched_once_and_only_what_is_needed(hub, toy, tmp_path):
    ran = hub.run("txt2img", "a cat", "-m", "me/toy", "--seed", 7, "-s", 2, "-o", "hub.png", "--no-metadata")
    assert ran.returncode == 0, ran.stderr
    fetched = {name.split(f"{COMMIT}/")[1] for name in hub.asked if f"/resolve/{COMMIT}/" in name}
    assert "unet/diffusion_pytorch_model.safetensors" in fetched
    assert not {name for name in fetched if name.endswith((".bin", ".md")) or "fp16" in name}
    hub.asked.clear()
    again = hub.run(
        "txt2img", "a cat", "-m", "me/toy", "--seed", 7, "-s", 2, "-o", "again.png", "--no-metadata"
    )
    assert (again.returncode, hub.asked) == (0, [])
    assert (tmp_path / "hub.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    offline = hub.run("models", HF_HUB_OFFLINE="1")
    assert "  me/toy  tiny" in offline.stdout.splitlines()


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncate(path):
    os.truncate(path.resolve(), path.stat().st_size // 2)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        pytest.param(delete, "vae/diffusion_pytorch_model.safetensors", marks=SLOW),
        pytest.param(delete, "text_encoder", marks=SLOW),
        (delete, "text_encoder/config.json"),
        pytest.param(delete, "scheduler", marks=SLOW),
        (truncate, "unet/diffusion_pytorch_model.safetensors"),
        pytest.param(truncate, "unet/config.json", marks=SLOW),
    ],
)
def test_a_file_that_is_missing_or_cut_short_is_fetched_again(hub, damage, name):
    first = Path(hub.run("models", "pull", "me/toy").stdout.strip())
    whole = {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()}
    damage(first / name)
    offline = hub.run("txt2img", "a cat", "-m", "me/toy", "-s", 1, HF_HUB_OFFLINE="1")
    assert (offline.returncode, len(offline.stderr.splitlines())) == (3, 1), offline.stderr
    assert "not here, or not whole" in offline.stderr
    ran = hub.run("txt2img", "a cat", "-m", "me/toy", "-s", 1)
    assert ran.returncode == 0, ran.stderr
    assert {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()} == whole


def test_info_shows_a_repo_that_was_fetched_before_and_fetches_none(hub):
    before = hub.run("info", "me/toy")
    assert (before.returncode, hub.asked) == (3, [])
    assert "sd models pull" in before.stderr
    hub.run("models", "pull", "me/toy")
    assert hub.run("info", "me/toy").stdout.startswith("me/toy: a tiny model")


def test_pull_fetches_a_model_and_prints_its_folder(hub):
    ran = hub.run("models", "pull", "me/toy")
    assert (ran.returncode, ran.stderr) == (0, "")  # no bars without a terminal
    assert (Path(ran.stdout.strip()) / "unet" / "config.json").exists()


def test_a_repo_fetched_at_a_revision_is_listed_with_it(hub):
    assert hub.run("models", "pull", "me/toy", "--revision", "v9").returncode == 0
    listed = hub.run("models", HF_HUB_OFFLINE="1").stdout.splitlines()
    assert [line for line in listed if line.startswith("  me/")] == ["  me/toy --revision v9  tiny"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("gated", "the repo is gated"),
        ("no revision", "no such revision"),
        ("missing", "no such repo on the hub"),
        ("login", "run `hf auth login`"),
        ("login page", "what answers in the hub's place is no hub"),
    ],
)
def test_a_repo_that_the_hub_refuses_is_one_line_with_the_reason(hub, state, words):
    hub.state = state
    ran = hub.run("txt2img", "a cat", "-m", "me/toy", "--revision", "v9")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr
    assert words in ran.stderr


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}, {"HF_ENDPOINT": "nonsense"}],
)
def test_a_hub_out_of_reach_is_one_line(hub, environment):
    offline = hub.run("txt2img", "a cat", "-m", "me/toy", **environment)
    assert (offline.returncode, len(offline.stderr.splitlines())) == (3, 1), offline.stderr
    assert "the hub is out of reach" in offline.stderr


def test_a_mistyped_path_is_not_taken_for_a_repo(hub):
    ran = hub.run("txt2img", "a cat", "-m", "checkpoints/missing.safetensors")
    assert (ran.returncode, len(ran.stderr.splitlines()), hub.asked) == (3, 1, []), ran.stderr
    assert "no such model here" in ran.stderr


def test_an_empty_config_counts_as_fetched(hub):
    (hub.folder / "scheduler" / "scheduler_config.json").write_text("{}")
    assert hub.run("models", "pull", "me/toy").returncode == 0
    hub.asked.clear()
    assert hub.run("info", "me/toy").returncode == 0
    assert hub.asked == []


def test_all_shards_of_a_network_are_fetched_and_a_missing_one_again(hub, shard):
    delete(hub.folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    index, _, second = shard(hub.folder / "unet")
    pulled = hub.run("models", "pull", "me/toy")
    folder = Path(pulled.stdout.strip()) / "unet"
    names = {"config.json", *(path.name for path in (index, *index.parent.glob("*-of-*")))}
    assert {path.name for path in folder.glob("*")} == names, pulled.stderr
    hub.asked.clear()
    assert hub.run("txt2img", "a cat", "-m", "me/toy", "--steps", "1").returncode == 0
    assert hub.asked == []
    (folder / second.name).unlink()
    assert hub.run("models", "pull", "me/toy").returncode == 0
    assert [path for path in hub.asked if path.endswith(second.name)]


PICKLE, SHARD = "diffusion_pytorch_model.bin", "diffusion_pytorch_model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("only_file", "words"), [(PICKLE, "only a pickle"), (SHARD, "some of the several files")]
)
def test_a_repo_whose_unet_has_no_readable_weights_is_refused_unless_it_has_one_single_file(
    hub, only_file, words
):
    delete(hub.folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    delete(hub.folder / "unet" / PICKLE)
    (hub.folder / "unet" / "diffusion_pytorch_model.safetensors").rename(hub.folder / "unet" / only_file)
    ran = hub.run("models", "pull", "me/toy")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr
    assert words in ran.stderr
    single = shutil.copy(
        hub.folder / "vae" / "diffusion_pytorch_model.safetensors", hub.folder / "single.safetensors"
    )
    pulled = hub.run("models", "pull", "me/toy")
    assert Path(pulled.stdout.strip()).read_bytes() == single.read_bytes(), pulled.stderr


def test_a_repo_without_safetensors_is_refused(hub):
    for path in hub.folder.rglob("*.safetensors"):
        path.unlink()
    (hub.folder / "unet" / "config.json").unlink()
    ran = hub.run("models", "pull", "me/toy")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr
    assert "only safetensors is read" in ran.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "~/models"},
        {"XDG_CACHE_HOME": "/var/cache"},
        {"HF_HUB_CACHE": "$HF_HOME/here", "HF_HOME": "/models"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/models"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"},
    ],
    ids=str,
)
def test_the_cache_is_where_the_hubs_library_has_it(variables):
    program = """
from huggingface_hub import constants
from sdcli.checkpoints import hub
print(constants.HF_HUB_CACHE, hub._cache_folder(), sep="\\n")
"""
    names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    theirs, ours = ran.stdout.splitlines()
    assert Path(theirs) == Path(ours), ran.stderr


def test_the_hubs_library_is_not_imported_to_list_an_empty_cache(tmp_path):
    program = (
        "import sys; from sdcli import cli; cli.run(['models']); print('huggingface_hub' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert ran.stdout.splitlines()[-1] == "False", ran.stderr


def test_one_file_of_a_repo_is_fetched_and_goes_on_where_a_broken_connection_left_it(hub):
    (hub.folder / "loras").mkdir()
    data = bytes(range(256)) * 100_000
    (hub.folder / "loras" / "x.safetensors").write_bytes(data)
    hub.broken_after = 20_000_000
    path = hub.run("models", "pull", "me/toy:loras/x.safetensors").stdout.strip()
    if not path:  # the hub's library gave up; the next try goes on
        path = hub.run("models", "pull", "me/toy:loras/x.safetensors").stdout.strip()
    assert Path(path).read_bytes() == data
    assert hub.ranges[0] == 0 and hub.ranges[1] > 10_000_000


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("me/toy:none.safetensors", "the repo has no such file"),
        ("me/toy:unet/diffusion_pytorch_model.bin", "`sd models convert` converts"),
        ("none/none:x.safetensors", "no such repo on the hub"),
    ],
)
def test_a_file_that_the_hub_has_not_or_that_is_a_pickle_is_one_line(hub, source, words):
    ran = hub.run("models", "pull", source)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (3, 1), ran.stderr
    assert words in ran.stderr
