"""`dvc repro` makes Table 1, `dvc repro paper` everything: the stages of dvc.yaml around a workflow that only
writes down what it is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, call, commit

ASKED = "asked.txt"
WORKFLOW = f"""#!/usr/bin/env bash
echo "$@" >> {ASKED}
for target in "$@"; do
  case $target in
    data) mkdir -p results/smoke/data/{{packed,mixtures}}
      touch results/smoke/data/{{filter_report,rejects,contamination,annotation_audit}}.csv
      touch results/smoke/data/contamination.parquet ;;
    pretrain) mkdir -p results/smoke/{{projector,stage1,stage2}} ;;
    finetune) mkdir -p results/smoke/sft ;;
    evaluate) mkdir -p results/smoke/{{predictions,scores,verdicts,chance}} ;;
    results/table1.csv) mkdir -p results/smoke/{{tables,figures}} .snakemake/metadata
      touch results/table1.{{csv,md}} results/figure1a.{{png,pdf,json}} ;;
    all) touch results/smoke/sft/another_run ;;
    *averages.json) echo '{{"OCR": 1}}' > "$target" ;;
  esac
done
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in pipeline["stages"].items():
        if name != "paper":
            stage["deps"] = ["config"]
    del pipeline["params"], pipeline["plots"]
    for folder in ("config", "workflow_scripts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (tmp_path / "config/config.yaml").write_text("scale: smoke\n")
    (tmp_path / ".gitignore").write_text(f"/results/\n/.snakemake/\n{ASKED}\n")
    shutil.copy(ROOT / "workflow_scripts/repro_paper.sh", tmp_path / "workflow_scripts")
    (tmp_path / "workflow_scripts/run_graph.sh").write_text(WORKFLOW)
    (tmp_path / "workflow_scripts/run_graph.sh").chmod(0o755)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    commit(tmp_path, "clone")
    return tmp_path


@pytest.mark.slow
def test_repro_passes_the_paper_by_until_it_is_asked_for_by_name(checkout):
    said = call(checkout, "dvc", "repro")
    assert "`dvc repro paper` makes every other table and figure" in said
    asked = (checkout / ASKED).read_text().splitlines()
    assert asked[:4] == ["data", "pretrain", "finetune", "evaluate"] and len(asked) == 5
    call(checkout, "dvc", "repro", "paper")
    assert (checkout / ASKED).read_text().splitlines()[5:] == [
        "all report results/smoke/tables/averages.json"
    ]
    # What it has added to the folders of other stages is DVC's now, and makes nothing again
    assert "Data and pipelines are up to date" in call(
        checkout, "dvc", "status", "data", "pretrain", "finetune", "evaluate", "report"
    )
    shutil.rmtree(checkout / "results")
    call(checkout, "dvc", "checkout")
    assert (checkout / "results/smoke/sft/another_run").exists()
