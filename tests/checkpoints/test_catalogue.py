"""The files of a user by kind, as A1111 and ComfyUI keep them, and what is told of them from the cache."""

import hashlib
import json
import os

import pytest

from sdcli.checkpoints import catalogue as catalogue_module
from sdcli.checkpoints import hashes
from sdcli.checkpoints.catalogue import catalogue
from sdcli.checkpoints.checkpoint import find
from sdcli.checkpoints.lookup import find_model
from sdcli.errors import ModelError, UsageError


def test_the_folder_of_another_tool_is_listed_by_kind_as_it_is(tool):
    found = {(file.kind, file.name): file for file in catalogue()}
    assert set(found) == {
        ("checkpoints", "anime/dream_8"),
        ("checkpoints", "broken"),
        ("vaes", "mse"),
        ("loras", "people/anna"),
        ("embeddings", "neg"),
        ("upscalers", "sharp"),
    }
    assert found["checkpoints", "anime/dream_8"].family == "sd1"
    assert "header" in found["checkpoints", "broken"].fault or "bytes" in found["checkpoints", "broken"].fault
    assert found["loras", "people/anna"].words == ("ann4", "woman")


def test_sd_models_prints_a_kind_and_everything_as_json(sd, tool):
    assert sd("models", "loras").lines == ["loras:", "  people/anna  a LoRA file  0.0 MB  words: ann4, woman"]
    (line,) = sd("models", "--kind", "upscalers", "--json").lines
    told = json.loads(line)
    assert (told["name"], told["kind"], told["folder"], told["sha256"]) == ("sharp", "upscaler", "", None)
    assert any("unusable" in line for line in sd("models", "checkpoints").lines)
    assert sd("models", "lorass").code == 2


def test_a_part_of_a_name_draws_with_that_file_and_says_so(sd, tool):
    ran = sd("txt2img", "a cat", "-m", "dream", "-s", 1, "-W", 64, "-H", 64, "--json", "-q")
    assert ran.code == 0, ran.err
    assert "-m dream: taken for anime/dream_8" in ran.err and ran.err.count("taken for") == 1
    assert json.loads(ran.lines[0])["request"]["model"].endswith(
        "dream_8.safetensors"
    )  # again finds this one


def test_a_model_is_found_by_its_hashes_and_hashed_once(tool, monkeypatch):
    (path,) = tool.rglob("dream_8.safetensors")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    old = hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    for digits in (digest, digest[:10].upper(), digest[:8], old):
        assert find(f"sha256:{digits}") == path
    assert find_model("gone", old) == find_model("gone", digest[:10]) == str(path)
    with pytest.raises(ModelError, match=r"no model in .* has this hash"):
        find("sha256:" + "0" * 10)
    with pytest.raises(UsageError, match="is no hash"):
        find("sha256:12345")


def test_a_picture_is_made_again_after_its_model_was_moved_and_renamed(sd, tool):
    made = sd("txt2img", "a cat", "-m", "dream_8", "-s", 1, "--seed", 1, "-W", 64, "-H", 64, "-o", "x.png")
    assert made.code == 0, made.err
    (path,) = tool.rglob("dream_8.safetensors")
    path.rename(path.with_name("renamed.safetensors"))
    ran = sd("again", "x.png", "-o", "y.png", "--no-metadata")
    assert ran.code == 0 and "has the same hash" in ran.err, ran.err


@pytest.fixture
def later(monkeypatch):
    """The cache takes files that were just written for settled."""
    from sdcli.checkpoints import facts_cache

    monkeypatch.setattr(facts_cache, "SETTLED", -(10**18))


def test_a_file_is_told_of_anew_only_if_it_changed(tool, later, monkeypatch):
    first = catalogue()
    told = []
    facts = catalogue_module._facts
    monkeypatch.setattr(catalogue_module, "_facts", lambda file: told.append(file.name) or facts(file))
    assert catalogue() == first and told == []
    (lora,) = tool.rglob("anna.safetensors")
    before = lora.stat()
    lora.write_bytes(b"\0" * before.st_size)  # of the same size and, below, time
    os.utime(lora, ns=(before.st_atime_ns, before.st_mtime_ns))
    (damaged,) = [file for file in catalogue() if file.name == "people/anna"]
    assert told == ["people/anna"] and damaged.fault


def test_words_that_were_written_beside_a_file_are_seen(tool, later):
    catalogue()
    (notes,) = tool.rglob("anna.json")
    notes.write_text(json.dumps({"activation text": "other"}))
    assert [file.words for file in catalogue(["loras"])] == [("other",)]


def test_a_file_that_was_just_written_is_not_remembered(tool, cache):
    catalogue()
    stored = (
        json.loads((cache / "files.json").read_text())["files"] if (cache / "files.json").exists() else {}
    )
    assert not any("anna" in path for path in stored)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"files": 3}', b"[" * 100_000])
def test_a_cache_that_is_damaged_is_as_good_as_none(tool, cache, content):
    first = catalogue()
    cache.mkdir(exist_ok=True)
    (cache / "files.json").write_bytes(content)
    (cache / "digests.json").write_bytes(content)
    assert catalogue() == first


def test_a_hash_is_shown_once_it_is_known(sd, tool, monkeypatch):
    monkeypatch.setattr(hashes, "SMALL_FILE", 0)
    (path,) = tool.rglob("anna.safetensors")
    assert [file.sha256 for file in catalogue(["loras"])] == [""]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest[:10] in sd("models", "loras", "--hash").out.decode()
    assert [file.sha256 for file in catalogue(["loras"])] == [digest]


def test_a_link_to_a_folder_is_followed_and_one_to_a_folder_above_ends(tool):
    (loras,) = [path for path in tool.rglob("*") if path.name in ("loras", "Lora")]
    (loras / "people" / "up").symlink_to(loras)
    assert [file.name for file in catalogue(["loras"])] == ["people/anna"]
