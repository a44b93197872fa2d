"""Made-up results for tests of the report: every benchmark with a few questions, runs that answer them, and
paper's numbers that nothing else could be."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

from evaluation_world import write_tsv
from PIL import Image

from granvit.config.loading import load_config
from granvit.config.recipes import resolve_all
from granvit.config.tables import load_tables, required_forward_runs, required_leaves
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.files import write_json, write_text
from granvit.reporting.seeds import make_seeds
from granvit.reporting.site.pages import Wanted, make_report
from granvit.reporting.tables import make_table

SPECS, BENCHMARKS = load_tables(), load_benchmarks()
TABLES = ("table1", "table3", "table9", "seeds", "table6", "comparison")
COMPARED, SEEDS = ("sft-siglip2", "sft-granvit"), (0, 1)
SCRIPT = '<script>alert("an answer")</script>'
SPLITS = {name: cell.split for name, cell in SPECS["table1"].shared.benchmarks.items() if cell.split}
QUESTIONS = 4  # of a benchmark, or of a split
FEATURES = {"flops": 3.24e12, "macs": 1.62e12}


def picture(number: int) -> str:
    """A picture of its own for each number, as base64; one is larger than the galleries show."""
    size = (900, 600) if number == 0 else (48, 36)
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, 80, number // 256)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_questions(folder: Path) -> None:
    """The benchmarks' files: RefCOCO's with all splits, the others with `QUESTIONS` rows."""
    number = 0
    for tsv, prefix in {benchmark.tsv: benchmark.split_prefix for benchmark in BENCHMARKS}.items():
        splits = list(SPLITS.values()) if tsv == "RefCOCO.tsv" else [prefix]
        category = "Counting" if tsv == "BLINK.tsv" else "kind & sort"
        rows = []
        for split in splits:
            for _ in range(QUESTIONS):
                rows.append({
                    "index": len(rows), "image": picture(number), "question": f"What is <b>{number}</b>?",
                    "answer": "A", "A": "this", "B": "that", "category": category, "split": split,
                    "hint": f"hint <i>{number}</i>",
                })  # fmt: skip
                number += 1
        write_tsv(folder / tsv, rows)


def verdicts(benchmark, kind: int) -> list[dict]:
    """A run's verdicts; ``kind`` chooses how many are right. RefCOCO's answers are boxes."""
    cells = SPECS["table1"].shared.benchmarks
    splits = [split for name, split in SPLITS.items() if cells[name].benchmark == benchmark.name]
    every = list(SPLITS.values())
    boxes = bool(splits)
    rows = []
    for split in splits or [""]:
        start = every.index(split) * QUESTIONS if split else 0
        for place in range(QUESTIONS):
            index = f"{split}_{start + place}" if split else str(place)
            right = place <= kind % QUESTIONS
            score = 0.5 if benchmark.rule == "anls" and place == QUESTIONS - 1 else float(right)
            rows.append({
                "index": index,
                "prediction": "[0, 0, 0.5, 0.5]" if boxes else SCRIPT if place == 1 else "AB"[not right],
                "read": [0.0, 0.0, 24.0, 18.0] if boxes else "A" if right else "B",
                "gold": [0.0, 0.0, 20.0, 18.0] if boxes else ["A", "A"],
                "score": score, "category": "",
            })  # fmt: skip
    return rows


def write_answers(results: Path, recipe: str, seed: int, kind: int, root: str = "") -> None:
    """A run's score files and verdicts."""
    for benchmark in BENCHMARKS:
        rows = verdicts(benchmark, kind)
        place = f"{recipe}/seed{seed}/{benchmark.slug}"
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_text(results / root / "verdicts" / f"{place}.jsonl", lines)
        content = {
            "benchmark": benchmark.name, "score": mean(rows), "interval": [1.5, 98.5], "n": len(rows),
            "rule": benchmark.rule, "judge": "not needed", "failed_extractions": 0.0, "rule_version": 3,
        }  # fmt: skip
        splits = {row["index"].rpartition("_")[0] for row in rows} - {""}
        parts = {s: [row for row in rows if row["index"].startswith(f"{s}_")] for s in sorted(splits)}
        if parts:
            content["splits"] = {
                s: {"score": mean(part), "n": len(part), "interval": [1.5, 98.5]} for s, part in parts.items()
            }
        write_json(results / root / "scores" / f"{place}.json", content, sort_keys=False)


def mean(rows: list[dict]) -> float:
    return 100 * sum(row["score"] for row in rows) / len(rows)


