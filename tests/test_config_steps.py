"""Which code a step of the workflow covers, and which changes of it are reported; what the jobs really import
is held against it in test_graph_steps.py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from conftest import ROOT

from granvit.config import steps
from granvit.config.schema import Stage
from granvit.config.steps import ROOTS, Code
from granvit.errors import GranvitError

TRAINING = set(get_args(Stage))


def reported(checkout: Path) -> set[str]:
    """Steps whose code differs from this checkout's."""
    here, there = Code(ROOT), Code(checkout)
    return {step for step in ROOTS if here.hash_of(step) != there.hash_of(step)}


def test_a_steps_code_does_not_change_unsaid():
    assert steps.changed_steps() == [], "run: python -m granvit.config.steps"


@pytest.mark.parametrize(
    ("file", "old", "new", "named", "silent"),
    [
        (
            "data/records/images.py",
            '"white"',
            '"black"',
            {"ingest", "detector", "captioner", "ocr", "contamination", "predict", "data_figure"} | TRAINING,
            {"catalogue", "filter", "pack", "mixture", "data_report", "score", "table", "render", "standins"},
        ),
        (
            "models/loading.py",
            "torch.float32",
            "torch.bfloat16",
            {"predict", "standins"} | TRAINING,
            {"ingest", "annotate", "captioner", "mixture", "score", "table", "benchmarks"},
        ),
        (
            "boxes.py",
            "def iou(",
            "def iou2(",
            {"ingest", "filter", "detector", "score", "render"} | TRAINING,
            {"pack", "contamination", "table", "curves"},
        ),
    ],
)
def test_a_change_is_reported_by_the_steps_that_run_it_and_no_others(checkout, file, old, new, named, silent):
    path = checkout / "granvit" / file
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    found = reported(checkout)
    assert (named - found, silent & found) == (set(), set())


