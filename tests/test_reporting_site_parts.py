"""What stands on the report's pages: samples of answers, pictures, times, what is missing, and colours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from html_pages import read
from report_world import picture

from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks
from granvit.evaluation.tsv_files import Question
from granvit.files import copy_folder
from granvit.reporting.claims import COLUMNS
from granvit.reporting.site.answers import Asked, Cell, differing_first
from granvit.reporting.site.claims import write_claims
from granvit.reporting.site.galleries import beside
from granvit.reporting.site.images import write_images
from granvit.reporting.site.places import Answered
from granvit.reporting.site.record import clock, missing_tables, timings
from granvit.reporting.site.tables import labelled
from granvit.reporting.site.writing import Site


def test_a_run_without_the_wished_one_stands_beside_the_last_other():
    one, two, chance = Answered("a", 0), Answered("b", 0), Answered("a", 0, chance=True)
    assert beside(one, [one, two, chance, Answered("c", 1)], ["c", "a"]) == two
    assert beside(one, [one], ["a"]) is None


def test_a_sample_is_the_same_for_every_run_and_keeps_groups_whole(tmp_path):
    benchmark = find_benchmark(load_benchmarks(), "MMVP")
    questions = [Question(str(n), {"question": "?"}, ()) for n in range(40)]
    asked = Asked(benchmark, questions, {"MMVP": None}, limit=7)
    cells = []
    for right in (3, 20):
        path = tmp_path / f"{right}.jsonl"
        lines = ({"index": str(n), "score": float(n < right), "read": "A"} for n in range(40))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        cells.append(asked.cells(path)["MMVP"])
    assert [cell.counts["right"] for cell in cells] == [3, 20] and [cell.n for cell in cells] == [40, 40]
    assert list(cells[0].shown) == list(cells[1].shown) and len(cells[0].shown) == 8
    pairs = {int(index) // 2 for index in cells[0].shown}
    assert {int(index) for index in cells[0].shown} == {n for pair in pairs for n in (2 * pair, 2 * pair + 1)}
    assert [cell.groups for cell in cells] == [(20, 1), (20, 10)]


def test_wrong_answers_that_the_other_run_has_right_come_first():
    mine = Cell(shown={str(n): {"score": 0.0} for n in range(4)} | {"9": {"score": 1.0}})
    other = Cell(shown={str(n): {"score": float(n == 2)} for n in range(4)})
    assert differing_first(mine, other, "wrong") == ["2", "0", "1", "3"]
    assert differing_first(mine, None, "wrong") == ["0", "1", "2", "3"]


def test_an_image_is_small_and_one_that_cannot_be_read_is_named(tmp_path):
    broken = "QUJD" * 30
    text = f"index\tquestion\timage\n0\ta\t{picture(0)}\n1\tb\t{broken}\n"
    (tmp_path / "b.tsv").write_text(text)
    said = []

    class Everything:
        def __contains__(self, digest):
            return True

    found = dict(write_images(tmp_path / "b.tsv", Everything(), tmp_path / "site", 300, said.append))
    (shown_one,) = found.values()
    assert (shown_one.width, shown_one.height, shown_one.full) == (300, 200, (900, 600))
    assert len(said) == 1 and "is not shown: not_an_image" in said[0]


def test_a_table_that_is_left_out_says_which_runs_lack_scores_and_their_last_error(tmp_path):
    (tmp_path / "scores/a/seed0").mkdir(parents=True)
    log = tmp_path / "logs/finetune_sft/b-seed0.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: first\nstep 3\nerror: disk: no space is left\n")
    needed = {"table2": ["a", "b"], "table3": ["a"], "table4": ["c"]}
    two, three = missing_tables(needed, ["table4"], tmp_path, seed=0)
    assert (
        two["runs"] == [{"name": "b", "error": "disk: no space is left"}]
        and "1 of the 2 runs" in two["reason"]
    )
    assert three["runs"] == [] and "all that it needs has been made" in three["reason"]


def test_times_are_summed_by_rule_in_the_order_of_the_phases(tmp_path):
    for rule, seconds in (("b_rule", (1, 2)), ("a_rule", (5,)), ("unknown", (7,))):
        for number, value in enumerate(seconds):
            file = tmp_path / rule / "deep" / f"{number}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"s\tmax_rss\tcpu_time\n{value}\t-\t{value}\n")
    found = timings(tmp_path, {"b_rule": "data", "a_rule": "train"})
    assert [(t.phase, t.rule, t.jobs, t.seconds, t.longest, t.memory) for t in found] == [
        ("data", "b_rule", 2, 3.0, 2.0, 0.0), ("train", "a_rule", 1, 5.0, 5.0, 0.0),
        ("other", "unknown", 1, 7.0, 7.0, 0.0),
    ]  # fmt: skip
    assert [clock(seconds) for seconds in (3.14, 59.6, 3723.4)] == ["3.1 s", "1:00", "1:02:03"]


def test_heads_of_rows_are_joined_where_there_are_two_columns():
    assert [[label.rows for label in head] for head in labelled([["a", "x"], ["a", "y"], ["b", "y"]])] == [
        [2, 1], [0, 1], [1, 1],
    ]  # fmt: skip
    assert [label.rows for head in labelled([["✓", "✓", "✗"]] * 2) for label in head] == [1] * 6


def test_a_folder_is_copied_whole(tmp_path):
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/deep/file").write_text("text")
    copy_folder(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/deep/file").read_text() == "text"
    with pytest.raises(OSError):
        copy_folder(tmp_path / "missing", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_text_stands_out_from_the_ground_that_it_stands_on():
    style = Path("granvit/reporting/site/style.css").read_text()
    colours = dict(re.findall(r"--(\w+): #(\w{6});", style))
    assert {"ink", "grey", "link", "right", "partly", "wrong", "paper", "pale"} <= colours.keys()

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for name in ("ink", "grey", "link", "right", "partly", "wrong"):
        for ground in ("paper", "pale"):
            contrast = (luminance(colours[ground]) + 0.05) / (luminance(colours[name]) + 0.05)
            assert contrast >= 4.5, (name, ground, contrast)


def test_a_claims_page_has_every_verdict_and_leads_to_the_runs_that_the_report_has(tmp_path):
    claim = dict.fromkeys(COLUMNS, "") | {"seeds": "3 4", "reproduced": 2.5, "low": 1.0, "high": 4.0}
    gain = claim | {"family": "paper", "id": "gain", "claim": "A <b> is above B", "verdict": "holds",
                    "endpoint": "OCR (table1)", "compared": "sft-a - sft-b", "direction": "higher",
                    "note": "two seeds"}  # fmt: skip
    other = claim | {"family": "controls", "id": "as-good", "claim": "A is as good as B", "margin": 1.0,
                     "verdict": "not made", "compared": "sft-b", "direction": "same", "seeds": 3}  # fmt: skip
    tables = tmp_path / "results/tables"
    tables.mkdir(parents=True)
    pd.DataFrame([gain, other]).to_csv(tables / "claims.csv", index=False)
    (tables / "claims.md").write_text("# Claims\n")
    site = Site(tmp_path / "site")
    said = write_claims(site, tmp_path / "results", {"sft-a": "runs/a.html"}.get)
    assert said["href"] == "tables/claims.html" and said["rows"] == 2
    page = read(tmp_path / "site/tables/claims.html")
    assert [link for link in page.links if "runs" in link] == ["../runs/a.html"]
    assert {"gain", "as-good"} <= {*page.ids} and {"claims.csv", "claims.md"} <= {*page.links}
    for text in ("A <b> is above B", "holds", "+2.50", "+1.00 to +4.00", "claimed: higher. two seeds",
                 "OCR (table1)", "not made", "claimed: same, margin 1", "1 claims: 1 hold."):  # fmt: skip
        assert text in page.text, text