def write_manifests(results: Path, leaves: dict[int, list[str]]) -> list[Path]:
    """Manifests and times of the named runs and of all that they start from."""
    recipes, found = resolve_all(load_config("smoke")), []
    for seed, queue in leaves.items():
        names: dict[str, None] = {}
        while queue:
            recipe = recipes[queue.pop(0)]
            names[recipe.name] = None
            queue += [name for name in (recipe.parent, recipe.encoder_from) if name and name not in names]
        for name in names:
            recipe = recipes[name]
            folder = results / recipe.stage / name / f"seed{seed}"
            write_json(folder / "manifest.json", {
                "recipe": recipe.model_dump(), "recipe_hash": recipe.hash, "seed": seed, "forward": FEATURES,
                "device": "cpu", "versions": {"step": 4, "torch": "2.0", "transformers": "5.0"},
            })  # fmt: skip
            write_json(folder / "timing.json", {"seconds": 61.0, "images_per_second": 2.0})
            found.append(folder / "manifest.json")
    return found


def write_reported(path: Path) -> list[str]:
    """The paper's table with numbers of this test's own; these numbers, as texts."""
    with open("config/reported/results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["value"] = f"{70000 + number}.77"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return [row["value"] for row in rows]


def write_results(results: Path, reported: Path) -> list[Path]:
    """Everything that a report shows; the manifests."""
    scored = [SPECS[name] for name in TABLES if name in SPECS]
    leaves = list(dict.fromkeys(leaf for spec in scored for leaf in required_leaves(spec)))
    for kind, leaf in enumerate(leaves):
        write_answers(results, leaf, 0, kind)
    for recipe in COMPARED:
        write_answers(results, recipe, 1, 2)
    write_answers(results, "sft-granvit", 0, 0, root="chance")
    forward = [run for spec in scored for run in required_forward_runs(spec)]
    manifests = write_manifests(results, {0: leaves + forward, 1: list(COMPARED)})
    write_manifests(results, {0: ["stage2-8m-both"]})  # a figure's own
    tables, scores = results / "tables", results / "scores"
    for spec in scored:
        make_table(
            spec, scores, "smoke", tables / f"{spec.name}.csv", tables / f"{spec.name}.md", reported,
            chance_root=results / "chance/scores",
        )  # fmt: skip
    make_seeds(COMPARED, SEEDS, scores, "smoke", tables / "seeds.csv", tables / "seeds.md")
    header = "data_type,source,images,regions,reported_images,images_difference,scale"
    rows = [
        "Natural,Scenes,24,77,,,smoke",
        "Natural,CC3M,,,70177,,smoke",
        "TOTAL,TOTAL,24,77,70177,,smoke",
    ]
    write_text(tables / "table6.csv", "\n".join([header, *rows]) + "\n")
    write_text(tables / "table6.md", "# Table 6\n")
    text = "table,row,reported,reproduced,difference\ntable1,MMStar,70000.77,12.00,-69988.77\n"
    write_text(tables / "comparison.csv", text)
    for name in ("filter_report", "rejects", "contamination", "annotation_audit"):
        write_text(results / "data" / f"{name}.csv", "source,count\nScenes,3\n")
    for end in (".png", ".pdf"):
        (results / "figures").mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(results / f"figures/figure1a{end}")
    facts = {
        "figure": "figure1a",
        "scale": "smoke",
        "recipes": {"sft-clip": "0a1b", "stage2-8m-both": "2c"},
        "settings": {},
    }
    write_json(results / "figures/figure1a.json", facts | {"reported": {"HMBench": "70000.77"}})
    write_text(results / "timings/finetune_sft/a.tsv", "s\tmax_rss\tcpu_time\n90\t100\t60\n")
    write_text(results / "timings/finetune_sft/b.tsv", "s\tmax_rss\tcpu_time\n30\t200\tNA\n")
    write_text(results / "logs/finetune_sft/sft-clip-3b-seed0.log", "step 1\nerror: config: a <mistake>\n")
    return manifests


def wanted(folder: Path, manifests: list[Path], report: dict | None = None) -> Wanted:
    """What the report of these results is made of; ``report``: settings of its own."""
    settings = {"tables": None, "figures": None, "data": True, "page": 3} | (report or {})
    overrides = {
        "data": {"benchmarks": str(folder / "questions")},
        "report": settings,
        "comparison_seeds": list(SEEDS),
    }
    return Wanted(
        config=load_config("smoke", overrides), results=folder / "results", tables=TABLES,
        figures=["figure1a"], manifests=manifests, phases={"finetune_sft": "finetune"},
        drawn=["figure1a", "figure2"], compared=COMPARED,
        captions={"figure1a": "A radar.", "figure2": "An image.", "figure3": "Two stages."},
        reported_csv=folder / "reported.csv",
    )  # fmt: skip


def make_world(folder: Path) -> Wanted:
    """All results below ``folder``."""
    write_reported(folder / "reported.csv")
    write_questions(folder / "questions")
    return wanted(folder, write_results(folder / "results", folder / "reported.csv"))


def make_site(folder: Path) -> Path:
    """A report of made-up results."""
    make_report(folder / "site", make_world(folder), SPECS)
    return folder / "site"
