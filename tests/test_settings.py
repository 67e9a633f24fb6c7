"""Settings: the folders of a user come from the environment, and without it from the system's conventions."""

import sys
from pathlib import Path

import pytest

from sdcli import settings
from sdcli.errors import UsageError


def test_model_folders_are_those_in_sdcli_models(monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", ":".join(["/a", "", "~/b"]) if sys.platform != "win32" else "/a;;~/b")
    assert settings.model_folders() == [Path("/a"), Path("~/b").expanduser()]


def test_an_empty_sdcli_models_means_no_folder(monkeypatch):
    monkeypatch.setenv("SDCLI_MODELS", "")
    assert settings.model_folders() == []


def test_the_cache_folder_is_sdcli_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SDCLI_CACHE", str(tmp_path / "cache"))
    assert settings.cache_folder() == tmp_path / "cache"


def test_styles_and_wildcards_are_where_their_variables_say(monkeypatch, tmp_path):
    monkeypatch.setenv("SDCLI_STYLES", str(tmp_path / "my.csv"))
    monkeypatch.setenv("SDCLI_WILDCARDS", str(tmp_path / "cards"))
    assert settings.styles_file() == tmp_path / "my.csv"
    assert settings.wildcards_folder() == tmp_path / "cards"


def test_the_folder_of_embeddings_is_sdcli_embeddings_and_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path))
    assert settings.network_folders("embeddings") == [tmp_path]
    monkeypatch.setenv("SDCLI_EMBEDDINGS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"SDCLI_EMBEDDINGS: .*none is no folder"):
        settings.network_folders("embeddings")


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
class TestOnLinux:
    def test_folders_follow_the_xdg_variables(self, monkeypatch, tmp_path):
        for name in ("SDCLI_MODELS", "SDCLI_CACHE", "SDCLI_STYLES", "SDCLI_WILDCARDS", "SDCLI_EMBEDDINGS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert settings.model_folders() == [tmp_path / "data" / "sdcli" / "models"]
        assert settings.cache_folder() == tmp_path / "cache" / "sdcli"
        assert settings.styles_file() == tmp_path / "data" / "sdcli" / "styles.csv"
        assert settings.wildcards_folder() == tmp_path / "data" / "sdcli" / "wildcards"

    def test_folders_are_in_the_home_folder_otherwise(self, monkeypatch, tmp_path):
        for name in ("SDCLI_MODELS", "SDCLI_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert settings.model_folders() == [tmp_path / ".local" / "share" / "sdcli" / "models"]
        assert settings.cache_folder() == tmp_path / ".cache" / "sdcli"
