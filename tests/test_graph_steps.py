"""The planted change: whatever module is changed, the steps whose jobs import it report it, and no others.

All rules run at smoke scale, and every job writes down what it and the processes it starts really import
(tests/recorder). Then a change is planted in each module of the package, one at a time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, call, copy_of_run
from test_data_detect import tiny_detr
from tiny_vlm import make_qwen

from granvit.config.steps import ROOTS, Code

pytestmark = pytest.mark.graph

# The rules that share a script, but each have a step of their own
STEP_OF_RULE = {
    "pretrain_projector": "projector",
    "train_stage1": "stage1",
    "train_stage2": "stage2",
    "continue_pretraining": "continued",
    "finetune_sft": "sft",
}
# What the smoke run leaves out
TARGETS = [
    "data_reports",
    "gates",
    "results/smoke/continued/continued-siglip2/seed0/manifest.json",
    "results/table6.csv",
    "results/seeds.csv",
    "results/comparison.csv",
    "report",
    "results/attention_locality.csv",
    "results/audit.csv",
    "claims",
    "results/table1.cost.csv",
    *(f"results/figure{number}.png" for number in ("2", "3", "4a", "5", "6", "8", "13")),
]


@pytest.fixture(scope="module")
def everything(smoke_run, tmp_path_factory) -> Path:
    """A copy of the smoke run in which the jobs of every other rule have run too."""
    folder = copy_of_run(smoke_run, tmp_path_factory.mktemp("steps") / "everything")
    show_less(folder)
    report = "report={tables: [table1], figures: [figure1a]}"
    call(folder, "snakemake", *TARGETS, "--config", "comparison_seeds=[0]", report)
    annotate_with_models(folder)
    build_standins(folder)
    return folder


def show_less(folder: Path) -> None:
    """Table 1 alone in the comparison, GranViT alone in Figure 5, and one claim about Table 1: no runs are
    trained for them."""
    changes = {"tables": keep_table_1, "figures": keep_granvit, "claims": keep_a_claim}
    for name, change in changes.items():
        file = folder / f"config/{name}.yaml"
        file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text())), sort_keys=False))


def keep_table_1(content: dict) -> dict:
    return content | {"tables": {"table1": content["tables"]["table1"]}}


def keep_granvit(content: dict) -> dict:
    only = {"stage1": ["sft-granvit"], "stage2": ["sft-granvit"]}
    return content | {"figure5": content["figure5"] | only}


def keep_a_claim(content: dict) -> dict:
    return content | {"paper": {"gain-ocr": content["paper"]["gain-ocr"]}, "controls": {}}


def annotate_with_models(folder: Path) -> None:
    """Boxes from a detector and texts from a captioner, both tiny, for the miniature's scenes."""
    make_qwen(folder / "vlm")
    for part in tiny_detr():
        part.save_pretrained(folder / "detr")
    rows = (folder / "config/sources_mini.tsv").read_text().splitlines()
    (scenes,) = (row for row in rows if row.startswith("Scenes\t"))
    given, models = "\t".join(["given"] * 3), "\t".join(["detector", "captioner", "captioner"])
    assert given in scenes
    rows.append(scenes.replace("Scenes", "Found", 1).replace(given, models))
    (folder / "found.tsv").write_text("\n".join(rows) + "\n")
    detector = {"backend": "transformers", "model": "detr", "weights": None, "min_score": 0.0, "max_boxes": 2}
    captioner = {"backend": "transformers", "model": "vlm", "region_tokens": 4, "caption_tokens": 4}
    data = {"sources": "found.tsv", "max_reject_share": 1.0, "detector": detector, "captioner": captioner}
    (folder / "found.yaml").write_text(yaml.safe_dump({"data": data}))
    call(folder, "snakemake", "results/smoke/data/annotated/Found/00000.jsonl", "--configfile", "found.yaml")


def build_standins(folder: Path) -> None:
    """The one stand-in that needs all rules of its phase, after a step or two of training."""
    few = {
        "llms": {"STEPS": "2", "BATCH": "4"},
        "scores": {"PICTURES": "2"},
        "encoders": {"POOL": "96", "BATCH": "4", "COARSE_STEPS": "2", "PROBE_EVERY": "2", "MOST_STEPS": "4"},
        "probe": {"HELD_OUT": "64", "TEST": "16"},
        "align": {"STEPS": "2", "PROBE_EVERY": "2", "BATCH": "4"},
    }
    for name, numbers in few.items():
        file = folder / f"granvit/miniature/standins/{name}.py"
        text = file.read_text()
        for constant, number in numbers.items():
            text, count = re.subn(rf"(?m)^{constant} = [\d_, ]+", f"{constant} = {number}", text)
            assert count == 1, constant
        file.write_text(text)
    call(folder, "snakemake", "results/standins/encoders/SAILViT")


def imported(folder: Path) -> dict[tuple[str, ...], set[str]]:
    """The steps that a job belongs to, by its parameters -> the modules that such jobs imported."""
    known, found = Code(ROOT).hashes, defaultdict(set)
    for file in (folder / ".snakemake/recorded").iterdir():
        for line in file.read_text().splitlines():
            rule, script, annotators, module = line.split()
            if script == "copy_files":
                continue  # makes nothing, and belongs to no step
            if annotators != "-":
                names = tuple(annotators.split(","))
            else:
                names = (STEP_OF_RULE.get(rule) or next(step for step in ROOTS if script in ROOTS[step]),)
            found[names] |= {script, module} & known.keys()
    return found


def test_every_step_that_imports_a_changed_module_reports_it_and_no_other(everything, checkout):
    jobs = imported(everything)
    assert {step for names in jobs for step in names} == set(ROOTS)
    before, missed, spare = Code(checkout), [], {}
    files = [*checkout.glob("granvit/**/*.py"), *checkout.glob("workflow_scripts/*.py")]
    assert len(files) == len(before.hashes) > 150
    for file in files:
        source = file.read_text()
        file.write_text(f"{source}\nPLANTED = 1\n")
        after = Code(checkout)
        file.write_text(source)
        (module,) = (name for name in after.hashes if after.hashes[name] != before.hashes[name])
        reported = {step for step in ROOTS if after.hash_of(step) != before.hash_of(step)}
        importing = [steps for steps, modules in jobs.items() if module in modules]
        missed += [(module, steps) for steps in importing if not reported & {*steps}]
        if unneeded := reported.difference(*importing):
            spare[module] = unneeded
    assert missed == []
    assert spare == {}  # covered, and imported by no job: to be named here with a reason
