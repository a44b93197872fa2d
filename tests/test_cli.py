"""The command line ``granvit``: numbers of a table from predictions alone, and the other commands on them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from benchmark_world import ROOT, make_answers, make_data

from granvit.cli import main
from granvit.config.tables import load_tables, required_leaves
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.reporting.recompute import recompute_table

SCALE = "mini"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder as Table 1 leaves it: config, benchmark files, predictions, scores and the table."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(ROOT / "config", folder / "config")
    results = folder / "results" / SCALE
    data, spec = make_data(results / "benchmarks"), load_tables(ROOT / "config" / "tables.yaml")["table1"]
    for recipe in required_leaves(spec):
        make_answers(results / "predictions" / recipe / "seed0", data, recipe)
    make_answers(results / "chance/predictions" / spec.layout.chance / "seed0", data, "chance")
    benchmarks = load_benchmarks(ROOT / "config" / "benchmarks.tsv")
    text, _ = recompute_table(spec, benchmarks, str(data), results, SCALE, 0, None, print, write=True)
    for table in (results / "tables" / "table1.csv", folder / "results" / "table1.csv"):
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(text)
    return folder


@pytest.fixture
def made(finished, tmp_path, monkeypatch):
    """A copy of the finished run that a test may change; the working directory."""
    folder = shutil.copytree(finished, tmp_path / "made")
    monkeypatch.chdir(folder)
    return folder


CHECK = ["eval", "score", "--scale", SCALE, "--table", "table1", "--check"]


def test_every_number_of_table_1_is_found_again_without_torch(finished):
    code = (
        "import sys; from granvit.cli import main; status = main(sys.argv[1:]); "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *CHECK], cwd=finished, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (finished / "results" / "table1.csv").read_text()
    assert done.stderr.splitlines() == ["table1: 0 numbers on disk differ from those recomputed", "[]"]


def test_a_score_that_was_touched_is_found(made, capsys):
    path = made / "results/mini/scores/sft-clip/seed0/GQA.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "score": content["score"] + 1}))
    assert main(CHECK) == 1
    assert "sft-clip/seed0/GQA.json: score is" in capsys.readouterr().err


def test_a_cell_that_was_touched_is_found_in_either_copy_of_the_table(made, capsys):
    for copy in ("results/table1.csv", "results/mini/tables/table1.csv"):
        text = (made / copy).read_text()
        row = next(line for line in text.splitlines() if ",MMVP," in line)
        (made / copy).write_text(text.replace(row, row.replace(",mini", "9,mini")))
        assert main(CHECK) == 1
        assert f"{copy}: Fine-Grained MMVP, GranViT: " in capsys.readouterr().err
        (made / copy).write_text(text)
    assert main(CHECK) == 0


def test_a_table_of_another_scale_under_the_short_name_is_not_compared(made):
    path = made / "results/table1.csv"
    path.write_text(path.read_text().replace(",mini", ",smoke").replace("0.00", "1.00"))
    assert main(CHECK) == 0


def test_scores_of_an_older_version_lack_keys_and_are_no_difference(made):
    kept = ("benchmark", "score", "n", "rule", "judge", "failed_extractions", "official_data", "splits")
    for path in (made / "results/mini/scores").rglob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: content[key] for key in kept if key in content}))
    assert main(CHECK) == 0


def test_changed_predictions_give_other_scores_and_write_puts_them_on_disk(made, capsys):
    path = made / "results/mini/predictions/sft-granvit/seed0/GQA.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "prediction": "?"}) + "\n" for line in lines))
    assert main(CHECK) == 1
    assert main([*CHECK[:-1], "--write"]) == 0
    assert json.loads((made / "results/mini/scores/sft-granvit/seed0/GQA.json").read_text())["score"] == 0.0


def test_scores_of_folders_are_printed_and_written(made, capsys):
    folder = "results/mini/predictions/sft-granvit/seed0"
    assert main(["eval", "score", folder, "--scale", SCALE, "--out", "again"]) == 0
    printed = capsys.readouterr().out
    assert "RefCOCO+" in printed and "none (rule-based)" in printed
    scores = sorted((made / "results/mini/scores/sft-granvit/seed0").iterdir())
    assert scores
    for path in scores:
        assert (made / "again" / path.name).read_bytes() == path.read_bytes()
    assert main(["eval", "score", folder, "--scale", SCALE, "--json", "--benchmarks", "GQA,MMVP"]) == 0
    assert set(json.loads(capsys.readouterr().out)[folder]) == {"GQA", "MMVP"}


def test_two_models_are_compared_question_by_question(made, capsys):
    a, b = (f"results/mini/predictions/sft-{name}/seed0" for name in ("granvit", "siglip2"))
    assert main(["eval", "compare", a, b, "--scale", SCALE, "--json"]) == 0
    rows = {row["benchmark"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 20
    for row in rows.values():
        assert row["difference"] == pytest.approx(row["a"] - row["b"])
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        assert row["clear"] == (not row["interval"][0] <= 0 <= row["interval"][1])
    assert main(["eval", "compare", a, a, "--scale", SCALE, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 20 and all(row["interval"] == [0.0, 0.0] for row in rows)


def test_a_judge_of_the_command_line_that_is_down_ends_nothing(made, capsys, monkeypatch):
    monkeypatch.setattr("granvit.servers.endpoint.Endpoint._pause", lambda self, state: 0.0)
    arguments = ["--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--scale", SCALE, "--json"]
    folder = "results/mini/predictions/sft-granvit/seed0"
    assert main(["eval", "score", folder, *arguments]) == 0
    printed = capsys.readouterr()
    scores = json.loads(printed.out)[folder]
    assert len(scores) == 20 and scores["MMVet"]["judge_failures"] == 8
    assert sum(line.startswith("MMVet: question ") for line in printed.err.splitlines()) == 8


def test_exported_files_are_named(made, capsys):
    folder = "results/mini/predictions/sft-granvit/seed0"
    assert main(["eval", "export", folder, "out", "--format", "vlmevalkit", "--scale", SCALE]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(
        f"out/{path.name}" for path in (made / "out").iterdir()
    )


def test_predict_hands_its_arguments_to_the_predictor(made, monkeypatch):
    given = []
    monkeypatch.setattr(
        "granvit.evaluation.launch.predict_on_devices", lambda job, processes: given.append((job, processes))
    )
    assert (
        main(["eval", "predict", "model", "out", "--scale", SCALE, "--benchmarks", "MMVP", "--devices", "3"])
        == 0
    )
    ((job, processes),) = given
    assert (job.model_dir, job.out_dir, processes) == (Path("model"), Path("out"), 3)
    assert job.data_dir == Path("results/mini/benchmarks") and [b.name for b in job.benchmarks] == ["MMVP"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "give folders of predictions, or --table"),
        (["score", "x", "--table", "table1"], "give folders of predictions, or --table"),
        (["score", "x", "--check"], "need --table"),
        (["score", "a", "b", "--out", "c"], "--out takes the scores of one folder"),
        (["score", "nowhere"], "nowhere: no predictions there"),
        (["score", "--table", "table7"], "there is no table 'table7'; it has table1"),
        (["score", "x", "--benchmarks", "MMStarr"], "there is no benchmark 'MMStarr'; it has RefCOCO"),
        (["score", "x", "--judge-url", "http://h/v1"], "--judge-model: .*needs a model"),
        (["score", "x", "--scale", "huge"], "'huge' is not a scale"),
        (["compare", "a", "b"], "no benchmark has predictions in both"),
        (["export", "a", "b", "--format", "vlmevalkit"], "a: no predictions there"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(made, capsys, arguments, message):
    assert main(["eval", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


def test_the_installed_command_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["granvit"] == f"{main.__module__}:{main.__name__}"
