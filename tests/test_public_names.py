"""What `import sdcli` gives a Python programmer: the public names, typed, and without waiting for torch."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdcli

ROOT = Path(sdcli.__file__).parents[1]
RIGHT = """
from sdcli import Picture, Request, SdError, generate, save
from pathlib import Path

try:
    picture: Picture = generate(Request("a cat", seed=7, steps=2)).picture
    path: Path = save(picture.png(), Path("cat.png"))
    side: int = picture.image.width
except SdError as error:
    code: int = error.code
"""
WRONG = """
from sdcli import Request, generate, save
Request("a cat", seed="seven")
number: int = generate(Request("a cat"))
save("not bytes", "cat.png")
from sdcli import no_such_name
"""


def test_importing_the_package_imports_no_torch_numpy_pillow_or_click():
    program = "import sys, sdcli; print({'torch', 'numpy', 'PIL', 'click'} & set(sys.modules) or 'none')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("none", "")


@pytest.mark.parametrize("name", sdcli.__all__)
def test_a_public_name_can_be_imported_and_has_a_docstring(name):
    namespace = {}
    exec(f"from sdcli import {name}", namespace)
    assert namespace[name].__name__ == name
    assert inspect.getdoc(namespace[name])


@pytest.mark.parametrize("name", sdcli.__all__)
def test_each_parameter_and_result_of_a_public_name_is_annotated(name):
    thing = getattr(sdcli, name)
    if inspect.isclass(thing) and issubclass(thing, Exception):
        assert isinstance(thing.code, int)
        return
    signature = inspect.signature(thing)
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty] == []
    assert inspect.isclass(thing) or signature.return_annotation is not signature.empty


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = sdcli.no_such_name


def test_the_package_says_that_it_is_typed():
    assert (Path(sdcli.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_a_strict_type_checker_accepts_right_uses_and_finds_each_wrong_one(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "right.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = [line.split(" error: ")[0] for line in ran.stdout.splitlines() if " error: " in line]
    assert lines == [f"wrong.py:{number}:" for number in (3, 4, 5, 5, 6)], ran.stdout + ran.stderr
