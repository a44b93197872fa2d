"""Step versions: how a change of code reaches the workflow's cache.

Snakemake reruns a job when its parameters change, not when this package does. So every job carries the
version of its step from config/steps.yaml, which also records a hash of the step's code; a test fails while
the two disagree. After a change of code, say whether results change:

    python -m granvit.config.steps               # which steps' code has changed
    python -m granvit.config.steps bump stage1   # results change: stage 1 will run again
    python -m granvit.config.steps keep stage1   # results stay: record the new code only
    python -m granvit.config.steps show stage1   # the modules that stage 1 covers
    python -m granvit.config.steps show granvit.boxes   # the steps that cover a module

Nobody lists what a step covers: it is every module that its workflow script can import, directly or through
others, at the top of a module or inside a function. A module whose name stands in a string (as in
`python -m granvit.training.launch`) counts as imported; what only a type checker imports does not. The hash
is made of syntax trees, so comments, docstrings and line breaks change nothing. Names of modules belong to
it: a module that was moved is reported, since what the others call may now be something else. What every
job imports (settings, logs) is reported by every step; mostly `keep` is the answer.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

import yaml

from granvit.errors import GranvitError

ROOT = Path(__file__).resolve().parents[2]
STEPS_FILE = ROOT / "config" / "steps.yaml"

# Where each step's code begins: its workflow scripts, or a file of the package (written with slashes, since a
# dotted name in a string counts as an import).
ROOTS: dict[str, tuple[str, ...]] = {
    "render": ("render_source",),
    "benchmarks": ("render_benchmarks",),
    "standins": ("render_standin_pool", "build_standin_llm", "build_standin_encoder"),
    "catalogue": ("catalogue_source",),
    "ingest": ("ingest_source",),
    "annotate": ("annotate_regions",),
    "detector": ("granvit/data/annotators/detect.py",),
    "captioner": ("granvit/data/annotators/caption.py",),
    "ocr": ("granvit/data/annotators/ocr.py",),
    "filter": ("filter_regions",),
    "pack": ("pack_shard",),
    "contamination": ("hash_benchmarks", "find_contamination"),
    "mixture": ("draw_mixture",),
    "data_report": ("report_filters", "report_rejects"),
    "annotation_audit": ("audit_annotations",),
    "data_table": ("make_data_table",),
    "data_figure": ("draw_annotation", "draw_samples"),
    **dict.fromkeys(("projector", "stage1", "stage2", "sft", "continued"), ("train_run",)),
    "predict": ("predict_benchmarks",),
    "score": ("score_benchmarks",),
    "heldout_answers": ("answer_heldout",),
    "table": ("make_table", "write_averages", "compare_seeds", "compare_table", "join_comparisons"),
    "cost": ("make_cost",),
    "audit": ("audit_paper",),
    "claims": ("make_claims",),
    "figure": ("draw_radar",),
    "curves": ("draw_curves",),
    "answer_figure": ("draw_answers",),
    "maps": ("map_queries",),
    "map_figure": ("draw_maps",),
    "locality": ("measure_locality",),
    "locality_table": ("make_locality",),
    "page_boxes": ("measure_page_boxes",),
    "gates": ("check_gates",),
    "pipeline": ("draw_pipeline",),
    "scaling": ("draw_scaling",),
    "report": ("make_report",),
}
# Steps whose version stands beside that of another: the code of that other one ends where theirs begins.
PARTS = {"annotate": ("detector", "captioner", "ocr")}


@cache
def load_steps() -> dict[str, dict]:
    """step -> {version: int, code: sha256 of the code that it covers}."""
    return yaml.safe_load(STEPS_FILE.read_text())


def version(step: str) -> int:
    """The version of a step's code. Raises GranvitError for an unknown step."""
    try:
        return load_steps()[step]["version"]
    except KeyError:
        raise GranvitError(
            f"config/steps.yaml: '{step}' is not a step; known: {', '.join(load_steps())}"
        ) from None


