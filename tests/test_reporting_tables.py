"""Tables, the radar and the comparison over seeds, from score files."""

from __future__ import annotations

import csv
import json

import pytest

from granvit.config.tables import (
    load_tables,
    required_benchmarks,
    required_forward_runs,
    required_leaves,
)
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.reporting.markdown import ranked
from granvit.reporting.seeds import make_seeds
from granvit.reporting.tables import engineering, make_table

SPECS = load_tables()
HEADER = "capability,benchmark,CLIP,SigLIP,SigLIP2,AIMv2,InternViT,SAILViT,GranViT,scale"


def reported(model):
    """The paper's own Table 1 column, by benchmark."""
    with open("config/reported/results.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "1" and row["model"] == model]
    return {(row["group"], row["benchmark"]): float(row["value"]) for row in rows}


def write_scores(root, recipe, value, seed=0):
    """Score files of a recipe; ``value(printed name)`` gives each cell."""
    cells = SPECS["table1"].shared.benchmarks
    for benchmark in load_benchmarks():
        names = [name for name, cell in cells.items() if cell.benchmark == benchmark.name]
        content = {"benchmark": benchmark.name, "score": value(names[0]), "n": 9, "rule": benchmark.rule,
                   "judge": "none (rule-based)", "failed_extractions": 0.25,
                   "interval": [value(names[0]) - 2, value(names[0]) + 3]}  # fmt: skip
        if cells[names[0]].split:
            content["splits"] = {
                cells[name].split: {
                    "score": value(name),
                    "n": 3,
                    "interval": [value(name) - 2, value(name) + 3],
                }
                for name in names
            }
        path = root / recipe / f"seed{seed}" / f"{benchmark.slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path):
    """A results folder in which every leaf scores what the paper reports for SigLip2, plus something of its
    own.
    """
    values = {name: value for (_, name), value in reported("SigLip2").items()}
    leaves = sorted({leaf for spec in SPECS.values() for leaf in required_leaves(spec)})
    for i, leaf in enumerate(leaves):
        write_scores(
            tmp_path / "mini" / "scores",
            leaf,
            lambda name, i=i: values[name] + i / 10,
        )
    return tmp_path / "mini"


def table(results, name, **options):
    out = results / "tables"
    make_table(SPECS[name], results / "scores", "mini", out / f"{name}.csv", out / f"{name}.md", **options)
    return (out / f"{name}.csv").read_text(), (out / f"{name}.md").read_text()


def test_table_1_has_the_papers_rows_columns_and_capabilities(results):
    lines = table(results, "table1")[0].splitlines()
    assert lines[0] == HEADER
    rows = [line.split(",")[:2] for line in lines[1:]]
    assert [tuple(row) for row in rows] == list(reported("CLIP"))
    assert all(line.endswith(",mini") for line in lines[1:])


def test_averages_are_recomputed_from_the_printed_cells_with_ocrbench_over_ten(results):
    rows = list(csv.DictReader(table(results, "table1")[0].splitlines()))
    cells = {row["benchmark"]: float(row["CLIP"]) for row in rows if row["capability"] == "OCR"}
    members = ["DocVQA", "ChartQA", "InfoVQA", "TextVQA"]
    assert cells["Average"] == pytest.approx(
        (cells["OCRBench"] / 10 + sum(cells[m] for m in members)) / 5, abs=0.006
    )


def test_fine_grained_of_the_ablations_is_the_mean_of_five(results):
    write_scores(results / "scores", "sft-siglip2", lambda name: reported_by_name()[name])
    rows = list(csv.DictReader(table(results, "table3")[0].splitlines()))
    assert [rows[0][column] for column in ("Fine-Grained", "VQA", "Reasoning", "OCR")] == [
        "73.20",
        "52.97",
        "51.09",
        "51.55",
    ]


def reported_by_name():
    return {name: value for (_, name), value in reported("SigLip2").items()}


def test_markdown_names_the_scale_and_shows_the_papers_numbers_as_reported(results):
    text = table(results, "table1")[1]
    assert "Scale: **mini**" in text
    assert "SigLIP2 (mini)" in text and "SigLIP2 (reported)" in text and "SigLip" not in text
    assert "*reported*" in text and "91.79" in text
    assert "none (rule-based)" in text and "25.0" in text


def test_the_chance_row_stands_beside_table_1(results):
    write_scores(results / "chance" / "scores", "sft-granvit", lambda name: 12.34)
    csv_text, text = table(results, "table1", chance_root=results / "chance" / "scores")
    assert "| chance |" in text and "12.34" in text and "images shuffled" in text
    assert csv_text.splitlines()[0] == HEADER


def test_every_table_of_the_paper_can_be_made(results):
    for run in required_forward_runs(SPECS["table9"]):
        path = results / "stage2" / run / "seed0" / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"forward": {"flops": 3.24e12, "macs": 1.62e12}}))
    for name in (name for name, spec in SPECS.items() if spec.layout.paper):
        csv_text, text = table(results, name)
        assert csv_text.splitlines()[0].endswith(",scale")
        numbers = text.split("*reported*")[1].split("## How")[0]
        assert "| - |" not in numbers, f"{name}: a number of the paper was not found"
    assert "3.24T,1.62T" in table(results, "table9")[0]


