"""Each room uses those below it: no circle, no arrow against the stream, wherever in a file the import is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "schedcmp"
FLOORS = (
    "axes errors grouped readings",
    "guard records",
    "files pipelines",
    "drawing pictures spacing",
    "samplers",
    "registry",
    "sweep",
    "remake store",
    "addresses truth",
    "checkpoint",
    "engine inputs metrics report",
    "backend track",
    "prepare",
    "runs",
    "cluster",
    "cli",
    "__main__ face",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
WITHOUT_TORCH = ["axes", "guard", "records", "readings", "sweep", "store", "addresses", "report", "prepare", "runs"]


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All of a file, but for those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from imports(child)


def names(path: Path) -> Iterator[str]:
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    return ".".join(("schedcmp", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def test_every_room_has_its_floor() -> None:
    assert {room(path) for path in FILES} == FLOOR.keys()


@pytest.mark.parametrize("name", FLOOR)
def test_a_room_uses_those_below_it(name: str) -> None:
    for path in (path for path in FILES if room(path) == name):
        used = {other.split(".")[1] for other in names(path) if other.startswith("schedcmp.")} - {"__version__", name}
        assert {other for other in used if FLOOR[other] >= FLOOR[name]} == set(), path


def test_no_file_uses_itself_by_way_of_others() -> None:
    modules = {module(path): path for path in FILES}
    used = {
        own: {name if name in modules else name.rpartition(".")[0] for name in names(path)} & modules.keys() - {own}
        for own, path in modules.items()
    }
    TopologicalSorter(used).prepare()  # raises CycleError


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_these_rooms_import_no_torch_when_they_are_imported(name: str) -> None:
    for path in FILES:
        if room(path) == name:
            top = ast.parse(path.read_text(encoding="utf-8")).body
            plain = [node for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not [ast.unparse(node) for node in plain if "torch" in ast.unparse(node).split("import")[0].split()]