class Code:
    """The code of one checkout, by the names under which modules are imported: the package and the scripts.

    ``imports``: module -> dotted names that it imports; ``hashes``: module -> sha256 of its syntax tree.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.imports: dict[str, frozenset[str]] = {}
        self.hashes: dict[str, str] = {}
        files = [(path, (path.stem,)) for path in (root / "workflow_scripts").glob("*.py")]
        for path in (root / "granvit").rglob("*.py"):
            files.append((path, path.relative_to(root).with_suffix("").parts))
        for path, parts in files:
            name = ".".join(parts).removesuffix(".__init__")
            self.imports[name], self.hashes[name] = _read(parts[:-1], path.read_text(encoding="utf-8"))

    def covered(self, step: str) -> list[str]:
        """The modules that a step covers, by name. Raises GranvitError where its script is gone."""
        queue = _roots(step)
        gone = [name for name in queue if name not in self.hashes]
        if gone:
            raise GranvitError(
                f"granvit/config/steps.py: ROOTS: {step}: {gone[0]} is gone; say where the step's code begins"
            )
        ends = {root for part in PARTS.get(step, ()) for root in _roots(part)}
        found: set[str] = set()
        while queue:
            name = queue.pop()
            if name in self.hashes and name not in found | ends:
                found.add(name)
                queue += self.imports[name]
        return sorted(found)

    def hash_of(self, step: str) -> str:
        """sha256 over the names and syntax trees of the modules that a step covers."""
        lines = [f"{name} {self.hashes[name]}\n" for name in self.covered(step)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _roots(step: str) -> list[str]:
    return [root.removesuffix(".py").replace("/", ".") for root in ROOTS[step]]


@cache
def _read(package: tuple[str, ...], source: str) -> tuple[frozenset[str], str]:
    """What a module in `package` may import, as dotted names (some are no modules), and its hash."""
    tree = ast.parse(source)
    names = {name for node in _executed(tree) for name in _imported(node, package)}
    # Importing a.b.c runs a and a.b too
    reached = frozenset(part for name in names for part in accumulate(name.split("."), "{}.{}".format))
    return reached, hashlib.sha256(_text(tree).encode()).hexdigest()


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node`, without those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            child = ast.Module(body=child.orelse, type_ignores=[])
        yield child
        yield from _executed(child)


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """The dotted names that a node imports; `from a import b` may mean the module a.b, or a name in a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("granvit."):
        return [node.value]
    return []


def _text(node: object) -> str:
    """A syntax tree as text, without places in the file and without strings that stand alone (docstrings).

    Python versions agree on it but for odd f-strings: empty fields are left out (3.12 added `type_params`),
    and `ascii` does not depend on a version's Unicode tables.
    """
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({','.join(f'{name}={_text(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_text(item) for item in node if not _is_docstring(item))}]"
    return ascii(node)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def changed_steps() -> list[str]:
    """Steps whose code is not the code that config/steps.yaml records; new ones have no record yet."""
    code, known = Code(), load_steps()
    return [name for name in ROOTS if name not in known or code.hash_of(name) != known[name]["code"]]


def record(action: str, names: list[str]) -> None:
    """Write the present code of the steps `names` to config/steps.yaml; `bump` raises their versions too.
    A new step begins at version 1."""
    known, code = load_steps(), Code()
    for name in names:
        before = known.get(name, {"version": 0})["version"]
        known[name] = {"version": max(1, before + (action == "bump")), "code": code.hash_of(name)}
    steps = {name: known[name] for name in ROOTS if name in known}
    comments = [line for line in STEPS_FILE.read_text().splitlines(keepends=True) if line.startswith("#")]
    STEPS_FILE.write_text("".join(comments) + yaml.safe_dump(steps, sort_keys=False))


def show(name: str) -> list[str]:
    """The modules that a step covers, or the steps that cover a module."""
    code = Code()
    return code.covered(name) if name in ROOTS else [step for step in ROOTS if name in code.covered(step)]


def main(arguments: list[str]) -> int:
    if not arguments:
        changed = changed_steps()
        print("\n".join(changed) if changed else "no step's code has changed")
        return 1 if changed else 0
    action, names = arguments[0], arguments[1:]
    if action == "show" and len(names) == 1 and (shown := show(names[0])):
        print("\n".join(shown))
        return 0
    names = names or changed_steps()
    unknown = [name for name in names if name not in ROOTS]
    if action not in ("bump", "keep") or unknown:
        print(__doc__, file=sys.stderr)
        return 2
    record(action, names)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
