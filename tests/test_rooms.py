"""The rooms of the package: what imports what, read from the source."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Who may know whom: a room imports rooms of the lines above its own, and of its own line only itself.
FLOORS = [
    ["granvit.errors"],
    [
        "granvit.files",
        "granvit.boxes",
        "granvit.device",
        "granvit.processes",
        "granvit.progress",
        "granvit.slurm",
        "granvit.finished",
    ],
    ["granvit.config", "granvit.servers", "granvit.fork_server"],
    ["granvit.data", "granvit.models"],
    ["granvit.training", "granvit.evaluation", "granvit.miniature"],
    ["granvit.reporting", "granvit.graph"],
    ["granvit.planning"],
    ["granvit.commands"],
    ["granvit.cli"],
]
# And inside a room, or of rooms that may know each other by their floors, but do not
STRANGERS = {
    "granvit.data.records": ["granvit.data.sources", "granvit.data.annotators", "granvit.data.mixtures"],
    "granvit.data.sources": ["granvit.data.annotators", "granvit.data.mixtures"],
    "granvit.data.annotators": ["granvit.data.sources", "granvit.data.mixtures"],
    "granvit.data.mixtures": ["granvit.data.sources", "granvit.data.annotators"],
    "granvit.reporting": ["granvit.training", "granvit.models"],
    "granvit": ["granvit.miniature"],  # stands in for the world, and nothing may tell
}


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """module -> modules of the package that it imports anywhere, but for a type checker only."""
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (root / "granvit").rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        names: set[str] = set()
        for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in files else node.module for name in whole}
        found[module] = names & files.keys()
    return found


def _executed(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _executed(child)


def strangers_met(found: dict[str, set[str]]) -> list[str]:
    """The imports that no room should have."""
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    met = []
    for module, others in sorted(found.items()):
        for other in sorted(others - {"granvit"}):
            here, there = (".".join(name.split(".")[:2]) for name in (module, other))
            upwards = module != "granvit" and here != there and floors[here] <= floors[there]
            strange = any(
                _in(module, room) and _in(other, stranger) and not _in(module, stranger)
                for room, strangers in STRANGERS.items()
                for stranger in strangers
            )
            met += [f"{module} imports {other}"] if upwards or strange else []
    return met


def _in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def test_arrows_between_rooms_run_one_way():
    found = imports()
    assert {"granvit.data.records.filters", "granvit.models.mllm"} <= found.keys()
    assert strangers_met(found) == []


def test_no_modules_import_each_other():
    found = imports()
    assert len(found) > 100
    TopologicalSorter(found).prepare()  # raises CycleError, naming the circle


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("granvit.data.records.reports", "granvit.data.sources.rejects"),
        ("granvit.data.annotators.ocr", "granvit.data.mixtures.mixture"),
        ("granvit.models.mllm", "granvit.data.records.images"),
        ("granvit.boxes", "granvit.config.base"),
        ("granvit.evaluation.score", "granvit.training.job"),
        ("granvit.commands.data", "granvit.miniature.sources"),
    ],
)
def test_a_planted_arrow_is_found(module, other):
    found = imports()
    found[module].add(other)
    assert strangers_met(found) == [f"{module} imports {other}"]
