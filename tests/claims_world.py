"""A small world of claims: two benchmarks, three recipes at some seeds, and answers of a known quality."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml
from benchmark_world import picture, write_rows

from granvit.config.claims import ClaimsFile, load_claims
from granvit.config.tables import load_tables
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.score import write_score
from granvit.reporting.claims import Source, make_claims

TABLES = load_tables()
BENCHMARKS = [one for one in load_benchmarks() if one.name in ("RefCOCO", "GQA", "OCRBench")]
QUESTIONS = 80
# Of RefCOCO's, right where the hash (0-1) of a question is below; of GQA's and OCRBench's all alike.
SKILL = {"sft-siglip2": 0.4, "sft-sailvit": 0.42, "sft-granvit": 0.8}


def claim(**changes) -> dict:
    """A claim as the file has it: GranViT above SigLIP2 on two splits of RefCOCO."""
    return {
        "statement": "It is better", "where": "Table 1",
        "endpoint": {"table": "table1", "columns": ["RefCOCO_val", "RefCOCO_testA"]},
        "compare": {"of": "sft-granvit", "minus": "sft-siglip2"}, "direction": "higher",
    } | changes  # fmt: skip


def write_claims(path: Path, **claims: dict) -> Path:
    """A claims file; those whose name begins with ``control`` are controls."""
    content = {"seeds": "comparison_seeds", "paper": {}, "controls": {}}
    for name, one in claims.items():
        content["controls" if name.startswith("control") else "paper"][name] = one
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def share(*names: object) -> float:
    """0 to 1 by hash."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, names)).encode()).digest()[:6], "big") / 2**48


def write_world(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Benchmarks in ``folder``/data, scores and verdicts in ``folder``/results; two questions an image."""
    (folder / "data").mkdir()
    row = {"width": 40, "height": 40, "answer": "[0.1, 0.1, 0.5, 0.5]"}
    images = [picture(number) for number in range(QUESTIONS // 2)]
    splits = ("RefCOCO_val", "RefCOCO_testA")
    for one in BENCHMARKS:
        rows = [
            {"index": n, "image": images[n // 2], "question": f"q {n}", "answer": "yes", "category": "kind"}
            | (row | {"split": splits[n % 2]} if one.name == "RefCOCO" else {})
            for n in range(QUESTIONS)
        ]
        write_rows(folder / "data" / one.tsv, rows)
        for recipe, skill in SKILL.items():
            for seed in seeds:
                _answer(folder, one, recipe, seed, skill if one.name == "RefCOCO" else 0.5)
    return folder


def _answer(folder: Path, one, recipe: str, seed: int, skill: float) -> None:
    lines, splits = [], ("RefCOCO_val", "RefCOCO_testA")
    for n in range(QUESTIONS):
        right = 0.5 * share(one.name, n) + 0.5 * share(one.name, n, recipe, seed) < skill
        index = f"{splits[n % 2]}_{n}" if one.name == "RefCOCO" else str(n)
        gold = "[0.1, 0.1, 0.5, 0.5]" if one.name == "RefCOCO" else "yes"
        lines.append(json.dumps({"index": index, "prediction": gold if right else "no"}) + "\n")
    place = f"{recipe}/seed{seed}/{one.slug}"
    said = folder / "results" / "predictions" / f"{place}.jsonl"
    said.parent.mkdir(parents=True, exist_ok=True)
    said.write_text("".join(lines))
    results = folder / "results"
    scores, verdicts = results / "scores" / f"{place}.json", results / "verdicts" / f"{place}.jsonl"
    write_score(said, one, folder / "data", scores, verdicts=verdicts)


def claims_of(path: Path) -> ClaimsFile:
    return load_claims(TABLES, path)


def made_claims(folder: Path, content: ClaimsFile, seeds=(0, 1, 2), **facts) -> tuple[str, str]:
    """The CSV and the Markdown of some claims."""
    given = {"left_out": {}, "stages": {}, "resamples": 2000} | facts
    given["seeds"] = dict.fromkeys(content.claims, seeds)
    source = Source(folder / "results", folder / "data", BENCHMARKS, TABLES, **given)
    out = folder / "claims.csv", folder / "claims.md"
    make_claims(content, source, "mini", *out)
    return out[0].read_text(), out[1].read_text()
