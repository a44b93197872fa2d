"""Fig. 4a from training logs."""

from __future__ import annotations

import pytest

from granvit.errors import GranvitError
from granvit.reporting import curves
from granvit.reporting.curves import heldout_curves

HEADER = "step,images,loss,heldout_rouge_l,heldout_acc_iou50\n"


def write_log(path, *rows):
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture
def logs(tmp_path):
    first = write_log(tmp_path / "stage1.csv", "0,0,,0.1,0.02", "4,32,1.5,,", "8,64,1.1,0.5,0.13")
    return [[first], [write_log(tmp_path / "stage2.csv", "0,0,,0.5,0.13", "8,64,0.9,0.53,0.6")]]


def test_curves_are_the_same_bytes_for_the_same_logs_and_others_for_others(logs, tmp_path):
    for name in ("one.png", "two.png"):
        heldout_curves(logs, tmp_path / name, "mini", {})
    write_log(logs[1][0], "0,0,,0.5,0.13", "8,64,0.9,0.53,0.2")
    heldout_curves(logs, tmp_path / "other.png", "mini", {})
    one, two, other = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png", "other.png"))
    assert one == two != other


def test_log_without_heldout_evaluation_is_refused_with_the_remedy(logs, tmp_path):
    write_log(logs[1][0], "4,32,1.5,,")
    with pytest.raises(GranvitError, match=r"stage2\.csv: holds no held-out evaluation; set eval_every"):
        heldout_curves(logs, tmp_path / "figure.png", "mini", {})
    with pytest.raises(GranvitError, match=r"nowhere\.csv: no such training log"):
        heldout_curves([[tmp_path / "nowhere.csv"]], tmp_path / "figure.png", "mini", {})


def test_several_seeds_are_a_mean_in_a_band_from_lowest_to_highest(logs, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, *_: made.append(figure.axes[0]))
    heldout_curves(logs, tmp_path / "one.png", "mini", {})
    other = write_log(tmp_path / "seed1.csv", "0,0,,0.3,0.02", "8,64,1.1,0.7,0.23")
    heldout_curves([[*logs[0], other], logs[1] * 2], tmp_path / "two.png", "mini", {})
    one, two = made
    assert not one.collections and "one seed" in one.get_title()
    assert len(two.collections) == 4 and "2 seeds" in two.get_title()
    assert one.get_ylim() == two.get_ylim() == (0, 100)
    rouge = two.lines[0]
    assert rouge.get_xdata().tolist() == [0, 64]
    assert rouge.get_ydata().tolist() == pytest.approx([20, 60])
    band = two.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band.round(6).tolist()} >= {(0, 10), (0, 30), (64, 50), (64, 70)}
