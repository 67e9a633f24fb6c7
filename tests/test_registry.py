"""The registry: plugins are found by their files, and by installed packages that join."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdcli import registry
from sdcli.errors import UsageError

EVERY = [(kind, name) for kind in registry.FOLDERS for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_plug_can_be_found_and_says_in_one_line_what_it_is(kind, name):
    assert registry.find(kind, name) is not None
    if kind != "families":
        summary = registry.describe(kind, name).summary
        assert 10 < len(summary) <= 120
        assert summary.endswith(".")


def test_knobs_are_read_from_the_source_and_bound():
    plugin = registry.describe("samplers", "euler_a")
    values = dict(registry.parse("samplers", "euler_a:eta=0.5, s_noise=2").options)
    assert dict(plugin.options) == {"eta": 1.0, "s_noise": 1.0}
    assert values == {"eta": 0.5, "s_noise": 2.0}
    assert registry.find("samplers", "euler_a:eta=0.5").keywords == {"eta": 0.5}


@pytest.mark.parametrize(
    "spec", ["nothing", "", "euler_a:eta", "euler_a:eta=", "euler_a:x=1", "euler:", "../cli"]
)
def test_a_bad_name_or_knob_is_a_usage_error_with_a_next_step(spec):
    if spec == "euler:":
        assert registry.parse("samplers", spec).options == ()
        return
    with pytest.raises(UsageError, match=r"did you mean|there are|try|no options"):
        registry.parse("samplers", spec)


def test_a_new_file_in_the_folder_is_a_new_sampler(monkeypatch, tmp_path):
    source = 'def half(denoise, x, sigmas, noise, *, part=0.5):\n    """Halves x."""\n    yield x * part\n'
    folder = tmp_path / "diffusion" / "samplers"
    folder.mkdir(parents=True)
    (folder / "half.py").write_text(source)
    monkeypatch.setattr(registry, "_HERE", str(tmp_path))
    registry._own.cache_clear()
    registry.describe.cache_clear()
    try:
        assert registry.names("samplers") == ("half",)
        assert registry.describe("samplers", "half").summary == "Halves x."
        assert dict(registry.parse("samplers", "half:part=0.25").options) == {"part": 0.25}
    finally:
        registry._own.cache_clear()
        registry.describe.cache_clear()


def test_an_installed_package_joins_with_an_entry_point(monkeypatch, tmp_path):
    (tmp_path / "guest_sampler.py").write_text(
        'def guest(denoise, x, sigmas, noise, *, part=0.5):\n    """A guest."""\n    yield x * part\n'
    )
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sdcli.samplers]\nguest = guest_sampler:guest\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._joined.cache_clear()
    registry.describe.cache_clear()
    try:
        assert "guest" in registry.names("samplers")
        assert registry.describe("samplers", "guest").summary == "A guest."
        assert "guest_sampler" not in sys.modules
        assert next(registry.find("samplers", "guest:part=0.25")(None, 8, [], None)) == 2
    finally:
        registry._joined.cache_clear()
        registry.describe.cache_clear()
        sys.modules.pop("guest_sampler", None)


def linked(folder: Path, to: Path, *own: str) -> None:
    """A folder that shows what is in another, as links, but for a path inside it whose folders are its own."""
    folder.mkdir(parents=True)
    for each in to.iterdir():
        if each.name == "__pycache__":
            continue
        if own and each.name == own[0]:
            linked(folder / each.name, each, *own[1:])
        else:
            (folder / each.name).symlink_to(each)


def test_new_samplers_are_in_the_help_the_list_and_the_tests_with_no_other_file_touched(tmp_path):
    house = Path(registry.__file__).parent
    linked(tmp_path / "sdcli", house, "diffusion", "samplers")
    body = '(denoise, x, sigmas, noise, *, part=0.5):\n    """A new one."""\n    yield x * part\n'
    (tmp_path / "sdcli" / "diffusion" / "samplers" / "half.py").write_text(f"def half{body}")
    (tmp_path / "guest_sampler.py").write_text(f"def guest{body}")
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sdcli.samplers]\nguest = guest_sampler:guest\n")

    path = os.pathsep.join(map(str, [tmp_path, Path(__file__).parents[1]]))
    tests = "from tests.diffusion.test_samplers import ALL; print(*ALL, sep=', ')"
    for command in (["-m", "sdcli", "txt2img", "--help"], ["-m", "sdcli", "samplers"], ["-c", tests]):
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        assert {"half", "guest"} <= set(ran.stdout.replace(",", " ").replace(".", " ").split()), command
