"""The twenty benchmarks in VLMEvalKit's format, a few rows each, and answers of every kind to them."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from pathlib import Path

from PIL import Image

from granvit.evaluation.benchmarks import Benchmark, load_benchmarks, read_questions
from granvit.evaluation.rules import golds

ROOT = Path(__file__).resolve().parent.parent
ROWS = 8
ANIMALS = ("a cat", "two dogs", "ein Vögel", "none of these", "fish")
REFCOCO_SPLITS = (
    "RefCOCO_val", "RefCOCO_testA", "RefCOCO_testB", "RefCOCO+_val", "RefCOCO+_testA", "RefCOCO+_testB",
    "RefCOCOg_val", "RefCOCOg_test",
)  # fmt: skip
OCR_KINDS = (
    "Regular Text Recognition",
    "Doc-oriented VQA",
    "Handwritten Mathematical Expression Recognition",
    "Key Information Extraction",
)


def picture(shade: int) -> str:
    """A small PNG as base64, longer than any reference to another row."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (shade % 256, 3 * shade % 256, 90)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A TSV with quotes where they are needed."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_data(folder: Path) -> Path:
    """All data sets that config/benchmarks.tsv names."""
    folder.mkdir(parents=True, exist_ok=True)
    for tsv in {benchmark.tsv for benchmark in load_benchmarks(ROOT / "config" / "benchmarks.tsv")}:
        write_rows(folder / tsv, _ROWS.get(tsv, _choices)())
    return folder


