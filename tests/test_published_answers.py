"""docs/paper_mini.md: its verdicts are those of the answers that are published beside it."""

from __future__ import annotations

import csv
import io
import tarfile

import pytest
from conftest import ROOT, call, copy_repository

from granvit.evaluation.benchmarks import load_benchmarks

PAGE, ANSWERS = ROOT / "docs/paper_mini.md", ROOT / "docs/paper_mini_answers.tar.xz"
TABLES = "results/mini/tables"


def published(name: str) -> str:
    with tarfile.open(ANSWERS) as archive:
        file = archive.extractfile(f"{TABLES}/{name}")
        assert file is not None
        return file.read().decode()


def test_every_verdict_of_the_page_is_in_the_published_table():
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [
        line for line in published("claims.md").splitlines() if line.startswith("| ") and " | 1 | " in line
    ]
    assert len(rows) == 28 + 9
    assert [row for row in rows if row not in page] == []


def test_tables_of_the_other_page_are_the_published_ones():
    page = (ROOT / "docs/paper_mini_tables.md").read_text(encoding="utf-8").splitlines()
    rows = {line for line in page if line.startswith("| ")}
    told = [line for name in ("table2", "table8", "table11") for line in published(f"{name}.md").splitlines()]
    assert len(rows) > 90 and rows <= {*told}


def test_archive_holds_plain_files_under_results_alone():
    with tarfile.open(ANSWERS) as archive:
        members = archive.getmembers()
    assert len(members) > 1000
    assert all(one.isfile() and one.name.startswith("results/mini/") for one in members)
    assert not any(".." in one.name for one in members)


@pytest.mark.graph
def test_a_claim_is_tested_again_from_the_published_answers_and_nothing_is_trained(tmp_path):
    folder = copy_repository(tmp_path)
    files = sorted({f"results/mini/benchmarks/{one.tsv}" for one in load_benchmarks()})
    call(folder, "snakemake", "--config", "scale=mini", "--", *files)
    call(folder, "tar", "-xmf", "docs/paper_mini_answers.tar.xz")
    (folder / TABLES / "claims.csv").unlink()
    asked = ("scale=mini", "seed=3", "comparison_seeds=[3]", "claims=[gain-ocr]")
    output = call(folder, "snakemake", "--config", *asked, "--", "claims")
    assert "train_" not in output and "predict_" not in output
    made, told = (
        next(row for row in csv.DictReader(io.StringIO(text)) if row["id"] == "gain-ocr")
        for text in ((folder / TABLES / "claims.csv").read_text(), published("claims.csv"))
    )
    assert made == told
