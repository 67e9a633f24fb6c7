"""Files of Civitai, from a small imitation of the site on this machine: whole and checked, or not at all."""

import errno
import hashlib
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sdcli.commands import _download_progress
from sdcli.errors import ModelError, UsageError
from sdcli.pull import civitai, download
from tests import embeddings

TOKEN = "a-secret-token"


class Site(BaseHTTPRequestHandler):
    """The site, and its storage under another name of this machine; `asked` has the path, host and headers."""

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append((path, self.headers.get("Authorization"), self.headers.get("Range")))
        if self.state != 200:
            return self.reply(self.state, b"{}")
        if path.startswith("/api/v1/"):
            return self.reply(200, json.dumps(self.answers.get(path.removeprefix("/api/v1/"))).encode())
        if path.startswith("/api/download/"):
            return self.reply(302, b"", {"Location": f"http://localhost:{self.server.server_port}/storage/x"})
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.knows_range else 0
        if start >= len(self.data):
            return self.reply(416, b"")
        rest = self.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        sent = rest[: self.breaks.pop(0)] if self.breaks else rest
        self.wfile.write(sent)

    def reply(self, code, body, headers=None):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with a LoRA as version 7, which is fetched into the folder `loras`."""
    halves = {
        f"a.lora_{half}.weight": (shape, [0.5] * 500)
        for half, shape in (("up", (500, 1)), ("down", (1, 500)))
    }
    lora = embeddings.write(tmp_path / "site.safetensors", halves)
    data = lora.read_bytes()
    answers = {
        "model-versions/7": version(data),
        "models/3": {"modelVersions": [{"id": 7}, {"id": 6}]},
        f"model-versions/by-hash/{hashlib.sha256(data).hexdigest()}": version(data),
    }
    kinds = {"data": data, "answers": answers, "asked": [], "breaks": [], "state": 200, "knows_range": True}
    handler = type("Handler", (Site,), kinds)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (tmp_path / "loras").mkdir()
    monkeypatch.setenv("SDCLI_CIVITAI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SDCLI_LORAS", str(tmp_path / "loras"))
    monkeypatch.setenv("CIVITAI_TOKEN", TOKEN)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def version(data, name="Style v1.safetensors", kind="LORA", **more):
    file = {"name": name, "primary": True, "downloadUrl": "/api/download/models/7"}
    file |= {"hashes": {"SHA256": hashlib.sha256(data).hexdigest().upper()}, **more}
    return {
        "id": 7,
        "name": "v1",
        "trainedWords": ["styl"],
        "files": [file],
        "model": {"name": "Style", "type": kind},
    }


def pull(source="civitai:7"):
    return civitai.pull(source, lambda line: None)


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "source",
    ["civitai:7", "civitai:3@7", "civitai:https://civitai.com/models/3/style?modelVersionId=7",
     "civitai:https://civitai.com/models/3", "civitai:https://civitai.com/api/download/models/7?token=x"],
)  # fmt: skip
def test_a_version_is_fetched_into_the_folder_for_its_kind(site, tmp_path, source):
    path = pull(source)
    assert path == tmp_path / "loras" / "Style-v1.safetensors"
    assert path.read_bytes() == site.data and visible(path.parent) == [path.name]


def test_the_command_prints_the_path_and_the_trained_words_and_never_the_token(sd, site, tmp_path):
    ran = sd("models", "pull", "civitai:7")
    assert ran.lines == [str(tmp_path / "loras" / "Style-v1.safetensors")]
    assert ran.err == "sd: civitai:7: a file of loras, Style-v1; words: styl\n"
    site.state = 401
    assert TOKEN not in sd("models", "pull", "civitai:7", "--debug").err


def test_the_token_goes_to_the_site_and_to_nobody_else(site):
    pull()
    assert {path: token for path, token, _ in site.asked} == {
        "/api/v1/model-versions/7": f"Bearer {TOKEN}",
        "/api/download/models/7": f"Bearer {TOKEN}",
        "/storage/x": None,
    }


def test_a_file_that_is_there_is_not_fetched_again_and_another_of_its_name_is_kept(site, tmp_path):
    first = pull()
    site.asked.clear()
    assert pull() == first and not any("storage" in path for path, *_ in site.asked)
    first.write_bytes(b"mine")
    assert pull().name == "Style-v1-2.safetensors" and first.read_bytes() == b"mine"


@pytest.mark.parametrize("knows_range", [True, False])
def test_a_broken_connection_is_gone_on_from_at_once(site, knows_range):
    site.knows_range = knows_range
    site.breaks += [700, 900]
    assert pull().read_bytes() == site.data
    assert [asked for path, _, asked in site.asked if "storage" in path][1] == "bytes=700-"


def test_what_broke_for_good_is_gone_on_from_by_the_next_try(site, tmp_path):
    site.breaks += [700, 0, 0, 0]
    with pytest.raises(
        ModelError, match="700 bytes are kept, and the same command then goes on where it stopped"
    ):
        pull()
    assert [name.endswith(".sd-part") for name in visible(tmp_path / "loras")] == [True]
    site.breaks.clear()
    site.asked.clear()
    assert pull().read_bytes() == site.data
    assert site.asked[-1][2] == "bytes=700-" and visible(tmp_path / "loras") == ["Style-v1.safetensors"]


def test_other_bytes_than_promised_get_no_name(site, tmp_path):
    site.data = site.data[:-1] + b"x"
    with pytest.raises(ModelError, match=r"Style-v1\.safetensors: the sha256 is .*it is removed, try again"):
        pull()
    assert visible(tmp_path / "loras") == []


@pytest.mark.parametrize(
    ("state", "words"),
    [(401, "is gated, or needs an account"), (403, "set CIVITAI_TOKEN"), (404, "no such model"),
     (500, "try again later"), (429, "fewer requests")],
)  # fmt: skip
def test_what_the_site_refuses_is_one_line_with_the_reason(sd, site, state, words):
    site.state = state
    ran = sd("models", "pull", "civitai:7")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1) and words in ran.err


def test_a_site_out_of_reach_is_one_line(sd, monkeypatch):
    monkeypatch.setenv("SDCLI_CIVITAI", "http://127.0.0.1:1")
    ran = sd("models", "pull", "civitai:7")
    assert ran.code == 3 and "the site is out of reach" in ran.err and len(ran.err.splitlines()) == 1


@pytest.fixture
def disk_of(monkeypatch):
    """disk_of(n): only n more bytes fit on the disk, also in the middle of a write; disk_of(None) ends that."""
    real = download._write

    def limit(left):
        def write(file, piece):
            nonlocal left
            real(file, piece[:left])
            if len(piece) > left:
                raise OSError(errno.ENOSPC, "no space left on device")
            left -= len(piece)

        monkeypatch.setattr(download, "_write", real if left is None else write)

    monkeypatch.setattr(download, "PIECE", 1000)
    return limit


def test_a_full_disk_is_one_line_and_what_came_is_gone_on_from_once_there_is_room(
    sd, site, tmp_path, disk_of
):
    disk_of(2700)
    ran = sd("models", "pull", "civitai:7")
    assert (ran.code, len(ran.err.splitlines())) == (6, 1) and "the disk is full" in ran.err
    assert "make room, the same command then goes on where it stopped" in ran.err
    (part,) = (tmp_path / "loras").iterdir()
    assert part.read_bytes() == site.data[:2700]
    disk_of(0)
    assert sd("models", "pull", "civitai:7").code == 6 and part.stat().st_size == 2700
    disk_of(None)
    assert pull().read_bytes() == site.data and visible(tmp_path / "loras") == ["Style-v1.safetensors"]
    assert site.asked[-1][2] == "bytes=2700-"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_disk_that_takes_no_byte_at_all_is_one_line(tmp_path):
    with open("/dev/full", "wb") as file, pytest.raises(OSError) as error:
        download._write(file, b"x" * 10_000_000)
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("name", "saved"),
    [("../../evil.safetensors", "evil.safetensors"), ("..\\..\\evil.safetensors", "evil.safetensors"),
     ("/etc/x.safetensors", "x.safetensors"), ("..safetensors", "sd.safetensors"),
     ("a\0b.safetensors", "a-b.safetensors"), (".hidden.safetensors", "hidden.safetensors"),
     ("CON.safetensors", "sd-CON.safetensors")],
)  # fmt: skip
def test_no_name_that_the_site_gives_leads_out_of_the_folder(site, tmp_path, name, saved):
    site.answers["model-versions/7"] = version(site.data, name)
    assert pull() == tmp_path / "loras" / saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "x.ckpt"}, "`sd models convert` makes safetensors of it"),
        ({"kind": "Workflows"}, "is of the type 'Workflows', for which there is no use here"),
        ({"hashes": {}}, "the site has no SHA256 of it"),
        ({"pickleScanResult": "Danger"}, "found 'Style v1.safetensors' to be dangerous"),
        ({"downloadUrl": "http://example.com/x"}, "only https is safe"),
        ({"downloadUrl": "file:///etc/passwd"}, "only https is safe"),
    ],
)
def test_what_cannot_be_used_or_is_not_safe_is_refused_before_it_is_fetched(site, change, message):
    site.answers["model-versions/7"] = version(site.data, **change)
    with pytest.raises(ModelError, match=message):
        pull()
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"model": 3, "files": 4}, {"model": {"type": "LORA"}, "files": [1]}]
)
def test_an_answer_of_another_form_is_one_line(site, answer):
    site.answers["model-versions/7"] = answer
    with pytest.raises(ModelError, match="civitai:7: "):
        pull()


@pytest.mark.parametrize(
    "source", ["civitai:", "civitai:style", "civitai:1@", "civitai:https://civitai.com/x?token=t"]
)
def test_what_names_no_version_is_a_usage_error_that_says_how(site, source):
    with pytest.raises(UsageError, match="write civitai:VERSION") as error:
        pull(source)
    assert "token" not in str(error.value) and not site.asked


def test_check_asks_the_site_for_a_hash_only_if_it_may(sd, site):
    path = pull()
    site.asked.clear()
    assert "Civitai" not in sd("models", "check", path).out.decode() and not site.asked
    assert "  known on Civitai: Style, v1" in sd("models", "check", "--online", path).lines


def test_a_site_that_cannot_be_asked_leaves_the_rest_of_the_check(sd, site):
    path = pull()
    site.state = 500
    ran = sd("models", "check", "--online", path)
    assert ran.code == 0 and ran.lines[0].startswith("good") and "Civitai could not be asked" in ran.lines[-1]
    assert (
        "error (500)" in json.loads(sd("models", "check", "--online", "--json", path).lines[0])["not_asked"]
    )


def test_what_has_come_is_told_every_few_seconds(site, monkeypatch, capsys):
    monkeypatch.setattr(_download_progress, "INTERVAL", 0.0)
    monkeypatch.setattr(download, "PIECE", 1000)
    with _download_progress.download_progress("civitai:7") as watch:
        civitai.pull("civitai:7", lambda line: None, watch)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "sd: civitai:7: 0 of 0 MB (100%)" and len(lines) == -(-len(site.data) // 1000)


def test_a_terminal_shows_a_bar_that_goes_on_from_what_was_there(site, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with _download_progress.download_progress("style") as watch:
        watch(3_000_000, 6_000_000)
        watch(6_000_000, 6_000_000)
    assert "style:" in screen.getvalue() and "3.00M/6.00M" in screen.getvalue()
