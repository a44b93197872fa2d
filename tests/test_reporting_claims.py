"""Claims: verdicts on results whose truth is known, the paper's own effects, and what is said of mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from claims_world import BENCHMARKS, TABLES, claim, claims_of, made_claims, write_claims, write_world

from granvit.config.claims import Endpoint, load_claims, require_recipes
from granvit.config.loading import load_config
from granvit.errors import GranvitError
from granvit.evaluation.resampling import resampled
from granvit.graph.claims import claim_facts, needed
from granvit.graph.scale import Scale
from granvit.reporting import claim_data
from granvit.reporting.claim_reported import Printed
from granvit.reporting.claim_tests import Result, holm, measure, verdict

STAGES = {"stage1-8m-both": "stage1", "stage2-8m-both": "stage2"}
REPORTED = Printed(Path("config/reported"), TABLES, STAGES)
GQA = {"rows": ["GQA"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def rows(text):
    return {row["id"]: row for row in csv.DictReader(text.splitlines())}


def test_effect_that_is_there_holds_absent_is_undecided_reversed_fails(world, tmp_path):
    back = {"of": "sft-siglip2", "minus": "sft-granvit"}
    content = claims_of(write_claims(
        tmp_path / "c.yaml", there=claim(), absent=claim(endpoint=GQA), reversed=claim(compare=back),
        lower=claim(compare=back, direction="lower"),
        best=claim(compare={"best": "sft-granvit", "among": ["sft-siglip2", "sft-sailvit"]}),
        trend=claim(compare={"trend": ["sft-siglip2", "sft-sailvit", "sft-granvit"]}),
        same=claim(endpoint=GQA, direction="same", margin=30.0),
        other=claim(direction="same", margin=1.0), unsure=claim(endpoint=GQA, direction="same", margin=0.1),
        not_higher=claim(direction="not higher", margin=1.0),
    ))  # fmt: skip
    text, page = made_claims(world, content)
    found = {key: row["verdict"] for key, row in rows(text).items()}
    assert found == {
        "there": "holds", "absent": "undecided", "reversed": "fails", "lower": "holds", "best": "holds",
        "trend": "holds", "same": "holds", "other": "fails", "unsure": "undecided", "not_higher": "fails",
    }  # fmt: skip
    there = rows(text)["there"]
    assert float(there["low"]) < float(there["reproduced"]) < float(there["high"])
    assert float(there["reported"]) == pytest.approx((89.13 + 91.79 - 83.26 - 87.78) / 2)
    assert (there["seeds"], there["n"], there["scale"]) == ("0 1 2", "80", "mini")
    assert "10 claims: 5 hold, 3 fail, 2 undecided." in page and "Scale: **mini**" in page
    assert made_claims(world, content) == (text, page)


def test_effect_is_the_difference_of_the_score_files_means(world, tmp_path):
    content = claims_of(
        write_claims(tmp_path / "c.yaml", ocr=claim(endpoint={"table": "table1", "columns": ["OCRBench"]}))
    )
    scores = {
        recipe: [
            json.loads((world / f"results/scores/{recipe}/seed{seed}/OCRBench.json").read_text())["score"]
            for seed in (0, 1, 2)
        ]
        for recipe in ("sft-granvit", "sft-siglip2")
    }
    found = rows(made_claims(world, content)[0])["ocr"]
    expected = np.mean(scores["sft-granvit"]) - np.mean(scores["sft-siglip2"])
    assert float(found["reproduced"]) == pytest.approx(expected, abs=1e-3)  # out of 1000, as it is printed
    assert float(found["reported"]) == 551 - 515


def test_ocrbench_enters_a_mean_as_a_tenth_and_splits_of_one_file_are_drawn_together(world, monkeypatch):
    seen = []
    monkeypatch.setattr(
        claim_data, "resampled", lambda members, n: seen.extend(members) or resampled(members, n)
    )
    answers = claim_data.Answers(
        world / "results", world / "data", BENCHMARKS, TABLES, ["sft-granvit", "sft-siglip2"], [0], 10
    )
    answers.measure(Endpoint(rows=["OCRBench", "RefCOCO_val", "RefCOCO_testA", "GQA"]))
    files = ["OCRBench.tsv", "RefCOCO.tsv", "RefCOCO.tsv", "GQA_TestDev_Balanced.tsv"]
    assert [(member.file, member.weight) for member in seen] == [(file, 25.0) for file in files]


def test_one_seed_says_that_its_interval_is_over_questions_only(world, tmp_path):
    content = claims_of(write_claims(tmp_path / "c.yaml", one=claim()))
    found = rows(made_claims(world, content, seeds=(1,))[0])["one"]
    assert found["note"] == "one seed: the interval is over questions only"
    assert (found["seeds"], found["verdict"]) == ("1", "holds")


def test_claim_that_cannot_be_made_is_listed_with_its_reason_and_counts_in_the_correction(world, tmp_path):
    locality = claim(endpoint={"attention": "attention", "data_type": "ocr"})
    boxes = pd.DataFrame({"key": ["a", "b"], "data_type": "natural", "box": [[0.0], [1.0]], "attention": 1.0})
    for recipe in ("sft-granvit", "sft-siglip2"):
        file = world / "results/locality" / recipe / "seed0.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        boxes.to_parquet(file)
    absent = claim(endpoint={"table": "table1", "columns": ["RefCOCO_testB"]})
    content = claims_of(write_claims(
        tmp_path / "c.yaml", made=claim(), left=claim(), split=absent, locality=locality, control=claim(),
    ))  # fmt: skip
    text, page = made_claims(world, content, seeds=(0,), left_out={"left": "not asked for"})
    found = rows(text)
    assert [found[key]["verdict"] for key in ("left", "split", "locality")] == ["not made"] * 3
    assert found["left"]["note"] == "not asked for"
    assert "RefCOCO.tsv has no split RefCOCO_testB" in found["split"]["note"]
    assert "no box of data type 'ocr'" in found["locality"]["note"]
    p = float(found["made"]["p"])
    assert float(found["made"]["p_holm"]) == pytest.approx(4 * p, abs=1e-3)
    assert found["control"]["p_holm"] == found["control"]["p"]  # a family of its own
    assert "4 claims: 1 hold, 3 not made." in page and "## Controls" in page


def write_log(world, stage, recipe, seed, rouge, accuracy):
    file = world / "results" / stage / recipe / f"seed{seed}" / "training_log.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"step,heldout_rouge_l,heldout_acc_iou50\n0,0.1,0.0\n9,{rouge},{accuracy}\n10,,\n")


def test_training_logs_have_an_interval_over_seeds_and_none_of_one(world, tmp_path):
    for seed in range(3):
        write_log(world, "stage1", "stage1-8m-both", seed, 0.5 + seed / 1000, 0.12)
        write_log(world, "stage2", "stage2-8m-both", seed, 0.53, 0.6 + seed / 1000)
    first = claim(
        endpoint={"heldout": "heldout_rouge_l", "less": "heldout_acc_iou50"}, compare={"of": "stage1-8m-both"}
    )
    little = claim(
        endpoint={"heldout": "heldout_rouge_l"}, direction="not higher", margin=5.0,
        compare={"of": "stage2-8m-both", "minus": "stage1-8m-both"},
    )  # fmt: skip
    content = claims_of(write_claims(tmp_path / "c.yaml", first=first, little=little))
    stages = {"stage1-8m-both": "stage1", "stage2-8m-both": "stage2"}
    found = rows(made_claims(world, content, stages=stages)[0])
    assert (found["first"]["verdict"], found["little"]["verdict"]) == ("holds", "holds")
    assert (found["first"]["reported"], found["first"]["reproduced"]) == ("39", "38.1")
    assert (found["little"]["reported"], found["little"]["reproduced"]) == ("3", "2.9")
    assert found["first"]["n"] == "" and "over seeds only" in found["first"]["note"]
    alone = rows(made_claims(world, content, seeds=(0,), stages=stages)[0])["first"]
    assert (alone["verdict"], alone["low"], alone["note"]) == (
        "undecided",
        "",
        "one seed and no questions: no interval",
    )


def test_attention_of_the_same_boxes_is_compared(world, tmp_path):
    draw = np.random.default_rng(0)
    for recipe, mean in (("sft-granvit", 3.0), ("sft-siglip2", 2.0), ("sft-sailvit", 2.5)):
        for seed in (5, 6):
            boxes = [
                {
                    "key": f"i{n // 3}",
                    "data_type": "ocr",
                    "box": [float(n % 3)],
                    "attention": mean + draw.normal(0, 0.3),
                }
                for n in range(60)
            ]
            boxes[0]["attention"] = None if recipe == "sft-siglip2" else 99.0  # not there in every run
            file = world / "results/locality" / recipe / f"seed{seed}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(boxes).to_parquet(file)
    best = claim(
        endpoint={"attention": "attention"},
        compare={"best": "sft-granvit", "among": ["sft-siglip2", "sft-sailvit"]},
    )
    found = rows(
        made_claims(world, claims_of(write_claims(tmp_path / "c.yaml", best=best)), seeds=(5, 6))[0]
    )["best"]
    assert (found["verdict"], found["n"], found["reported"]) == ("holds", "59", "")
    assert float(found["reproduced"]) == pytest.approx(0.5, abs=0.15)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.02]) == pytest.approx([1.0, 1.0, 0.06])
    assert holm([0.01, None]) == [0.02, None]
    assert holm([]) == []


def test_p_value_and_smallest_effect_are_those_of_a_normal_difference():
    drawn = np.random.default_rng(0).normal(0, 1, (40_000, 2)) * [1.0, 0.0] + [2.5, 0.0]
    found = measure(np.array([2.5, 0.0]), drawn, ["a", "b"], [{"a": 1.0, "b": -1.0}], "higher", None)
    assert (found.effect, found.p) == (2.5, pytest.approx(0.0124, rel=0.1))
    assert (found.low, found.high) == (pytest.approx(0.54, abs=0.05), pytest.approx(4.46, abs=0.05))
    assert found.smallest == pytest.approx(2.8, rel=0.02)  # 1.96 + 0.84 standard errors


def test_best_is_as_sure_as_against_its_closest_rival():
    drawn = np.random.default_rng(0).normal(0, 1, (20_000, 3)) + [5.0, 0.0, 4.0]
    contrasts = [{"a": 1.0, "b": -1.0}, {"a": 1.0, "c": -1.0}]
    found = measure(np.array([5.0, 0.0, 4.0]), drawn, ["a", "b", "c"], contrasts, "higher", None)
    closest = measure(np.array([5.0, 0.0, 4.0]), drawn, ["a", "b", "c"], contrasts[1:], "higher", None)
    assert (found.effect, found.low, found.p) == (1.0, closest.low, pytest.approx(closest.p, rel=0.01))
    assert found.high > closest.high  # the closest rival was chosen: Bonferroni


@pytest.mark.parametrize(
    ("direction", "margin", "interval", "corrected", "said"),
    [
        ("higher", None, (0.5, 2.0), 0.04, "holds"),
        ("higher", None, (0.5, 2.0), 0.06, "undecided"),
        ("higher", None, (-1.0, 0.5), 0.3, "undecided"),
        ("higher", None, (-2.0, -0.5), 0.001, "fails"),
        ("lower", None, (-2.0, -0.5), 0.04, "holds"),
        ("lower", None, (0.5, 2.0), 0.001, "fails"),
        ("same", 1.0, (-0.9, 0.2), None, "holds"),
        ("same", 1.0, (0.5, 1.5), None, "undecided"),
        ("same", 1.0, (1.1, 1.5), None, "fails"),
        ("same", 1.0, (-3.0, -1.1), None, "fails"),
        ("not higher", 1.0, (-9.0, 0.9), None, "holds"),
        ("not higher", 1.0, (0.0, 1.1), None, "undecided"),
        ("not higher", 1.0, (1.1, 2.0), None, "fails"),
    ],
)
def test_verdict_follows_the_rule(direction, margin, interval, corrected, said):
    result = Result(sum(interval) / 2, *interval, 0.01, 1.0)
    assert verdict(result, direction, margin, corrected) == said
    assert verdict(Result(1.0), direction, margin, None) == "undecided"


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("best-fine-grained", 2.83), ("best-ocr", 2.64), ("vqa-comparable", -0.28),
        ("reasoning-not-improved", -0.49), ("stage1-ocr", 1.22), ("transfer-7b", 2.78),
        ("from-sailvit", (1.37 + 2.08) / 2), ("alpha", 0.69), ("frozen-stage2", (0.07 - 0.04) / 2),
        ("frozen-sft-fine-grained", 3.26), ("lambda", 3 * (1.5 * 0.74 + 0.5 * 0.27) / 5),
        ("bbox2caption-first", 39.0), ("data-stage1", None), ("attention-local", None),
    ],
)  # fmt: skip
def test_what_the_paper_reports_is_read_from_its_printed_numbers(key, effect):
    found = REPORTED.effect(load_claims(TABLES).claims[key][1])
    assert found is None if effect is None else found == pytest.approx(effect, abs=0.006)


def test_claims_of_the_project_are_about_its_recipes_at_every_scale():
    content = load_claims(TABLES)
    assert len(content.paper) >= 25
    for name in ("smoke", "mini", "paper"):
        scale = Scale(name)
        require_recipes(content, scale.recipes)
        found = needed(scale, content, TABLES)
        assert found.left_out == {} and len(found.boxes) == 12 and len(found.logs) == 6
        assert {run[1] for run in found.answers} == set(load_config(name).comparison_seeds)


def test_only_what_the_claims_asked_for_need_is_asked_for():
    content = load_claims(TABLES)
    scale = Scale("mini", {"claims": ["gain-ocr"], "comparison_seeds": [4, 5]})
    found = needed(scale, content, TABLES)
    assert {(run, seed) for run, seed, _ in found.answers} == {
        (run, seed) for run in ("sft-granvit", "sft-siglip2") for seed in (4, 5)
    }
    assert {name for *_, name in found.answers} == {"OCRBench", "DocVQA", "ChartQA", "InfoVQA", "TextVQA"}
    assert not found.logs and not found.boxes
    assert len(found.left_out) == len(content.claims) - 1
    facts = claim_facts(scale, content, TABLES)
    assert facts["seeds"]["gain-ocr"] == [4, 5] and "not asked for" in facts["left_out"]["best-ocr"]
    quiet = Scale("mini", {"stages": {"stage2": {"eval_every": 0}}})
    assert (
        "stage2-8m-both asks no held-out questions"
        in needed(quiet, content, TABLES).left_out["caption2bbox-second"]
    )
    with pytest.raises(GranvitError, match=r"config/config.yaml: claims: 'gain-ocrr' is not .*'gain-ocr'"):
        needed(Scale("mini", {"claims": ["gain-ocrr"]}), content, TABLES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"direction": "up"}, ["paper.one.direction", "'up'", "'higher'"]),
        ({"directions": "higher"}, ["paper.one.directions", "unknown key", "'direction'"]),
        ({"margin": 1.0}, ["paper.one", "'higher' takes no margin", "remove"]),
        ({"direction": "same"}, ["paper.one", "'same' needs margin", "add it"]),
        ({"seeds": "all"}, ["paper.one.seeds", "'all'", "comparison_seeds"]),
        ({"endpoint": {"table": "table1"}}, ["paper.one.endpoint", "exactly one of columns, rows"]),
        ({"endpoint": {"columns": ["OCR"]}}, ["paper.one.endpoint", "table and columns", "give both"]),
        ({"endpoint": {"table": "t1", "columns": ["OCR"]}}, ["paper.one.endpoint", "'t1'", "correct"]),
        ({"endpoint": {"table": "table3", "columns": ["OCRR"]}}, ["paper.one.endpoint", "'OCRR'", "'OCR'"]),
        ({"endpoint": {"rows": ["GQQA"]}}, ["paper.one.endpoint", "'GQQA'", "'GQA'", "correct"]),
        ({"endpoint": {"table": "table9", "columns": ["FLOPs"]}}, ["paper.one.endpoint", "'FLOPs'"]),
        ({"compare": {"of": "sft-granvit"}}, ["paper.one", "against each other", "change"]),
        ({"compare": {"best": "sft-granvit"}}, ["paper.one.compare", "best and among", "give both"]),
        ({"compare": {"of": "sft-clip", "minus": "sft-clip"}}, ["paper.one.compare", "name each once"]),
        ({"compare": {"of": "sft-granvit", "minus": "sft-clipp"}}, ["compare", "'sft-clipp'", "'sft-clip'"]),
    ],
)  # fmt: skip
def test_mistake_is_one_message_with_file_key_value_and_remedy(tmp_path, change, words):
    path = write_claims(tmp_path / "claims.yaml", one=claim(**change))
    with pytest.raises(GranvitError) as raised:
        require_recipes(load_claims(TABLES, path), Scale("mini").recipes, path)
    assert all(word in str(raised.value) for word in [str(path), *words]), raised.value
    assert "\n" not in str(raised.value)


def test_id_in_two_families_is_refused(tmp_path):
    path = write_claims(tmp_path / "claims.yaml", one=claim())
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"controls": content["paper"]}))
    with pytest.raises(GranvitError, match=r"controls.one: an id of the paper's claims too; rename"):
        load_claims(TABLES, path)
