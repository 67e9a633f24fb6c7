"""The floors of the house: imports only point down, and the library is silent."""

import ast
from pathlib import Path

import pytest

import sdcli

HOUSE = Path(sdcli.__file__).parent
FLOORS = [  # from the ground up; a module may import its own floor and those below
    {
        "errors",
        "notes",
        "registry",
        "home",
        "settings",
        "settings_file",
        "file_signatures",
        "machine",
        "tiny",
        "tokenizer",
    },
    {"request", "diffusion"},
    {"checkpoints"},
    {"models"},
    {"adapters"},
    {"pipeline"},
    {"engine", "result", "store", "convert", "estimate", "pull"},
    {"batch", "train"},
    {"serve"},
    {"commands", "cli", "__main__", "__init__"},
]
APART = [{"request", "diffusion"}]  # rooms of one floor that do not know each other
WITHOUT_TORCH = (
    "batch",
    "serve",
    "request",
    "checkpoints",
    "commands",
    "cli",
    "store",
    "pull",
    "estimate",
    "home",
    "settings",
    "settings_file",
    "registry",
    "errors",
    "notes",
    "__init__",
)
WITHOUT_REQUEST = ("adapters", "pipeline")  # they see a Job, in which nothing is open
FILES = sorted(HOUSE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def is_for_types_only(node: ast.AST) -> bool:
    """True for `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_by(nodes):
    """The modules, and the names in them, that these statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module
            if node.module == "sdcli":
                yield from (f"sdcli.{alias.name}" for alias in node.names)


def imports(path: Path):
    """Every import of a file, in its functions too; the registry and the package name types from above."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name in ("registry.py", "__init__.py"):
        tree.body = [node for node in tree.body if not is_for_types_only(node)]
    return imported_by(ast.walk(tree))


def imports_at_once(path: Path):
    """What is imported when the file itself is."""
    return imported_by(ast.parse(path.read_text(encoding="utf-8")).body)


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_rooms_on_the_way_to_an_answer_import_no_torch(path):
    if room(path) in WITHOUT_TORCH:
        heavy = {
            name
            for name in imports_at_once(path)
            if name.split(".")[0] in ("torch", "diffusers", "transformers")
        }
        assert heavy == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_nothing_below_the_engine_sees_a_request(path):
    if room(path) in WITHOUT_REQUEST:
        assert "sdcli.request.request" not in set(imports(path))
