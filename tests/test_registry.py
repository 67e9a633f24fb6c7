"""The registry: plugins are found by their files, and by installed packages that join."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from sdcli import registry
from sdcli.errors import UsageError

EVERY = [(kind, name) for kind in registry.FOLDERS for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_plugin_is_found_under_its_own_name(kind, name):
    import click

    from sdcli.checkpoints.family import Family

    plugin = registry.find(kind, name)
    types = {"families": Family, "commands": click.Command}
    if kind in types:
        assert isinstance(plugin, types[kind])
        assert plugin.name == name
    else:
        assert callable(plugin)
        assert plugin.__name__ == name


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in EVERY if kind != "families"])
def test_every_plugin_says_in_one_line_what_it_is(kind, name):
    summary = registry.describe(kind, name).summary
    assert 10 < len(summary) <= 120
    assert summary.endswith(".")


def test_a_plugins_options_and_defaults_are_read_from_its_source():
    assert dict(registry.describe("samplers", "euler_a").options) == {"eta": 1.0, "s_noise": 1.0}


def test_options_are_parsed_and_take_the_type_of_their_default():
    spec = registry.parse("samplers", "dpmpp_2m_sde:eta=0.5, heun=true")
    assert spec == registry.Spec("dpmpp_2m_sde", (("eta", 0.5), ("heun", True)))
    assert registry.parse("samplers", "restart:times=2").options == (("times", 2),)


def test_a_name_with_a_colon_and_nothing_behind_it_has_no_options():
    assert registry.parse("samplers", "euler:") == registry.Spec("euler")


def test_a_spec_reads_back_from_its_text():
    for text in ("euler", "euler_a:eta=0.5,s_noise=2.0", "dpmpp_2m_sde:heun=True"):
        assert str(registry.parse("samplers", text)) == text


def test_a_plugin_that_is_found_has_its_options_bound():
    for spec in ("euler_a:eta=0.5", registry.parse("samplers", "euler_a:eta=0.5")):
        assert registry.find("samplers", spec).keywords == {"eta": 0.5}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("eular", "no sampler is called 'eular'; did you mean 'euler'?"),
        ("nothing", "no sampler is called 'nothing'; there are: ddim, "),
        ("", "no sampler is called ''; there are: ddim, "),
        ("../cli", "no sampler is called '../cli'; "),
        ("euler_a:eta", "euler_a: eta='' is not a float; try euler_a:eta=1.0"),
        ("euler_a:eta=", "euler_a: eta='' is not a float; try euler_a:eta=1.0"),
        ("euler_a:x=1", "euler_a has no option 'x'; there are: eta, s_noise"),
        ("euler_a:etta=1", "euler_a has no option 'etta'; did you mean 'eta'?"),
        ("euler:eta=1", "euler has no option 'eta'; it has no options"),
        ("dpmpp_2m_sde:heun=2", "dpmpp_2m_sde: heun='2' is not a bool; try dpmpp_2m_sde:heun=False"),
    ],
)
def test_a_wrong_name_or_option_is_a_usage_error_with_a_next_step(spec, message):
    for read in (registry.parse, registry.find):
        with pytest.raises(UsageError) as error:
            read("samplers", spec)
        assert str(error.value).startswith(message)


def test_listing_and_describing_all_plugins_imports_none_of_them_and_no_torch():
    code = """
import sys
from sdcli import registry
for kind in registry.FOLDERS:
    for name in registry.names(kind):
        registry.describe(kind, name)
print("torch" in sys.modules, sorted(name for name in sys.modules if name.startswith("sdcli.")))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "False ['sdcli.errors', 'sdcli.registry']", ran.stderr


def forget_plugins():
    """Makes the registry look at the folders and the installed packages again."""
    for cached in (registry._built_in, registry._installed, registry.describe):
        cached.cache_clear()


@pytest.fixture
def fresh_registry():
    """A registry that looks again before the test's first look and after it."""
    forget_plugins()
    yield
    forget_plugins()


