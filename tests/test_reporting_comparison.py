"""comparison.csv: every cell with the paper's number, the reproduced one and its interval."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from test_reporting_tables import SPECS, reported, results, table, write_scores  # noqa: F401

from granvit.config.tables import required_forward_runs
from granvit.errors import GranvitError
from granvit.reporting.comparison import COLUMNS, compare_table, join_comparisons, number, row_name
from granvit.reporting.scores import Scores


def compared(results, name):  # noqa: F811
    out = results / "tables" / "comparison" / f"{name}.csv"
    chance = results / "chance" / "scores"
    compare_table(SPECS[name], results / "scores", results, chance, "mini", 0, out)
    return pd.read_csv(out, dtype={"seeds": str})


def cell(cells, row, column):
    (found,) = cells[(cells["row"] == row) & (cells["column"] == column)].to_dict("records")
    return found


@pytest.fixture
def world(results):  # noqa: F811
    write_scores(results / "chance" / "scores", "sft-granvit", lambda name: 12.34)
    for run in required_forward_runs(SPECS["table9"]):
        path = results / "stage2" / run / "seed0" / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"forward": {"flops": 3.25e12, "macs": 1.62e12}}))
    return results


def test_every_cell_of_a_table_stands_there_as_the_table_has_it(world):
    cells = compared(world, "table1")
    assert list(cells) == COLUMNS and not cells.duplicated(["row", "column"]).any()
    printed = pd.read_csv(world / "tables" / "table1.csv") if table(world, "table1") else None
    models = list(SPECS["table1"].layout.models)
    assert len(cells) == len(printed) * (len(models) + 1)  # and the chance column
    for row in printed.to_dict("records"):
        average = row["benchmark"] == "Average"
        name = f"{row['capability']} Average" if average else row["benchmark"]
        for model in models:
            assert cell(cells, name, model)["reproduced"] == row[model]
    paper = cell(cells, "RefCOCO_testA", "GranViT")
    assert paper["reported"] == 91.79 == reported("GranViT")["Fine-Grained", "RefCOCO_testA"]
    assert paper["difference"] == round(paper["reproduced"] - 91.79, 2)
    assert (paper["n"], paper["seeds"], paper["scale"], paper["recipe"]) == (3, "0", "mini", "sft-granvit")
    chance = cell(cells, "GQA", "chance")
    assert (
        chance["reproduced"] == 12.34 and math.isnan(chance["reported"]) and math.isnan(chance["difference"])
    )


def test_every_table_of_runs_has_a_line_for_each_cell_and_the_papers_number(world):
    for name, spec in SPECS.items():
        if spec.layout.layout == "runs":
            cells = compared(world, name)
            assert len(cells) == len(spec.layout.rows) * len(spec.layout.columns)
            assert cells["reproduced"].notna().all(), name
            found = cells[["reported", "difference"]]
            assert (found.notna() if spec.layout.paper else found.isna()).all().all(), name
    flops = cell(cells=compared(world, "table9"), row="Frozen", column="FLOPs")
    assert flops["reproduced"] == 3.25e12 and flops["recipe"] == "stage2-8m" and math.isnan(flops["low"])
    assert row_name({"LLM": "Qwen2.5-3B", "Model": "CLIP"}) == "LLM: Qwen2.5-3B; Model: CLIP"
    assert [number(text) for text in ("91.79", "3.24T", "-", "")] == [91.79, 3.24e12, None, None]


def test_interval_of_a_mean_adds_within_a_file_and_propagates_between_files(world):
    scores = Scores(world / "scores", 0, SPECS["table1"].shared)

    def change(benchmark, low, high, split=None):
        content = scores.file("sft-clip", benchmark)
        part = content["splits"][split] if split else content
        part["interval"] = [part["score"] - low, part["score"] + high]

    change("RefCOCO", 3.0, 6.0, "RefCOCO_testA")
    change("RefCOCO+", 1.0, 2.0, "RefCOCO+_testA")
    change("OCRBench", 30.0, 60.0)  # out of 1000
    one = scores.cell("sft-clip", "OCRBench")
    assert scores.interval("sft-clip", ["OCRBench"]) == pytest.approx((one - 30, one + 60))
    names = ["RefCOCO_testA", "RefCOCO+_testA", "OCRBench"]  # (3 + 1) and 3: 5; (6 + 2) and 6: 10
    low, high = scores.interval("sft-clip", names)
    assert low == pytest.approx(scores.mean("sft-clip", names) - 5 / 3, abs=0.006)
    assert high == pytest.approx(scores.mean("sft-clip", names) + 10 / 3, abs=0.006)


def test_a_score_file_without_intervals_names_the_command(world):
    path = world / "scores" / "sft-clip" / "seed0" / "GQA.json"
    content = json.loads(path.read_text())
    del content["interval"]
    path.write_text(json.dumps(content))
    with pytest.raises(GranvitError, match=r"GQA\.json: no interval of GQA; score it again with `snakemake"):
        compared(world, "table1")


def test_all_tables_are_joined_in_their_order_with_tables_6_and_7(world, tmp_path):
    compared(world, "table1")
    compared(world, "table8")
    counts = tmp_path / "table6.csv"
    counts.write_text(
        "data_type,source,images,regions,reported_images,reported_regions,images_difference,"
        "regions_difference,scale\nNatural,CC3M,,,10,20,,,mini\nNatural,Own,4,9,,,,,mini\n"
        "OCR,Both,3,8,2,10,1,-2,mini\nTOTAL,TOTAL,7,17,12,30,,,mini\n"
    )
    parts = [world / "tables" / "comparison" / f"{name}.csv" for name in ("table1", "table8")]
    out = tmp_path / "comparison.csv"
    join_comparisons(parts, [counts], out)
    joined = pd.read_csv(out)
    assert list(joined["table"].drop_duplicates()) == ["table1", "table6", "table8"]
    both = joined[joined["table"] == "table6"].set_index(["row", "column"])
    assert both.loc[("OCR Both", "regions"), ["reported", "reproduced", "difference"]].tolist() == [10, 8, -2]
    assert math.isnan(both.loc[("Natural Own", "images"), "reported"])
    assert math.isnan(both.loc[("Natural CC3M", "images"), "reproduced"])
    first = pd.read_csv(parts[0], dtype=str)  # not a digit is changed on the way
    again = pd.read_csv(out, dtype=str)
    pd.testing.assert_frame_equal(again[again["table"] == "table1"].reset_index(drop=True), first)
    with pytest.raises(GranvitError, match="table9.csv: no such file"):
        join_comparisons([tmp_path / "table9.csv"], [], out)