def test_a_table_beyond_the_paper_reports_nothing_and_says_so(results):
    csv_text, text = table(results, "controls")
    assert csv_text.splitlines()[0] == "Run,Changed,Fine-Grained,VQA,Reasoning,OCR,scale"
    assert "nothing of it is *reported*" in text and "(reported)" not in text and "## The paper" not in text
    rows = {line.split(",")[0] for line in csv_text.splitlines()[1:]}
    assert {"SigLIP2", "GranViT", "captions only", "shuffled boxes", "contrastive"} < rows and len(rows) == 11
    assert [name for name, spec in SPECS.items() if not spec.layout.paper] == ["encoders", "controls"]
    assert "paper" not in SPECS["table3"].settings  # which is why no table of the paper is made again


def test_a_missing_score_file_names_the_file_and_the_command(results):
    (results / "scores" / "sft-clip" / "seed0" / "GQA.json").unlink()
    with pytest.raises(GranvitError, match=r"sft-clip/seed0/GQA\.json: no such file.*snakemake"):
        table(results, "table1")
    assert not (results / "tables" / "table1.csv").exists()


def test_equal_scores_give_equal_bytes(results):
    assert table(results, "table2") == table(results, "table2")


def test_best_is_bold_second_is_underlined_and_ties_share():
    assert ranked([1.0, 3.0, 2.0, 3.0], ["1", "3", "2", "3"]) == ["1", "**3**", "<u>2</u>", "**3**"]
    assert ranked([1.0, 1.0], ["1", "1"]) == ["1", "1"]


def test_cells_within_the_interval_of_the_best_share_its_mark_and_so_do_those_of_the_second_best():
    texts = ["50", "49", "40", "39", "20"]
    lows = [48.0, 45.0, 38.5, 39.0, 19.0]
    marks = ["**50**", "**49**", "<u>40</u>", "<u>39</u>", "20"]
    assert ranked([float(text) for text in texts], texts, lows) == marks
    assert ranked([50.0, 49.0], ["50", "49"], [48.0, 48.0]) == ["50", "49"]  # nothing is told apart
    assert ranked([50.0, 49.0, 48.0], ["50", "49", "48"], [47.0] * 3) == ["50", "49", "48"]
    assert ranked([50.0, 40.0], ["50", "40"], [45.0, 35.0]) == ["**50**", "40"]


def test_table_marks_only_what_its_intervals_tell_apart(results):
    write_scores(results / "scores", "sft-granvit", lambda name: 99.0)  # by up to 2 below, 3 above
    write_scores(results / "scores", "sft-sailvit", lambda name: 97.5)
    _, text = table(results, "table1")
    row = next(line for line in text.splitlines() if line.startswith("| OCR | ChartQA |"))
    assert row.endswith("| **97.50** | **99.00** |") and "<u>" in row
    write_scores(results / "scores", "sft-sailvit", lambda name: 96.5)
    row = next(line for line in table(results, "table1")[1].splitlines() if "ChartQA" in line)
    assert row.endswith("| <u>96.50</u> | **99.00** |")
    assert "within the 95 % interval" in text


def test_leaves_and_benchmarks_of_a_table_are_known_without_results():
    assert (
        required_leaves(SPECS["table1"])[-1] == "sft-granvit" and len(required_leaves(SPECS["table1"])) == 7
    )
    assert required_forward_runs(SPECS["table9"]) == ["stage2-8m", "stage2-8m-tuned"]
    assert len(required_benchmarks(SPECS["table1"])) == 20 and "GQA" not in required_benchmarks(
        SPECS["table2"]
    )


def test_a_wrong_key_in_tables_yaml_is_named(tmp_path):
    path = tmp_path / "tables.yaml"
    with open("config/tables.yaml", encoding="utf-8") as file:
        path.write_text(file.read().replace("rank_within: LLM", "rank_withn: LLM"))
    with pytest.raises(GranvitError, match="tables.table2.rank_withn"):
        load_tables(path)


def test_operation_counts_are_printed_as_the_paper_prints_them():
    assert [engineering(v) for v in (3.24e12, 1.5e9, 2.5e6, 10)] == ["3.24T", "1.50G", "2.50M", "10"]


def test_seeds_give_mean_and_standard_deviation(tmp_path):
    for seed, score in enumerate((10.0, 12.0, 14.0)):
        for recipe, gain in (("sft-siglip2", 0), ("sft-granvit", 1)):
            write_scores(tmp_path / "scores", recipe, lambda name, value=score + gain: value, seed)
    out = tmp_path / "seeds.csv"
    make_seeds(
        ["sft-siglip2", "sft-granvit"], [0, 1, 2], tmp_path / "scores", "mini", out, tmp_path / "seeds.md"
    )
    row = next(row for row in csv.DictReader(out.read_text().splitlines()) if row["benchmark"] == "GQA")
    assert (row["SigLIP2 mean"], row["SigLIP2 sd"], row["difference"]) == ("12.00", "2.00", "1.00")
    assert "12.00 ± 2.00" in (tmp_path / "seeds.md").read_text()
