"""The floors of the house: imports only point down, and the library is silent."""

import ast
from pathlib import Path

import pytest

import sdcli

HOUSE = Path(sdcli.__file__).parent
FLOORS = [  # from the ground up; a module may use its own floor and those below, but not its neighbours' rooms
    {"errors", "registry", "settings", "file_signatures", "__init__", "tiny"},
    {"request", "diffusion"},
    {"checkpoints", "models", "adapters"},
    {"pipeline"},
    {"engine", "result", "store", "convert", "batch"},
    {"commands", "cli", "__main__"},
]
APART = [{"request", "diffusion"}]  # rooms of one floor that do not know each other
FILES = sorted(HOUSE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def is_for_types_only(node: ast.stmt) -> bool:
    """True for `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name == "registry.py":  # it names the plugins' types, for the type checker alone
        tree.body = [node for node in tree.body if not is_for_types_only(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "sdcli":
                yield from (f"sdcli.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_only_point_down(path):
    here = room(path)
    for name in imports(path):
        if name.startswith("sdcli."):
            there = name.split(".")[1]
            assert floor(there) <= floor(here), f"{path} imports {name}"
            assert not any({here, there} <= apart and here != there for apart in APART), (
                f"{path} imports {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_the_door_prints(path):
    if room(path) in ("commands", "cli"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        assert called != "print", f"{path}:{node.lineno} prints"
