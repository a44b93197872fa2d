"""The miniature's gates: what passes, what does not, what was not measured."""

from __future__ import annotations

import json

import pytest

from granvit.config.gates import load_gates
from granvit.config.tables import load_tables
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import slug
from granvit.reporting.gates import Gate, baseline_gates, page_gate, standin_gates, write_gates

LIMITS = {"shape": [0.5, 0.65], "row": [0.9, 1.0]}


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_a_standin_fails_outside_its_limits_and_where_it_was_not_measured(tmp_path):
    manifests = {
        "CLIP": written(tmp_path / "CLIP.json", {"probe": {"shape": 0.5, "row": 1.0}}),
        "SigLIP": written(tmp_path / "SigLIP.json", {"probe": {"shape": 0.66}}),
    }
    gates = list(standin_gates(LIMITS, manifests, "probe"))
    assert [(gate.what, gate.measure, gate.passes) for gate in gates] == [
        ("CLIP", "shape", True), ("CLIP", "row", True), ("SigLIP", "shape", False), ("SigLIP", "row", False)
    ]  # fmt: skip
    with pytest.raises(GranvitError, match="AIMv2.json"):
        list(standin_gates(LIMITS, {"AIMv2": tmp_path / "AIMv2.json"}, "probe"))


def write_scores(root, gates, shared, score, half):
    """Every score file of the baseline's rows: the same score and interval for each."""
    splits, files = {}, {}
    for name in [row for found in gates.baseline.capabilities.values() for row in found.rows]:
        cell = shared.benchmarks[name]
        unit = {"score": score * cell.divide, "n": 10}
        unit["interval"] = [(score - half) * cell.divide, (score + half) * cell.divide]
        if cell.split:
            splits.setdefault(cell.benchmark, {})[cell.split] = unit
        files[cell.benchmark] = unit | {"splits": splits.get(cell.benchmark, {})}
    for name, content in files.items():
        folder = root / gates.baseline.recipe / f"seed{gates.baseline.seed}"
        written(folder / f"{slug(name)}.json", content)


@pytest.mark.parametrize(
    ("score", "chance", "passing"),
    [(60.0, 20.0, {"RefCOCO": (True, True), "OCR": (True, True)}),
     (65.0, 20.0, {"RefCOCO": (True, True), "OCR": (True, False)}),
     (24.0, 20.0, {"RefCOCO": (False, True), "OCR": (True, True)})],
    ids=["room and above", "above the ceiling's share", "not clear of chance"],
)  # fmt: skip
def test_a_baseline_lies_between_chance_and_a_share_of_its_ceiling(tmp_path, score, chance, passing):
    """RefCOCO's rows share their images, so their intervals add up; OCR's do not."""
    gates, shared = load_gates(), load_tables()["table1"].shared
    write_scores(tmp_path / "scores", gates, shared, score, half=2.5)
    write_scores(tmp_path / "chance", gates, shared, chance, half=2.5)
    symbols = {"caption to box, scenes": 1.0, "reading": 0.9}
    rows = list(baseline_gates(gates, shared, tmp_path / "scores", tmp_path / "chance", symbols))
    found = {name: tuple(gate.passes for gate in rows if gate.measure.startswith(name)) for name in passing}
    assert found == passing
    assert [gate.high for gate in rows[1::2]] == [70.0, 63.0]


def test_pages_cost_no_more_by_an_annotators_boxes_than_the_gate_allows(tmp_path):
    gates = load_gates()
    for ratio, passes in ((1.0999, True), (1.2, False)):
        losses = written(tmp_path / "losses.json", {"ratio": ratio, "questions": 40})
        assert page_gate(gates, losses).passes is passes


def test_the_table_counts_what_fails(tmp_path):
    rows = [Gate("CLIP", "shape", 0.5, 0.65, 0.6), Gate("CLIP", "word", 0.5, 0.65, None)]
    write_gates(rows, "mini", tmp_path / "gates.csv", tmp_path / "gates.md")
    text = (tmp_path / "gates.md").read_text()
    assert "1 of 2 gates fail" in text and "| CLIP | word | 0.5 | 0.65 |  | NO |" in text
    assert (tmp_path / "gates.csv").read_text().splitlines()[1] == "CLIP,shape,0.5,0.65,0.6,yes"