def make_answers(folder: Path, data: Path, salt: str, benchmarks: list[Benchmark] | None = None) -> Path:
    """One model's answers: right, wrong, wordy, empty or beside the point, by a hash of ``salt``."""
    folder.mkdir(parents=True, exist_ok=True)
    for benchmark in benchmarks or load_benchmarks(ROOT / "config" / "benchmarks.tsv"):
        lines = []
        for question in read_questions(benchmark, data):
            kind = hashlib.sha256(f"{salt} {benchmark.slug} {question.index}".encode()).digest()[0] % 8
            is_box = benchmark.rule == "refcoco_iou50"
            gold = question.cells["answer"] if is_box else golds(question)[0]
            said = [gold, gold, gold, f"I think: {gold}.", "B", "Yes", "", "no idea – 不知道"][kind]
            lines.append(json.dumps({"index": question.index, "prediction": said}, ensure_ascii=False))
        (folder / f"{benchmark.slug}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _choices(rows: int = ROWS, **more: object) -> list[dict]:
    return [
        {
            "index": i, "image": picture(i) if i % 3 < 2 else str(i - 1), "question": f"What is it ({i})?",
            **{letter: f"{name} {i}" for letter, name in zip("ABCD", ANIMALS, strict=False)},
            "answer": "ABCD"[i % 4], "category": f"kind {i % 2}", **more,
        }
        for i in range(rows)
    ]  # fmt: skip


def _texts(answers: tuple[str, ...], **more: object) -> list[dict]:
    return [
        {"index": i, "image": picture(i), "question": f"What is it, ünd wo ({i})?",
         "answer": answers[i % len(answers)], **more}
        for i in range(ROWS)
    ]  # fmt: skip


def _refcoco() -> list[dict]:
    return [
        {"index": i, "image": picture(i // 2), "question": f"Where is thing {i}?",
         "answer": f"[0.0{i % 9}, 0.1, 0.5, 0.9]", "width": 200, "height": 100, "split": split}
        for i, split in enumerate(REFCOCO_SPLITS * 2)
    ]  # fmt: skip


def _blink() -> list[dict]:
    rows = _choices(2 * ROWS)
    kinds = ("Counting", "Object_Localization", "Spatial_Relation", "Jigsaw")
    for i, row in enumerate(rows):
        row["category"] = kinds[i % 4]
        row["image"] = str([picture(i), picture(i + 50)]) if i % 3 < 2 else row["image"]
    return rows


def _mmvp() -> list[dict]:
    return [
        {"index": i, "image": picture(i), "question": f"Open or shut (pair {i // 2})?", "A": f"open {i // 2}",
         "B": f"shut {i // 2}", "answer": "AB"[i % 2]}
        for i in range(ROWS)
    ]  # fmt: skip


def _mmbench() -> list[dict]:
    rows = _choices(4, **{"l2-category": "attribute_reasoning", "split": "dev"})
    rolled = [
        {**row, "index": row["index"] + 1_000_000, "image": str(row["index"]), "A": row["D"], "D": row["A"],
         "answer": {"A": "D", "D": "A"}.get(row["answer"], row["answer"])}
        for row in rows
    ]  # fmt: skip
    for row in rolled:
        row["image"] = picture(row["index"])
    return rows + rolled


def _hallusion() -> list[dict]:
    rows = []
    for number in range(12):
        name = f"{number}_VD_chart_{number // 4}_{number // 2 % 2}_{number % 2}"
        rows.append({
            "index": name, "image": picture(number), "question": "Is it higher? Answer Yes or No.",
            "answer": ("Yes", "No")[number % 3 > 0], "category": "VD", "l2-category": "chart",
        })  # fmt: skip
    return rows


def _mmmu() -> list[dict]:
    rows = _choices(ROWS, split="validation")
    for row in rows:
        row["image"] = picture(row["index"])
    rows[1] |= {"image": str([picture(1), picture(61)]), "question": "<image 1> or <image 2>, which?"}
    rows[2] |= dict.fromkeys("ABCD", "") | {"answer": "42"}
    rows += [row | {"index": 100 + row["index"], "split": "dev"} for row in rows[:2]]
    return rows


def _mathvista() -> list[dict]:
    kinds = [
        ("free_form", "integer", "7"),
        ("free_form", "float", "0.75"),
        ("multi_choice", "text", "two dogs"),
    ]
    rows = []
    for i in range(ROWS):
        question_type, answer_type, answer = kinds[i % 3]
        chosen = question_type == "multi_choice"
        rows.append({
            "index": i, "image": picture(i), "question": f"Hint: answer.\nQuestion: how many ({i})?",
            "answer": answer, "question_type": question_type, "answer_type": answer_type,
            "choices": str(list(ANIMALS)) if chosen else "", "answer_option": "B" if chosen else "",
            "task": "figure question answering", "skills": "['statistical']",
        })  # fmt: skip
    return rows


def _ocrbench() -> list[dict]:
    rows = _texts(("['Café 12']", "['x ^ 2', 'x^2']", "['A']"))
    return [row | {"category": OCR_KINDS[i % 4]} for i, row in enumerate(rows)]


def _chartqa() -> list[dict]:
    rows = _texts(("14", "0", "35%", "blue"))
    return [row | {"split": ("test_human", "test_augmented")[i % 2]} for i, row in enumerate(rows)]


_ROWS = {
    "RefCOCO.tsv": _refcoco,
    "BLINK.tsv": _blink,
    "MMVP.tsv": _mmvp,
    "MMBench_DEV_EN.tsv": _mmbench,
    "HallusionBench.tsv": _hallusion,
    "GQA_TestDev_Balanced.tsv": lambda: _texts(("yes", "left", "brown")),
    "MMMU_DEV_VAL.tsv": _mmmu,
    "MathVista_MINI.tsv": _mathvista,
    "MMVet.tsv": lambda: _texts(("four<AND>Rot", "-1<OR>minus one"), category="rec,ocr"),
    "OCRBench.tsv": _ocrbench,
    "DocVQA_VAL.tsv": lambda: _texts(("['Straße 5', 'Strasse 5']", "['1999']")),
    "ChartQA_TEST.tsv": _chartqa,
    "InfoVQA_VAL.tsv": lambda: _texts(("['12 %']", "['a long answer']")),
    "TextVQA_VAL.tsv": lambda: _texts((str(["stop"] * 6 + ["halt"] * 4), str(["don't"] * 10))),
}
