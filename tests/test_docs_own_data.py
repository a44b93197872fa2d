"""docs/own_data.md is run as it is written, in a copy of the repository, on real photographs and receipts."""

from __future__ import annotations

import json
import re

import pytest
from conftest import ROOT, call, copy_repository
from data_worlds import REAL

GUIDE = ROOT / "docs/own_data.md"


def blocks() -> list[str]:
    """The shell blocks of the guide, in its order."""
    return re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_all_that_the_guide_asks_for_is_a_command_that_is_run():
    text = GUIDE.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks()) and len(blocks()) == 7
    commands = {" ".join(found) for block in blocks() for found in re.findall(r"granvit (\w+) (\w+)", block)}
    assert {"data new", "data inspect", "data benchmark", "eval predict", "export encoder"} <= commands


@pytest.mark.graph
@pytest.mark.skipif(not (REAL / "sroie").is_dir(), reason="../shared/real is not there")
def test_the_guide_leads_from_two_folders_to_an_encoder(tmp_path):
    folder = copy_repository(tmp_path / "clone")
    (tmp_path / "shared").symlink_to(REAL.parent)
    script = folder / "guide.sh"
    script.write_text("set -euo pipefail\n" + "\n".join(blocks()), encoding="utf-8")
    call(folder, "bash", "guide.sh")
    rows = [line for line in (folder / "mine.tsv").read_text().splitlines() if not line.startswith("#")]
    assert [row.split("\t")[0] for row in rows] == ["name", "Photos", "Scans", "Captions"]
    looked = json.loads((folder / "inspect-Photos/inspection.json").read_text())
    packed = folder / "results/smoke/data/filter_report.csv"
    (kept,) = [line for line in packed.read_text().splitlines() if line.startswith("Photos,sequence,all,")]
    left = [str(looked[what]["kept"]) for what in ("images", "regions")]
    assert kept.split(",")[3:] == ["128", left[0], "929", left[1]], "what was looked at is what is packed"
    for answers in ("before", "after"):
        assert len((folder / f"answers/{answers}/Mine-describe.jsonl").read_text().splitlines()) > 50
    drawn = json.loads((folder / "results/smoke/data/mixtures/bbox2caption-all.summary.json").read_text())
    assert set(drawn["sources"]) == {"Photos", "Scans"} and drawn["left_out"]["held_out"] > 5
    exported = {path.name for path in (folder / "my-encoder").iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= exported
