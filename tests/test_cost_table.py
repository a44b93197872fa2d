"""What runs took: tokens counted from their mixtures, FLOPs of what they computed, and the table of a row's
runs."""

from __future__ import annotations

import csv
import json

import pytest
from factories import make_job, make_mixture, make_recipe, make_world
from test_models_packing import make_model

from granvit.config.tables import load_tables
from granvit.errors import GranvitError
from granvit.graph.runs import cost_baseline
from granvit.reporting.cost_table import make_cost_table, rows_of
from granvit.training.cost import Work, training_cost
from granvit.training.examples import Mixture, count_tokens
from granvit.training.ledger import costs, count_mixture, run_cost
from granvit.training.run import train

TIMING = {"seconds": 90.0, "images_per_second": 1.0}


def manifest(images: int, ranks: int = 1, stage: str = "stage1", **changes) -> dict:
    recipe = make_recipe(stage, mixture="m", **changes)
    return {"recipe": recipe.model_dump(), "metrics": {"images": images}, "ranks": ranks}


def test_tokens_are_those_of_the_mixture_times_how_often_its_images_were_seen(tmp_path):
    model, path = make_model(tmp_path), make_mixture(tmp_path / "m.parquet")
    text, supervised = count_tokens(Mixture(path), model.chat)
    cost = run_cost(manifest(images=25, ranks=4), TIMING, model, path)  # two and a half epochs
    assert cost["supervised_tokens"] == round(2.5 * supervised)
    around = len(model.chat.before_image) + len(model.chat.after_image) + model.image_tokens
    assert cost["tokens"] == round(2.5 * text + 25 * around)
    assert (cost["devices"], cost["device_hours"]) == (4, 90 * 4 / 3600)


def test_a_sample_of_a_mixture_counts_its_first_images(tmp_path):
    model, path = make_model(tmp_path), make_mixture(tmp_path / "m.parquet", 12)
    whole, some = count_mixture(path, model.chat), count_mixture(path, model.chat, sample=5)
    first = make_mixture(tmp_path / "f" / "m.parquet", 5)  # the same five
    assert some == count_mixture(first, model.chat) != whole
    assert len(some.boxes) == 5 and len(whole.boxes) == 12 and set(whole.boxes) == {3}


def test_flops_are_those_of_what_a_run_computes(tmp_path):
    model, path = make_model(tmp_path), make_mixture(tmp_path / "m.parquet")
    found = {
        name: run_cost(manifest(10, **changes), TIMING, model, path)
        for name, changes in {
            "plain": {"distillation": None},
            "distilled": {},
            "contrastive": {"distillation": None, "contrastive": {"temperature": 0.1}},
            "joint": {"distillation": None, "trains": {"encoder": True, "projector": True, "llm": True}},
        }.items()
    }
    flops = {name: cost["flops"] for name, cost in found.items()}
    crop = training_cost(model, Work(("encoder", "projector"), 0, (9, 9), crops=2, crop_size=16))["teacher"]
    assert (
        found["distilled"]["teacher_flops"]
        == pytest.approx(10 * crop)
        == pytest.approx(flops["distilled"] - flops["plain"])
    )
    assert flops["joint"] > flops["plain"] > flops["contrastive"] > 0
    encoder = training_cost(model, Work(("encoder", "projector"), 0, (9, 9)))["encoder"]
    assert flops["contrastive"] == pytest.approx(10 * encoder, rel=0.2)
    assert found["contrastive"]["tokens"] == 0
    assert found["contrastive"]["supervised_tokens"] == found["plain"]["supervised_tokens"]


def test_a_real_run_is_counted_from_its_folder(tmp_path):
    world = make_world(tmp_path)
    world.mixture.rename(tmp_path / "test.parquet")
    recipe = make_recipe("stage1", name="one")
    train(make_job(world, recipe, tmp_path, mixture=tmp_path / "test.parquet"))
    run = tmp_path / "run"
    cost = costs([run], {"one": run / "model"}, tmp_path)["one"]
    assert cost["images"] == 10 and cost["supervised_tokens"] > 100 and cost["flops"] > 1e6
    assert cost["seconds"] == json.loads((run / "timing.json").read_text())["seconds"]
    (run / "timing.json").unlink()
    with pytest.raises(GranvitError, match=r"timing\.json: no such file"):
        costs([run], {"one": run / "model"}, tmp_path)


def test_a_rows_cost_is_that_of_all_runs_behind_it(tmp_path):
    spec = load_tables()["controls"]
    assert list(rows_of(spec))[:2] == ["SigLIP2", "GranViT"]
    assert rows_of(load_tables()["table1"])["GranViT"] == "sft-granvit"
    lineages = {recipe: [recipe, "start"] for recipe in rows_of(spec).values()}
    one = {"stage": "sft", "images": 10, "supervised_tokens": 100, "tokens": 1000, "flops": 3e9,
           "teacher_flops": 0.0, "seconds": 60.0, "device_hours": 1 / 60, "devices": 1}  # fmt: skip
    found = {recipe: one | {"run": recipe} for recipe in lineages} | {"start": one | {"run": "start"}}
    found["sft-stage2-8m"] = one | {"run": "sft-stage2-8m", "flops": 9e9, "teacher_flops": 3e9}
    out = tmp_path / "c.csv", tmp_path / "c.md"
    make_cost_table(spec, lineages, found, "sft-siglip2", "mini", *out)
    with open(out[0], encoding="utf-8") as file:
        lines = [row for row in csv.DictReader(file) if row["row"] == "GranViT"]
    assert [row["run"] for row in lines] == ["sft-stage2-8m", "start", "all"]
    assert [float(row["flops"]) for row in lines] == [9e9, 3e9, 12e9]
    assert (lines[-1]["tokens"], lines[-1]["seconds"], lines[-1]["scale"]) == ("2000", "120", "mini")
    text = out[1].read_text()
    assert "| GranViT (mini) | 2 | 20 | 200 | 2.00K | 12.00G (2.00 x) | 25.0 % | 2.0 min |" in text
    assert "6.00G (1.00 x) | 0.0 %" in text and "reported" not in text


def test_rows_that_begin_alike_are_told_apart_by_their_whole_label():
    spec = load_tables()["table2"]
    rows = rows_of(spec)
    assert list(rows.values()) == [row.recipe for row in spec.layout.rows] and len(rows) == 18
    assert rows["LLM: Qwen2.5-3B; Model: CLIP"] == "sft-clip-3b"


def test_the_unit_of_cost_is_the_usual_row_or_else_the_first():
    tables = load_tables()
    assert cost_baseline(tables["table1"], "sft-siglip2") == "sft-siglip2"
    assert cost_baseline(tables["table2"], "sft-siglip2") == "sft-clip-3b"


def test_a_table_without_its_baseline_says_so(tmp_path):
    spec = load_tables()["controls"]
    with pytest.raises(GranvitError, match=r"sft-clip.*is no row of controls"):
        make_cost_table(spec, {}, {}, "sft-clip", "mini", tmp_path / "c.csv", tmp_path / "c.md")