def test_comments_docstrings_and_layout_report_nothing(checkout):
    docstrings = 0
    for path in (*checkout.glob("granvit/**/*.py"), *checkout.glob("workflow_scripts/*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
                node.value.value, docstrings = "other words", docstrings + 1
        path.write_text("# A new comment.\n" + ast.unparse(tree))  # without the old comments and line breaks
    assert docstrings > 500
    assert reported(checkout) == set()


def test_every_module_is_covered_but_those_that_make_no_result_of_the_graph():
    code = Code()
    covered = {module for step in ROOTS for module in code.covered(step)}
    uncovered = {name for name in code.hashes if name not in covered}
    # The graph's own functions show in the jobs' parameters
    rooms = ("granvit.commands", "granvit.evaluation.toolkits", "granvit.graph", "granvit.planning")
    assert {name for name in uncovered if not name.startswith(rooms)} == {
        "check_cluster",
        "check_devices",
        "copy_files",
        "granvit.cli",
        "granvit.config.editors",
        "granvit.config.plan",
        "granvit.data.mixtures.export",
        "granvit.data.sources.draw_boxes",
        "granvit.data.sources.layouts",
        "granvit.data.sources.listing",
        "granvit.data.sources.proposal",
        "granvit.evaluation.agreement",
        "granvit.evaluation.check_cases",
        "granvit.evaluation.export",
        "granvit.evaluation.foreign",
        "granvit.evaluation.own_benchmark",
        "granvit.evaluation.own_images",
        "granvit.evaluation.xlsx",
        "granvit.models.llava",
        "granvit.reporting.cluster",
        "granvit.reporting.dataset_card",
        "granvit.reporting.finished_runs",
        "granvit.reporting.inspection",
        "granvit.reporting.inspection.copies",
        "granvit.reporting.inspection.findings",
        "granvit.reporting.inspection.pages",
        "granvit.reporting.inspection.reading",
        "granvit.reporting.inspection.seen",
        "granvit.reporting.model_card",
        "granvit.reporting.recompute",
        "granvit.reporting.side_by_side",
        "granvit.reporting.verify",
        "granvit.training.cluster_check",
        "make_plan",
    }


def test_every_step_has_a_root_and_a_record_and_every_rule_the_step_of_its_script():
    assert list(steps.load_steps()) == list(ROOTS)
    assert all(set(step) == {"version", "code"} for step in steps.load_steps().values())
    rules = [file.read_text() for file in (ROOT / "rules").glob("*.smk")]
    package = [file.read_text() for file in (ROOT / "granvit").rglob("*.py")]
    asked = {name for text in [*rules, *package] for name in re.findall(r"steps\.version\(['\"](\w+)", text)}
    assert {"render", "predict", "score"} <= asked <= ROOTS.keys() and ROOTS.keys() >= TRAINING
    checked = set()
    for block in re.split(r"^(?:use )?rule ", "\n".join(rules), flags=re.MULTILINE):
        version = re.search(r"version=steps\.version\(['\"](\w+)", block)
        script = re.search(r"workflow_scripts/(\w+)\.py", block)
        if version and script:
            assert script[1] in ROOTS[version[1]], f"rule {block.split(':')[0]}"
            checked.add(script[1])
    assert len(checked) > 15


@pytest.mark.parametrize("action", ["keep", "bump"])
def test_a_new_step_is_recorded_in_its_place_and_one_that_is_gone_is_dropped(tmp_path, monkeypatch, action):
    text = steps.STEPS_FILE.read_text()
    lines = text.splitlines(keepends=True)
    at = lines.index("filter:\n")
    file = tmp_path / "steps.yaml"
    file.write_text("".join([*lines[:at], "gone:\n  version: 4\n  code: x\n", *lines[at + 3 :]]))
    monkeypatch.setattr(steps, "STEPS_FILE", file)
    monkeypatch.setattr(steps, "load_steps", lambda: yaml.safe_load(file.read_text()))
    assert "filter" in steps.changed_steps()
    assert steps.main([action, "filter"]) == 0
    before, after = yaml.safe_load(text), yaml.safe_load(file.read_text())
    assert list(after) == list(ROOTS)
    assert after["filter"]["version"] == 1
    assert {name: step for name, step in after.items() if name != "filter"} == {
        name: step for name, step in before.items() if name != "filter"
    }


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Write a package of a few modules with one step, whose script is `job.py`; its covered modules."""

    def covered(job: str, **modules: str) -> set[str]:
        monkeypatch.setitem(steps.ROOTS, "tiny", ("job",))
        files = {"workflow_scripts/job": job, "granvit/__init__": "", "granvit/other": ""}
        files |= {f"granvit/{name}": source for name, source in modules.items()}
        for name, source in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / f"{name}.py").write_text(source)
        return set(Code(tmp_path).covered("tiny"))

    return covered


@pytest.mark.parametrize(
    "job",
    [
        "import granvit.other",
        "import granvit.other as o",
        "from granvit import other",
        "from granvit.other import name",
        "def main():\n    if late():\n        from granvit.other import name",
        "try:\n    import granvit.other\nexcept ImportError:\n    pass",
        "COMMAND = ['-m', 'granvit.other']",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import granvit.other",
        "if not TYPE_CHECKING:\n    import granvit.other",
    ],
)
def test_an_import_is_found_wherever_it_stands(tiny, job):
    assert tiny(job) == {"job", "granvit", "granvit.other"}


@pytest.mark.parametrize(
    "job",
    [
        "if TYPE_CHECKING:\n    from granvit.other import name",
        "if typing.TYPE_CHECKING:\n    import granvit.other",
        "# import granvit.other",
        "import granvit.others",
        "other = 1",
    ],
)
def test_what_is_never_imported_is_not_covered(tiny, job):
    assert tiny(job) <= {"job", "granvit"}


def test_a_package_is_covered_by_what_stands_in_it_and_brings_what_it_imports(tiny):
    hall = "from . import door\nfrom ..other import name"
    inside = {"room/__init__": hall, "room/door": "", "room/bed": ""}
    assert tiny("import granvit.room.bed", **inside) == {
        "job", "granvit", "granvit.room", "granvit.room.bed", "granvit.room.door", "granvit.other",
    }  # fmt: skip


def test_a_moved_module_is_reported_and_a_lost_script_named(checkout):
    for path in checkout.rglob("*.py"):
        path.write_text(path.read_text().replace("config.judge", "config.grader"))
    (checkout / "granvit/config/judge.py").rename(checkout / "granvit/config/grader.py")
    assert {"score", "stage1"} <= reported(checkout)
    (checkout / "workflow_scripts/draw_radar.py").unlink()
    with pytest.raises(GranvitError, match="figure: draw_radar is gone"):
        Code(checkout).hash_of("figure")


@pytest.fixture
def record(tmp_path, monkeypatch) -> Path:
    """A copy of config/steps.yaml in which the code of two steps is an older one."""
    copy = tmp_path / "steps.yaml"
    text = steps.STEPS_FILE.read_text()
    for step in ("pack", "stage1"):
        lines = f"{step}:\n  version: {steps.version(step)}\n  code: "
        assert lines in text
        text = text.replace(lines, f"{step}:\n  version: 7\n  code: 0")
    copy.write_text(text)
    monkeypatch.setattr(steps, "STEPS_FILE", copy)
    steps.load_steps.cache_clear()
    yield copy
    steps.load_steps.cache_clear()


def test_bump_raises_a_version_and_keep_does_not(record, capsys):
    assert steps.main([]) == 1 and capsys.readouterr().out.split() == ["pack", "stage1"]
    before = record.read_text().splitlines()
    assert steps.main(["bump", "stage1"]) == 0 and steps.main(["keep", "pack"]) == 0
    steps.load_steps.cache_clear()
    assert (steps.version("stage1"), steps.version("pack")) == (8, 7)
    assert steps.main([]) == 0 and "no step's code has changed" in capsys.readouterr().out
    changed = [line for line, old in zip(record.read_text().splitlines(), before, strict=True) if line != old]
    assert [line.split(":")[0] for line in changed] == ["  code", "  version", "  code"]


def test_show_lists_a_steps_modules_and_a_modules_steps(capsys):
    assert steps.main(["show", "filter"]) == 0
    shown = capsys.readouterr().out.split()
    assert {"filter_regions", "granvit.boxes", "granvit.data.records.filters"} <= set(shown)
    assert steps.main(["show", "granvit.training.distillation"]) == 0
    assert "stage1" in capsys.readouterr().out.split()
    for wrong in (["show"], ["show", "granvit.nothing"], ["bump", "stage9"], ["raise", "stage1"]):
        assert steps.main(wrong) == 2


def test_no_figure_reads_the_papers_numbers():
    """Tables, the comparison, the audit and the report do. Figure 1a's cells hold them, and it draws none of
    them (test_reporting_radar)."""
    figures = [
        "curves",
        "pipeline",
        "scaling",
        "answer_figure",
        "map_figure",
        "locality_table",
        "data_figure",
    ]
    code = Code()
    assert [step for step in figures if "granvit.reporting.reported" in code.covered(step)] == []
    assert "granvit.reporting.reported" in code.covered("table")
    blocks = re.split(r"(?m)^rule (?=\w+:)", "".join(path.read_text() for path in ROOT.glob("rules/*.smk")))
    reading = {block.partition(":")[0] for block in blocks[1:] if "config/reported" in block}
    assert reading == {
        "make_table", "make_data_table", "compare_table", "audit_paper", "make_report", "make_claims",
    }  # fmt: skip