def test_a_new_file_in_the_folder_is_a_new_sampler(monkeypatch, tmp_path, fresh_registry):
    source = 'def half(denoise, x, sigmas, noise, *, part=0.5):\n    """Halves x."""\n    yield x * part\n'
    folder = tmp_path / "diffusion" / "samplers"
    folder.mkdir(parents=True)
    (folder / "half.py").write_text(source)
    monkeypatch.setattr(registry, "_PACKAGE", str(tmp_path))
    assert registry.names("samplers") == ("half",)
    assert registry.describe("samplers", "half").summary == "Halves x."
    assert registry.parse("samplers", "half:part=0.25").options == (("part", 0.25),)


GUEST_INFO = {
    "METADATA": "Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n",
    "entry_points.txt": "[sdcli.samplers]\nguest = guest_sampler:guest\n",
}


def install_guest(folder: Path, summary: str) -> None:
    """An installed package with one sampler, `guest`, which multiplies x by its option `part`."""
    source = f'def guest(denoise, x, sigmas, noise, *, part=0.5):\n    """{summary}"""\n    yield x * part\n'
    folder.mkdir(exist_ok=True)
    (folder / "guest_sampler.py").write_text(source)
    info = folder / "guest-1.0.dist-info"
    info.mkdir()
    for name, text in GUEST_INFO.items():
        (info / name).write_text(text)


def test_an_installed_package_joins_with_an_entry_point(monkeypatch, tmp_path, fresh_registry):
    install_guest(tmp_path, "A guest.")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert "guest" in registry.names("samplers")
        assert registry.describe("samplers", "guest").summary == "A guest."
        assert "guest_sampler" not in sys.modules
        assert next(registry.find("samplers", "guest:part=0.25")(None, 8, [], None)) == 2
    finally:
        sys.modules.pop("guest_sampler", None)


@pytest.mark.parametrize("place", ["guest-1.0.dist-info", "guest.egg-info", "GUEST.EGG-INFO"])
def test_installed_packages_are_asked_only_if_one_of_them_names_the_kind(tmp_path, place):
    info = tmp_path / place
    info.mkdir()
    assert not registry._may_add(str(tmp_path), "sdcli.samplers")
    (info / "entry_points.txt").write_text(GUEST_INFO["entry_points.txt"])
    assert registry._may_add(str(tmp_path), "sdcli.samplers")
    assert not registry._may_add(str(tmp_path), "sdcli.schedules")


def test_a_package_in_a_zip_file_joins_too(monkeypatch, tmp_path, fresh_registry):
    install_guest(tmp_path / "unpacked", "A guest.")
    path = shutil.make_archive(str(tmp_path / "guest"), "zip", tmp_path / "unpacked")
    monkeypatch.syspath_prepend(path)
    assert "guest" in registry.names("samplers")


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_the_installed_plugins_are_those_that_importlib_metadata_lists(kind):
    assert set(registry._installed(kind)) == entry_points(group=f"sdcli.{kind}").names


def test_folders_on_the_path_that_are_not_there_hold_no_packages(tmp_path):
    assert not registry._may_add(str(tmp_path / "none"), "sdcli.samplers")


def link_tree(folder: Path, target: Path, *real: str) -> None:
    """A folder of links to what is in the target, except that the folders of the path `real` in it are real ones."""
    folder.mkdir(parents=True)
    for entry in target.iterdir():
        if entry.name == "__pycache__":
            continue
        if real and entry.name == real[0]:
            link_tree(folder / entry.name, entry, *real[1:])
        else:
            (folder / entry.name).symlink_to(entry)


def test_new_samplers_are_in_the_help_the_list_and_the_tests_with_no_other_file_touched(tmp_path):
    link_tree(tmp_path / "sdcli", Path(registry.__file__).parent, "diffusion", "samplers")
    source = 'def half(denoise, x, sigmas, noise, *, part=0.5):\n    """A new one."""\n    yield x * part\n'
    (tmp_path / "sdcli" / "diffusion" / "samplers" / "half.py").write_text(source)
    install_guest(tmp_path, "A new one.")

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
