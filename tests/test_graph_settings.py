"""What the jobs of the graph depend on: names and settings of the package, without Snakemake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from granvit.config.loading import SCALES
from granvit.config.tables import load_tables, required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.graph import data, runs
from granvit.graph.scale import Scale


@pytest.fixture(scope="module")
def mini() -> Scale:
    return Scale("mini")


@pytest.fixture(scope="module")
def paper() -> Scale:
    return Scale("paper")


def names(sources) -> set[str]:
    return {source.name for source in sources}


def test_a_scale_reads_its_own_files_and_what_the_user_overrides(mini, paper):
    assert mini.is_rendered and not paper.is_rendered
    assert "Scenes" in mini.sources and "Scenes" not in paper.sources
    assert mini.recipe("sft-granvit").hash != paper.recipe("sft-granvit").hash
    overridden = Scale("mini", {"data": {"heldout_share": 0.5}})
    assert data.mixture_settings(overridden, "heldout") == {"kind": "heldout", "heldout_share": 0.5}
    assert data.mixture_settings(mini, "heldout")["heldout_share"] != 0.5


def test_unknown_names_are_refused_with_the_file_that_knows_them(mini):
    with pytest.raises(GranvitError, match=r"'sft-granvid' is not a recipe of config/recipes\.yaml"):
        runs.run_settings(mini, "sft-granvid")
    with pytest.raises(GranvitError, match=r"config/sources_mini\.tsv: no source 'Scene'; known: .*Scenes"):
        data.source_row(mini, "Scene")
    with pytest.raises(GranvitError, match=r"mini\.yaml: data\.rendered_images: no number for 'COCO'"):
        data.rendered_images(mini, "COCO")


def test_a_source_is_absent_where_its_folder_is_not_there_and_no_job_makes_it(tmp_path, monkeypatch):
    scale = Scale("mini")
    assert scale.source("Scenes").path == data.RENDERED_SOURCE.format(scale="{scale}", source="Scenes")
    scale.sources["Found"] = replace(scale.source("Scenes"), name="Found")
    monkeypatch.chdir(tmp_path)
    assert [(source.name, source.path) for source in data.absent_sources(scale)] == [
        ("Found", "results/mini/raw/Scenes")
    ]
    data.require_sources(scale, {"Scenes"})
    with pytest.raises(GranvitError, match=r"'Found': its data are absent, .*results/mini/raw/Scenes"):
        data.require_sources(scale, {"Found"})
    Path("results/mini/raw/Scenes").mkdir(parents=True)
    assert data.absent_sources(scale) == []


def test_a_mixtures_name_says_its_tasks_its_budget_and_its_sources(mini):
    drawn = data.mixture_settings(mini, "both-8M")
    assert drawn["kind"] == "regions"
    assert drawn["tasks"] == ["global_caption", "bbox2caption", "caption2bbox"]
    assert drawn["regions"] == mini.config.data.budgets.m8
    assert data.mixture_settings(mini, "caption2bbox-all")["tasks"] == ["global_caption", "caption2bbox"]
    assert data.mixture_settings(mini, "caption2bbox-all")["regions"] is None
    uses = {"both-8M": "pretrain", "heldout": "pretrain", "instruction": "sft"}
    uses |= {"projector": "projector", "continued": "continued"}
    for mixture, use in uses.items():
        found = data.mixture_sources(mini, mixture)
        assert found and {source.use for source in found} == {use}


def test_mixtures_of_controls_are_drawn_as_the_others_but_for_what_they_change(mini):
    plain = data.mixture_settings(mini, "bbox2caption-8M")
    assert data.mixture_settings(mini, "shuffled-8M") == plain | {"shuffled": True}
    assert data.mixture_settings(mini, "captions-8M") == plain | {"tasks": ["global_caption"]}
    assert "shuffled" not in plain
    captions = [mini.recipe("stage1-control-captions")]
    assert {"captions-8M", "bbox2caption-8M"} <= set(runs.mixtures_of(iter(captions)))


@pytest.mark.parametrize("name", ["both", "both-9M", "8M", "caption-8M", "bbox2caption-8m"])
def test_a_mixture_that_is_no_kind_and_no_task_with_a_budget_is_refused(mini, name):
    with pytest.raises(GranvitError, match=rf"mixture '{name}': expected heldout, .* as in bbox2caption-8M"):
        data.mixture_settings(mini, name)


def test_tables_beyond_the_paper_are_offered_where_the_scale_has_their_models(mini, paper):
    tables = load_tables()
    assert {*tables} - {*runs.offered(mini, tables)} == {"encoders"}
    assert runs.offered(paper, tables) == runs.offered(Scale("small"), tables) == [*tables]


@pytest.mark.parametrize("scale", SCALES)
def test_every_recipes_mixture_can_be_drawn(scale):
    recipes = Scale(scale).recipes.values()
    assert len(recipes) > 20
    for mixture in runs.mixtures_of(recipes):
        assert data.mixture_settings(Scale(scale), mixture)


def test_notes_about_a_source_are_no_reason_to_ingest_it_again(mini):
    row = data.source_row(mini, "Scenes")
    assert row["path"] == "results/mini/raw/Scenes" and row["shards"] == mini.source("Scenes").shards
    assert (
        not row.keys() & data.SOURCE_NOTES
        and {"name", "adapter", "captions", "text", "options"} <= row.keys()
    )


def test_only_a_folder_that_a_rule_renders_is_an_input(mini, paper):
    assert data.rendered_folder(mini, "Scenes") == "results/mini/raw/Scenes"
    assert len(paper.sources) > 30
    assert not any(data.rendered_folder(paper, source) for source in paper.sources)


def test_annotators_carry_the_versions_of_the_models_that_they_use_and_no_others(paper):
    of = {
        boxes: next(s.name for s in paper.sources.values() if s.boxes == boxes)
        for boxes in ("detector", "ocr")
    }
    detected, read = (data.annotator_settings(paper, of[boxes]) for boxes in ("detector", "ocr"))
    assert {"annotate", "detector"} <= detected["versions"].keys() and "ocr" not in detected["versions"]
    assert {"annotate", "ocr"} <= read["versions"].keys() and "detector" not in read["versions"]
    assert data.wants_accelerator(paper, of["detector"]) and not data.wants_accelerator(paper, of["ocr"])


def test_a_source_that_brings_everything_asks_nobody_and_needs_no_accelerator(mini):
    given = next(source.name for source in mini.sources.values() if source.boxes == "given")
    assert data.boxes_given(mini, given) and not data.wants_accelerator(mini, given)
    assert data.questions_at_once(mini, given) == 0
    assert data.annotator_settings(mini, given)["versions"].keys() == {"annotate"}


def test_questions_in_flight_count_where_a_server_captions():
    served = Scale(
        "paper", {"data": {"captioner": {"backend": "server", "url": "http://here/v1", "concurrency": 7}}}
    )
    captioned = [s for s in served.sources.values() if "captioner" in (s.captions, s.text)]
    assert captioned
    assert {data.questions_at_once(served, source.name) for source in captioned} == {7}
    inside = Scale("paper", {"data": {"captioner": {"backend": "transformers", "concurrency": 7}}})
    assert {data.questions_at_once(inside, source.name) for source in captioned} == {0}
    assert all(data.wants_accelerator(inside, source.name) for source in captioned)


def test_instruction_data_depend_on_no_filter(mini):
    by_type = {source.data_type: source.name for source in mini.sources.values()}
    assert data.filter_settings(mini, by_type["instruction"]) == {}
    filters = mini.config.data.filters
    assert data.filter_settings(mini, by_type["ocr"]) == filters.ocr.model_dump()
    assert data.filter_settings(mini, by_type["natural"]) == filters.natural.model_dump()


def test_only_the_papers_own_sources_carry_its_title(mini, paper, tmp_path):
    assert data.sample_title(paper, "figure6") == "Figure 6. Natural images of Gran-29M"
    assert data.sample_title(paper, "figure7") == "Figure 7. OCR images of Gran-29M"
    assert data.figure2_settings(paper)["title"].startswith("Figure 2. Annotation of one image of Gran-29M")
    assert data.sample_title(mini, "figure6") == "Figure 6. Natural images of Scenes"
    assert data.figure2_settings(mini)["title"] == "Figure 2. Annotation of one image of Scenes"
    header, *rows = Path("config/sources_mini.tsv").read_text(encoding="utf-8").splitlines()
    scenes = next(row for row in rows if row.startswith("Scenes"))
    names = ["CC3M", *(f"Mine{number}" for number in range(8))]  # one of them the paper's
    mine = [scenes.replace("Scenes", name, 1) for name in names]
    (tmp_path / "mine.tsv").write_text("\n".join([header, *mine]) + "\n")
    own = Scale("mini", {"data": {"sources": str(tmp_path / "mine.tsv")}})
    title = "Figure 6. Natural images of CC3M, Mine0, Mine1, Mine2, Mine3, Mine4 and 3 more sources"
    assert data.sample_title(own, "figure6") == title
    assert data.sample_title(own, "figure7") == "Figure 7. OCR images"


def test_figures_of_samples_show_the_pretraining_sources_of_their_type(paper):
    natural, ocr = (data.sampled_sources(paper, figure) for figure in ("figure6", "figure7"))
    assert {source.data_type for source in natural} == {"natural"}
    assert {source.data_type for source in ocr} == {"ocr"}
    assert names(natural) | names(ocr) == names(data.pretraining_sources(paper))
    assert [row[0] for row in data.table_sources(paper)] == [s.name for s in data.pretraining_sources(paper)]


def test_heldout_questions_are_of_the_pretraining_sources_and_know_their_type(paper):
    types = data.data_types(paper)
    assert types.keys() == names(data.pretraining_sources(paper))
    assert set(types.values()) == {"natural", "ocr"} and types["LAION"] == paper.source("LAION").data_type


def test_figure_2_shows_a_source_whose_boxes_a_detector_finds(paper):
    [shown] = data.figure2_sources(paper)
    assert (shown.data_type, shown.boxes) == ("natural", "detector")
    assert data.figure2_settings(paper)["rules"] == paper.config.data.filters.natural.model_dump()
    assert data.figure2_settings(paper)["made_by"]["boxes"] == "detector"


def test_behind_table_1_stand_its_rows_and_all_that_they_start_from(mini):
    table = load_tables()["table1"]
    found = {run.name: run for run in runs.with_ancestors(mini, required_leaves(table))}
    assert set(required_leaves(table)) <= found.keys() and "stage1-granvit" in found
    assert {run.stage for run in found.values()} == {"projector", "stage1", "stage2", "sft"}
    for run in found.values():
        assert {other for other in (run.parent, run.encoder_from) if other} <= found.keys()
    alone = [run.name for run in runs.with_ancestors(mini, ["stage1-granvit"])]
    assert alone == sorted(["stage1-granvit", found["stage1-granvit"].parent])


def test_a_run_that_is_evaluated_on_the_way_needs_the_heldout_mixture(mini):
    stage1, sft = mini.recipe("stage1-granvit"), mini.recipe("sft-granvit")
    assert stage1.eval_every and not sft.eval_every
    assert runs.mixtures_of([stage1]) == sorted(["heldout", stage1.mixture])
    assert runs.mixtures_of([sft]) == [sft.mixture]


def test_a_run_depends_on_its_recipe_and_only_its_own_models(mini):
    settings, recipe = runs.run_settings(mini, "sft-granvit"), mini.recipe("sft-granvit")
    assert settings["recipe"] == recipe.model_dump()
    assert settings["encoder"] == mini.config.encoders[recipe.encoder].model_dump()
    assert settings["llm"] == mini.config.llms[recipe.llm].model_dump()


def test_a_changed_recipe_resumes_from_no_state_of_the_old_one(mini):
    changed = Scale("mini", {"stages": {"sft": {"batch_size": 3}}})
    folders = [runs.state_folder(scale, "sft-granvit", "0") for scale in (mini, changed)]
    assert folders[0].startswith("state/mini/sft/sft-granvit/seed0-") and folders[0] != folders[1]
    assert runs.state_folder(mini, "sft-granvit", "1") != folders[0]


def test_a_tables_cells_depend_on_its_own_layout_and_not_on_other_tables():
    tables = load_tables()
    settings = tables["table1"].settings
    assert settings["caption"] == tables["table1"].layout.caption
    assert settings["benchmarks"] == tables["table3"].settings["benchmarks"]
    assert "tables" not in settings


def test_another_judge_is_a_reason_to_score_again_and_another_address_is_not(mini):
    assert runs.judge_settings(mini) is None

    def judged(url: str, model: str):
        return runs.judge_settings(Scale("mini", {"evaluation": {"judge": {"url": url, "model": model}}}))

    assert judged("http://a/v1", "one") == judged("http://b/v1", "one") != judged("http://a/v1", "two")


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"prompt": "choice"}, {"asked", "scored"}),  # the score file says the prompt
        ({"max_new_tokens": 7}, {"asked", "scored"}),
        ({"split_prefix": "test"}, {"asked", "scored"}),
        ({"tsv": "Other.tsv"}, {"asked", "scored"}),
        ({"rule": "docvqa_anls"}, {"scored"}),
        ({"md5": "0" * 32}, {"scored"}),
        ({"capability": "Other"}, set()),
    ],
)
def test_a_changed_line_of_benchmarks_is_a_reason_to_ask_or_to_score_again(mini, monkeypatch, change, again):
    def settings() -> dict:
        return {"asked": runs.asked_settings(mini), "scored": runs.scored_settings(mini)}

    before, lines = settings(), load_benchmarks()
    changed = [replace(lines[0], **change), *lines[1:]]
    monkeypatch.setattr(runs, "load_benchmarks", lambda: changed)
    after = settings()
    assert {name for name in before if before[name] != after[name]} == again
    for name in before:  # and which one it is can be told
        rows = after[name].pop("rows").items()
        assert {row for row, values in rows if before[name]["rows"][row] != values} <= {lines[0].name}
    json.dumps(before)


def test_jobs_that_ask_and_jobs_that_score_depend_on_their_part_of_the_benchmarks():
    text = Path("rules/evaluate.smk").read_text()
    asking, scoring = text.split("rule score_benchmarks:")
    assert "questions=for_job(runs.asked_settings)," in asking
    assert "questions=for_job(runs.scored_settings)," in scoring and "asked_settings" not in scoring


def test_questions_follow_from_where_they_are_and_what_they_are_rendered_from(mini):
    settings = runs.question_settings(mini)
    assert settings["folder"] == mini.config.data.benchmarks
    assert settings["rendered"] == mini.config.data.rendered_questions and settings["version"] >= 1


def test_the_paper_scale_has_the_papers_numbers(paper):
    """Sec. 3 (filters) and Sec. 5.1 (training): a slip in config/ would change every result in silence."""
    for rules in (paper.config.data.filters.natural, paper.config.data.filters.ocr):
        assert (rules.min_image_side, rules.image_aspect, rules.min_regions) == (448, 3.0, 1)
        assert (rules.box_aspect, rules.min_box_area) == (3.0, 100 * 100)
    assert paper.config.data.filters.natural.box_rules and not paper.config.data.filters.ocr.box_rules
    stages = {name: paper.recipe(name) for name in ("stage1-granvit", "stage2-granvit", "sft-granvit")}
    for recipe in stages.values():
        assert (recipe.batch_size, recipe.epochs) == (256, 1.0)
        assert {rate for rate in recipe.learning_rate.model_dump().values() if rate} == {1e-5}
    distillation = stages["stage1-granvit"].distillation
    assert (distillation.weight, distillation.ema_decay) == (1.0, 0.9)
    assert stages["stage2-granvit"].mixture == "caption2bbox-24M"
