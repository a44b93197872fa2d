"""The audit of the paper's arithmetic: what follows, what does not, and that rounding is no inconsistency."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granvit.config.tables import load_tables
from granvit.errors import GranvitError
from granvit.reporting.audit import CUT, FAILS, FOLLOWS, Paper, as_printed, compare, make_audit

REPORTED = Path(__file__).parents[1] / "config/reported"


@pytest.fixture
def tables():
    return load_tables()["table1"].shared


@pytest.fixture
def folder(tmp_path) -> Path:
    return shutil.copytree(REPORTED, tmp_path / "reported")


def verdicts(folder: Path, tables) -> dict[tuple[str, str], str]:
    return {(one.where, one.what): one.verdict for one in Paper(folder, tables).findings()}


def test_numbers_that_are_known_not_to_follow_are_found(tables):
    found = Paper(REPORTED, tables).findings()
    failing = {(one.where, one.what): one for one in found if one.verdict != FOLLOWS}
    best = failing["Table 1", "Fine-Grained average of GranViT"]
    assert (best.stated, best.recomputed, best.verdict) == ("80.78", "79.744", FAILS)
    assert failing["Sec. 5.4", "Fine-Grained: gain of stage 1"].recomputed == "1.86"
    assert failing["Sec. 5.2", "Reasoning: GranViT below SigLIP2"].verdict == CUT
    assert failing["Table 1", "second best of OCR ChartQA"].recomputed == "SigLip2"
    assert ("Table 3", "Fine-Grained of SigLip2") not in failing  # the mean of five, not of ten
    assert len(found) > 200 and len(failing) < 30


@pytest.mark.parametrize(
    ("file", "old", "new", "where", "what"),
    [
        ("results.csv", "Average,CLIP,51.02", "Average,CLIP,51.04", "Table 1", "VQA average of CLIP"),
        ("results.csv", "OB,SigLip2,584", "OB,SigLip2,594", "Table 11", "average of SigLip2"),
        ("results.csv", "SelfDistillation,53.02", "SelfDistillation,53.12", "Table 5", "OCR of"),
        ("gran29m_groups.csv", "29.51M", "29.81M", "Table 7", "images, TOTAL"),
        ("gran29m_sources.csv", "CC12M,4909682", "CC12M,5909682", "Table 7", "images of UMG-41M"),
        ("quoted.csv", "2.83", "2.93", "Sec. 5.2", "Fine-Grained: GranViT above the second best"),
        ("second_best.csv", "RefCOCO_val,SAILViT", "RefCOCO_val,AIMv2", "Table 1",
         "second best of Fine-Grained RefCOCO_val"),
    ],
)  # fmt: skip
def test_a_planted_slip_is_found_where_it_stands(folder, tables, file, old, new, where, what):
    before = verdicts(folder, tables)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    after = verdicts(folder, tables)
    changed = [key for key in before if (before[key], after.get(key)) != (before[key], before[key])]
    assert any(key[0] == where and key[1].startswith(what) and after[key] == FAILS for key in changed)


@given(st.lists(st.decimals("0", "100", places=4, allow_nan=False), min_size=1, max_size=12))
def test_a_mean_of_rounded_cells_that_is_rounded_itself_always_follows(values):
    printed = [as_printed(f"{value:.2f}") for value in values]
    total = printed[0]
    for one in printed[1:]:
        total = total + one
    stated = f"{sum(values) / len(values):.2f}"
    assert compare("", "", stated, total.over(len(values)), "").verdict == FOLLOWS


def test_letters_and_whole_numbers_are_read_with_their_unit():
    assert (as_printed("27.63M").value, as_printed("27.63M").slack) == (27_630_000, 5_000)
    assert (as_printed("41K").value, as_printed("41K").slack) == (41_000, 500)
    assert (as_printed("1269").value, as_printed("1269").slack) == (1269, 0)
    with pytest.raises(GranvitError, match="'many' is no number"):
        as_printed("many")


def test_the_files_say_what_was_found_and_equal_inputs_give_equal_bytes(folder, tables, tmp_path):
    for name in ("a", "b"):
        make_audit(folder, tables, tmp_path / f"{name}.csv", tmp_path / f"{name}.md")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    rows = pd.read_csv(tmp_path / "a.csv", dtype=str)
    failing = rows[rows["verdict"] != FOLLOWS]
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert sum(line.startswith(("| Table", "| Sec.", "| App.")) for line in lines) == len(failing) > 0
    assert all(line.count("|") == 9 for line in lines if line.startswith("|"))
    (folder / "quoted.csv").unlink()
    with pytest.raises(GranvitError, match="quoted.csv: the paper's numbers are missing; restore"):
        make_audit(folder, tables, tmp_path / "c.csv", tmp_path / "c.md")
    assert not (tmp_path / "c.csv").exists()
