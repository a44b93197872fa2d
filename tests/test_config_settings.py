"""Configuration: every mistake is one message that names file, key and value; every run is its recipe."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import environment

from granvit.config import loading as config
from granvit.config import recipes as recipes_file
from granvit.config.tables import load_tables, required_forward_runs, required_leaves
from granvit.errors import GranvitError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path) -> Path:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(project: Path, file: str, change: dict) -> None:
    path = project / file
    path.write_text(yaml.safe_dump(config.merge(yaml.safe_load(path.read_text()), change), sort_keys=False))
    recipes_file._entries.cache_clear()


def message(project: Path, scale: str = "mini", overrides: dict | None = None) -> str:
    with pytest.raises(GranvitError) as raised:
        recipes_file.resolve_all(config.load_config(scale, overrides, project), project)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("scale", config.SCALES)
def test_every_recipe_of_every_scale_resolves_to_a_run_of_its_own(scale):
    recipes = recipes_file.resolve_all(config.load_config(scale, root=ROOT), ROOT)
    assert len({recipe.hash for recipe in recipes.values()}) == len(recipes) > 90


def test_runs_of_models_that_a_scale_lacks_are_left_out_and_say_so_when_asked_for(project):
    def names(scale: str) -> set[str]:
        return {*recipes_file.resolve_all(config.load_config(scale, root=project), project)}

    rice = {"projector-rice", "sft-rice"}
    assert rice < names("paper") and rice < names("small") and not rice & names("mini")
    assert names("paper") - names("mini") == rice | {"projector-dinov3", "sft-dinov3"}
    with pytest.raises(GranvitError, match="projector-rice: no RICE at the scale mini, as `standins` of"):
        recipes_file.resolve_recipe(config.load_config("mini", root=project), "sft-rice", project)
    edit(project, "config/recipes.yaml", {"projector-rice": {"encoder": "RISE"}})
    assert "projector-rice: encoder: 'RISE' is not in config/encoders.yaml" in message(project)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stages": {"stage1": {"epoch": 3}}}, ["stages.stage1.epoch", "unknown key", "3", "'epochs'"]),
        ({"stages": {"stage1": {"epochs": "three"}}}, ["stages.stage1.epochs", "'three'", "number"]),
        ({"stages": {"sft": {"learning_rate": {"llm": "1e-5"}}}}, ["stages.sft.learning_rate.llm", "1.0e-5"]),
        (
            {"stages": {"stage1": {"distillation": {"pool": "mean"}}}},
            ["distillation.pool", "'mean'", "'grid'"],
        ),
        ({"seed": -1}, ["seed", "-1", "greater than or equal to 0"]),
        ({"data": {"captioner": {"url": "host:8000"}}}, ["data.captioner.url: 'host:8000' must", "http://"]),
        ({"evaluation": {"judge": {"url": "http://h"}}}, ["evaluation.judge: ", "needs a model; set"]),
        ({"stages": {"sft": None}}, ["stages.sft: expected `key: value` lines, found None"]),
    ],
)
def test_wrong_key_or_value_names_file_key_and_value(project, change, told):
    edit(project, "config/scales/mini.yaml", change)
    text = message(project)
    assert text.startswith("config/scales/mini.yaml: ")
    assert all(word in text for word in told), text


def test_wrong_override_is_blamed_on_the_command_line(project):
    assert message(project, overrides={"seeds": 3}).startswith("command line: seeds: unknown key (value 3)")


def test_unknown_scale_lists_the_scales(project):
    assert "smoke, mini, small, paper" in message(project, scale="huge")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"sft-new": {"stage": "sft", "parent": "projector-sigclip"}},
            ["sft-new", "parent", "projector-sigclip", "projector-siglip"],
        ),
        ({"projector-clip": {"encoder": "KLIP"}}, ["projector-clip", "encoder", "'KLIP'", "'CLIP'"]),
        ({"projector-clip": {"llm": "GPT"}}, ["projector-clip", "llm", "'GPT'", "Qwen2.5-1.5B"]),
        ({"stage2-granvit": {"parent": "stage2-granvit"}}, ["circle", "stage2-granvit -> stage2-granvit"]),
        ({"again": {"stage": "sft", "parent": "projector-clip"}}, ["again", "sft-clip", "same run"]),
        ({"sft-clip": {"parent": "sft-siglip"}}, ["sft-clip", "parent", "sft run"]),
        ({"sft-clip": {"encoder": "CLIP"}}, ["sft-clip", "encoder", "inherited"]),
        ({"sft-clip": {"distillation": {"weight": 0.5}}}, ["sft-clip", "distillation", "stage1"]),
        ({"sft-clip": {"epoch": 3}}, ["sft-clip.epoch", "unknown key"]),
        ({"sft-clip": {"turns": "joined"}}, ["sft-clip.turns", "'separate' or 'chained'"]),
        ({"stage1-granvit": {"turns": "chained"}}, ["stage1-granvit", "turns", "projector, sft, continued"]),
        ({"sft-clip": {"tokens_of": "instruction"}}, ["sft-clip", "tokens_of", "only stage1", "remove"]),
        ({"stage2-8m": {"contrastive": {"temperature": 1.0}}}, ["stage2-8m", "contrastive", "only stage1"]),
        ({"stage1-8m": {"contrastive": {"temperature": 0}}}, ["temperature", "greater than 0"]),
        ({"stage1-control-contrastive": {"trains": {"llm": True}}}, ["contrastive", "trains.llm is true"]),
        ({"stage1-control-contrastive": {"trains": {"encoder": False}}}, ["trains.encoder is false"]),
        ({"stage1-granvit-tiled": {"contrastive": {"temperature": 1.0}}}, ["contrastive", "without tiling"]),
    ],
)  # fmt: skip
def test_wrong_recipe_names_recipe_key_and_value(project, change, told):
    edit(project, "config/recipes.yaml", change)
    text = message(project)
    assert "config/recipes.yaml" in text
    assert all(word in text for word in told), text


def test_changed_distillation_weight_changes_the_hash_of_what_follows_only(project):
    before = recipes_file.resolve_all(config.load_config("mini", root=project), project)
    edit(project, "config/recipes.yaml", {"stage1-granvit": {"distillation": {"weight": 0.5}}})
    after = recipes_file.resolve_all(config.load_config("mini", root=project), project)
    changed = {name for name in before if before[name].hash != after[name].hash}
    transfers = {
        f"{stage}-granvit-{llm}" for stage in ("projector", "stage2", "sft") for llm in ("3b", "7b", "llama3")
    }
    budgets = {f"{stage}-granvit-{budget}" for stage in ("stage2", "sft") for budget in ("8m", "16m", "all")}
    assert changed == {"stage1-granvit", "stage2-granvit", "sft-granvit"} | transfers | budgets


def test_chained_turns_are_another_run_and_separate_ones_the_run_they_were_before_the_choice(project):
    before = recipes_file.resolve_all(config.load_config("mini", root=project), project)
    edit(project, "config/recipes.yaml", {"sft-clip": {"turns": "chained"}})
    after = recipes_file.resolve_all(config.load_config("mini", root=project), project)
    assert {name for name in before if before[name].hash != after[name].hash} == {"sft-clip"}
    assert not any("turns" in recipe.model_dump() for recipe in before.values())
    chained = after["sft-clip"]
    assert chained.turns == "chained" and type(chained)(**chained.model_dump()) == chained
    assert type(chained).model_validate_json(chained.model_dump_json()) == chained


def test_controls_differ_from_their_references_in_what_they_say_and_nothing_else():
    """By key; the keys of controls are in no other run, whose hashes are what they were."""
    settings = config.load_config("mini", root=ROOT)
    recipes = recipes_file.resolve_all(settings, ROOT)

    def differences(name: str, reference: str) -> dict:
        one, other = (recipes[key].model_dump() for key in (name, reference))
        keys = one.keys() | other.keys()
        hashes = {"name", "parent", "parent_hash"}
        return {key: one.get(key) for key in keys - hashes if one.get(key) != other.get(key)}

    control = "stage1-control"
    assert differences(f"{control}-captions", "stage1-8m-nodistill") == {
        "mixture": "captions-8M", "tokens_of": "bbox2caption-8M",
    }  # fmt: skip
    assert differences(f"{control}-shuffled", "stage1-8m") == {"mixture": "shuffled-8M"}
    assert differences(f"{control}-contrastive", "stage1-8m") == {"contrastive": {"temperature": 0.07}}
    assert differences(f"{control}-reversed", "stage1-8m") == {}
    assert recipes[f"{control}-reversed"].parent == "stage2-control-only"
    joint = differences(f"{control}-joint", "stage1-8m")
    assert joint.pop("mixture") == "both-8M" and joint.pop("trains")["llm"]
    assert joint.pop("learning_rate") == settings.stages.stage2.learning_rate.model_dump() and not joint
    for name, key, value in (("pooled", "pool", "pooled"), ("frozen-teacher", "ema_decay", 1.0)):
        (changed,) = differences(f"{control}-{name}", "stage1-8m").values()
        whole = recipes["stage1-8m"].distillation.model_dump()
        assert changed == whole | {key: value} != whole
    for name in ("captions", "shuffled", "pooled", "frozen-teacher", "contrastive", "only", "nodistill"):
        assert differences(f"stage2-control-{name}", "stage2-8m") == {}
    plain = [recipe for name, recipe in recipes.items() if "control" not in name]
    assert len(plain) > 60 and not any({"contrastive", "tokens_of"} & r.model_dump().keys() for r in plain)


def test_distillation_of_no_weight_is_no_distillation():
    recipe = recipes_file.resolve_recipe(config.load_config("mini", root=ROOT), "stage1-8m-nodistill", ROOT)
    assert recipe.distillation is None


def test_paper_scale_holds_the_papers_values():
    recipe = recipes_file.resolve_recipe(config.load_config("paper", root=ROOT), "stage1-granvit", ROOT)
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate.encoder) == (256, 1.0, 1e-5)
    assert (recipe.distillation.weight, recipe.distillation.ema_decay) == (1.0, 0.9)


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_teachers_crops_have_another_size_than_the_image_where_the_graph_is_tested(scale):
    """As at paper scale: an encoder that could not read them once died there and nowhere else."""
    settings = config.load_config(scale, root=ROOT)
    size = settings.stages.stage1.distillation.crop_size
    assert all(size != spec.image_size for spec in settings.encoders.values())


def test_every_run_that_a_table_needs_is_a_recipe():
    known = set(recipes_file.recipe_names(ROOT))
    tables = load_tables(ROOT / "config/tables.yaml")
    assert len(tables) > 5 and required_leaves(tables["table1"])
    for table in tables.values():
        assert set(required_leaves(table)) | set(required_forward_runs(table)) <= known


def test_every_setting_says_where_it_comes_from():
    lines = (ROOT / "config/config.yaml").read_text().splitlines()
    values = [line for line in lines if not line.startswith("#") and ": " in line.partition("#")[0].strip()]
    silent = [
        line for line in values if not any(f"# {word}" in line for word in ("paper", "convention", "open"))
    ]
    assert [line for line in silent if line.strip() != "distillation: null"] == []


@pytest.fixture(scope="module")
def schemas(tmp_path_factory) -> Path:
    shutil.copytree(ROOT / "config", (tmp := tmp_path_factory.mktemp("p")) / "config")
    shutil.rmtree(tmp / "config" / "schemas", ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "granvit.config.editors"], cwd=tmp, env=environment(ROOT))
    assert done.returncode == 0
    return tmp / "config"


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("config.yaml", {"seeds": 1}),
        ("config.yaml", {"training": {"precision": "fp16"}}),
        ("recipes.yaml", {"sft-clip": {"stage": "sft", "epoch": 3}}),
        ("recipes.yaml", {"sft-clip": {"stage": "sft", "trains": {"decoder": True}}}),
        ("recipes.yaml", {"sft-clip": {"stage": "sft", "learning_rate": {"llm": -1.0}}}),
        ("recipes.yaml", {"sft-clip": {"stage": "sft", "save_every": 5}}),
    ],
)
def test_editors_find_schemas_that_take_what_is_shipped_and_refuse_what_is_wrong(schemas, file, wrong):
    first = (schemas / file).read_text().splitlines()[0]
    schema = json.loads((schemas / first.removeprefix("# yaml-language-server: $schema=")).read_text())
    content = yaml.safe_load((schemas / file).read_text())
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config.merge(content, wrong), schema)


def test_a_recipe_may_change_no_key_to_nothing(project):
    edit(project, "config/recipes.yaml", {"sft-clip": {"trains": {"llm": None}}})
    assert message(project).startswith("config/recipes.yaml: sft-clip.trains.llm: None should be ")


@pytest.mark.parametrize("profile", ["gpu", "npu"])
def test_cluster_profile_asks_for_the_devices_that_its_layout_uses(profile):
    folder = ROOT / "profiles" / profile
    asked = yaml.safe_load((folder / "profile.yaml").read_text())
    assert asked["configfile"] == str((folder / "compute.yaml").relative_to(ROOT))
    compute = config.load_config("paper", yaml.safe_load((folder / "compute.yaml").read_text()), ROOT).compute
    training = {"pretrain_projector", "train_stage1", "train_stage2", "continue_pretraining", "finetune_sft"}
    training |= {"check_training_devices"}
    text = "\n".join(file.read_text() for file in (ROOT / "rules").glob("*.smk"))
    used = set(re.findall(r"^rule (\w+):(?:(?!^rule|^use).)*?accelerators=", text, re.MULTILINE | re.DOTALL))
    used |= training | {"predict_shuffled", "annotate_on_accelerator", "check_one_device"}
    assert {"predict_benchmarks", "answer_heldout", "map_queries", "measure_locality"} < used
    for rule, resources in asked["set-resources"].items():
        devices = compute.train_devices if rule in training else compute.accelerators
        wanted = f"'{profile}:{devices}'" if rule in used else None
        # devices of each node, and one task for them: `gpu: 8` may be spread over nodes
        assert (resources.get("gres"), resources.get("gpu")) == (wanted, None), rule
        assert resources.get("tasks_per_gpu", 0) == 0 and resources.get("nodes", 1) == 1
    assert used <= asked["set-resources"].keys() and asked["default-resources"]["nodes"] == 1
    for rule in training:
        assert (
            asked["set-resources"][rule]["cpus_per_task"]
            == compute.train_threads
            == 8 * compute.train_devices
        )
    assert asked["set-resources"]["answer_heldout"]["cpus_per_task"] == compute.predict_threads
    assert asked["set-resources"]["annotate_regions"]["cpus_per_task"] == compute.annotate_threads


def test_large_llm_is_tuned_in_shards_and_only_where_it_is_tuned():
    settings = config.load_config("paper", root=ROOT)
    recipes = recipes_file.resolve_all(settings, ROOT)

    def layout(name: str):
        return settings.compute.for_run(recipes[name])

    assert layout("sft-granvit-7b").sharding == "zero3" and layout("sft-granvit-7b").gradient_checkpointing
    assert layout("sft-granvit").sharding == layout("stage1-granvit").sharding == "zero2"
    assert layout("projector-granvit-7b").sharding == "ddp"
    assert layout("sft-granvit").compile == "auto" and layout("sft-granvit-7b").compile is False
    assert layout("projector-granvit-7b").gradient_checkpointing  # gradients go through a frozen one too
    assert not layout("stage1-granvit").gradient_checkpointing
