"""The command line ``granvit``: numbers of a table from predictions alone, and the other commands on them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_world import ROOT, make_answers, make_data

from granvit.cli import main
from granvit.config.tables import load_tables, required_leaves
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.xlsx import read_sheet
from granvit.reporting.recompute import recompute_table

SCALE = "mini"
FOLDER = "results/mini/predictions/sft-granvit/seed0"


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
    verdicts = (made / "results/mini/verdicts/sft-granvit/seed0/GQA.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in verdicts] == ["?"] * 8


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


def test_exported_predictions_are_scored_as_those_they_were_made_of(made, capsys):
    assert main(["eval", "export", FOLDER, "out", "--format", "vlmevalkit", "--scale", SCALE]) == 0
    capsys.readouterr()
    for folder, form in ((FOLDER, "granvit"), ("out", "vlmevalkit")):
        assert main(["eval", "score", folder, "--scale", SCALE, "--format", form, "--out", form]) == 0
    files = sorted(path.name for path in (made / "granvit").iterdir())
    assert len(files) == 20 and files == sorted(path.name for path in (made / "vlmevalkit").iterdir())
    assert all(
        (made / "granvit" / name).read_bytes() == (made / "vlmevalkit" / name).read_bytes() for name in files
    )


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
        (["compare", "a", "b"], "a: no predictions there"),
        (["score", "x", "--limit", "0"], "--limit is 0; expected 1 or more"),
        (["score", "--table", "table1", "--limit", "3"], "--limit and --format take folders"),
        (["predict", "m", "o", "--batch-size", "0"], "--batch-size is 0; expected 1 or more"),
        (["predict", "m", "o", "--batch-size", "-4"], "--batch-size is -4; expected 1 or more"),
        (["predict", "m", "o", "--devices", "0"], "--devices is 0; expected 1 or more"),
        (["predict", "m", "o", "--limit", "-1"], "--limit is -1; expected 1 or more"),
        (["predict", "m", "o", "--shard", "4/4"], "--shard is '4/4'; expected I/N with I from 0 to N - 1"),
        (["predict", "m", "o", "--shard", "x"], "--shard is 'x'; expected I/N"),
        (["predict", "m", "o", "--shard", "0/2", "--merge"], "--shard, --merge and --devices do not go"),
        (["predict", "m", "o", "--shard", "0/2", "--devices", "2"], "do not go together"),
        (["predict", "nowhere", "o"], "nowhere: no model there; expected results/"),
        (
            ["score", FOLDER, "--scale", SCALE, "--out", "a.file"],
            "a.file: cannot be read or written .File",
        ),
        (["score", FOLDER, "--scale", SCALE, "--out", "a.file/x"], "a.file.*: cannot be .* .Not a directory"),
        (["score", FOLDER, "--scale", SCALE, "--verdicts", "/proc/x"], "/proc/x: cannot be read or written"),
        (["export", FOLDER, "a.file", "--format", "vlmevalkit", "--scale", SCALE], "a.file: cannot be read"),
        (["table", FOLDER, FOLDER, "--scale", SCALE], "two columns are called 'results.*; give NAME=FOLDER"),
        (
            ["table", FOLDER, "--scale", SCALE, "--out", "x.pdf"],
            "x.pdf: expected a file that ends with",
        ),
        (
            ["score", "a.folder", "--format", "vlmevalkit"],
            "a.folder: no predictions there; .*of vlmeval",
        ),
        (["score", "a.folder", "--benchmarks", "GQA"], "a.folder: no predictions of GQA, which --benchmarks"),
        (["compare", FOLDER, "a.folder", "--scale", SCALE], "a.folder: no predictions there"),
        (["export", "a", "b", "--format", "vlmevalkit"], "a: no predictions there"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(made, capsys, arguments, message):
    (made / "a.file").write_text("")
    (made / "a.folder").mkdir()
    assert main(["eval", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


def test_outside_the_projects_folder_the_way_in_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "score", "x", "--scale", SCALE]) == 1
    assert f"{tmp_path}: there is no config/config.yaml here; run `granvit` in" in capsys.readouterr().err


def test_a_benchmark_that_was_asked_for_and_has_no_answers_is_not_passed_over(made, capsys):
    (made / FOLDER / "GQA.jsonl").rename(made / FOLDER / "GQUA.jsonl")
    asked = ["--scale", SCALE, "--benchmarks", "MMStar,GQA"]
    export = ["export", FOLDER, "out", "--format", "vlmevalkit"]
    for command in (["score", FOLDER], ["table", FOLDER], ["compare", FOLDER, FOLDER], export):
        assert main(["eval", *command, *asked]) == 1
        error = capsys.readouterr().err
        assert "no predictions of GQA, which --benchmarks asks for" in error
        if command is not export:
            assert "GQUA.jsonl: not scored, config/benchmarks.tsv has no benchmark of that name" in error


def test_a_benchmark_that_is_named_twice_is_asked_once(made, monkeypatch):
    given = []
    monkeypatch.setattr(
        "granvit.evaluation.launch.predict_on_devices", lambda job, processes: given.append(job)
    )
    main(["eval", "predict", "m", "o", "--scale", SCALE, "--benchmarks", "MMVP,GQA,MMVP", "--limit", "3"])
    assert [benchmark.name for benchmark in given[0].benchmarks] == ["MMVP", "GQA"]
    assert (given[0].limit, given[0].reuse) == (3, True)


def test_shards_and_their_merge_are_commands(made, monkeypatch):
    done = []
    monkeypatch.setattr("granvit.evaluation.launch.predict_shard", lambda job, *part: done.append(part))
    monkeypatch.setattr("granvit.evaluation.launch.merge", lambda job: done.append("merge"))
    for options in (["--shard", "0/2"], ["--shard", "1/2"], ["--merge"]):
        assert main(["eval", "predict", "m", "o", "--scale", SCALE, *options]) == 0
    assert done == [(0, 2), (1, 2), "merge"]


def test_verdicts_are_written_a_line_a_question(made):
    assert main(["eval", "score", FOLDER, "--scale", SCALE, "--verdicts", "verdicts"]) == 0
    files = sorted((made / "verdicts").iterdir())
    assert [path.name for path in files] == sorted(path.name for path in (made / FOLDER).iterdir())
    lines = [json.loads(line) for line in (made / "verdicts" / "GQA.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and {"index", "prediction", "read", "gold", "score", "category"} == set(lines[0])


def test_a_comparison_says_who_read_the_answers(made, capsys, monkeypatch):
    arguments = ["eval", "compare", FOLDER, FOLDER, "--scale", SCALE, "--benchmarks", "MMVet,GQA"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"MMVet .*  none \(rule-based\)", printed) and re.search("GQA .*  not needed", printed)
    monkeypatch.setattr("granvit.servers.endpoint.Endpoint._pause", lambda self, state: 0.0)
    assert main([*arguments, "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--json"]) == 0
    rows = {row["benchmark"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["MMVet"]["judge"] == ["rules (judge m failed: 8 of 8)"] * 2


@pytest.mark.parametrize("suffix", [".csv", ".md", ".xlsx"])
def test_several_sets_of_predictions_stand_side_by_side(made, capsys, suffix):
    other = FOLDER.replace("granvit", "siglip2")
    (made / other / "GQA.jsonl").unlink()
    out = f"tables/side{suffix}"
    assert main(["eval", "table", f"ours={FOLDER}", other, "--scale", SCALE, "--out", out]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    if suffix == ".xlsx":
        header, *rows = read_sheet(made / out)
    elif suffix == ".csv":
        header, *rows = csv.reader((made / out).open(newline=""))
    else:
        lines = [line.strip("| ").split(" | ") for line in (made / out).read_text().splitlines()]
        header, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert header == ["Capability", "Benchmark", "Questions", "ours", other, "Judge"]
    found = {row[1]: row for row in rows}
    score = json.loads((made / "results/mini/scores/sft-granvit/seed0/GQA.json").read_text())["score"]
    assert float(found["GQA"][3]) == pytest.approx(score, abs=0.01) and found["GQA"][4] == ""
    assert {"RefCOCO: RefCOCO_testA", "MMVet", "ChartQA: test_human"} <= set(found)
    assert found["MMVet"][-1] == "none (rule-based)"
