"""Figures 1b, 8 and 9: patches lie where they belong, and nothing is drawn below the threshold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from granvit.config.figures import load_figures
from granvit.errors import GranvitError
from granvit.reporting.drawing import save_figure
from granvit.reporting.map_figures import maps_page, overlaid, patch_box, stretched

WHITE = Image.new("RGB", (80, 80), "white")


def test_map_below_the_threshold_leaves_the_picture_as_it_is():
    values = np.zeros((4, 4))
    values[1, 2], values[3, 0] = 1.0, 0.29
    shown = np.asarray(overlaid(WHITE, values, 0.3))
    coloured = (shown != 255).any(axis=2)
    assert coloured[20:40, 40:60].all() and coloured.sum() == 400  # row 1, column 2; white stays white
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
    assert (np.asarray(overlaid(WHITE, values)) != 255).any(axis=2).all()


def test_map_of_the_padded_square_is_cut_to_the_picture():
    wide = Image.new("RGB", (80, 40), "black")  # 20 pixels of padding above and below
    values = np.zeros((4, 4))
    values[0], values[1, 3] = 1.0, 1.0
    coloured = (np.asarray(overlaid(wide, values, 0.5)) != 128).any(axis=2)
    assert coloured[:20, 60:].all() and coloured.sum() == 400


def test_query_box_is_its_patch_on_the_picture():
    assert patch_box({"grid": 4, "row": 1, "column": 3}, 80, 40) == [60, 0, 80, 20]
    assert patch_box({"grid": 2, "row": 0, "column": 1}, 30, 90) == [15, 0, 30, 45]


def test_stretching_takes_no_notice_of_padding():
    values = np.full((4, 4), 9.0)
    values[1:3] = [[0, 1, 2, 4], [0, 0, 0, 0]]
    assert stretched(values, 80, 40)[1].tolist() == [0, 0.25, 0.5, 1]
    assert stretched(np.full((4, 4), 0.1), 80, 80).tolist() == np.zeros((4, 4)).tolist()


@pytest.fixture
def files(tmp_path):
    draw = np.random.default_rng(2)
    arrays, points = {}, []
    for number, (width, height) in enumerate([(64, 64), (90, 40), (40, 90)]):
        arrays[f"{number}.picture"] = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        patches = {}
        for name, side in (("GranViT", 8), ("SigLIP2", 4)):
            arrays[f"{number}.{name}.attention"] = draw.random((side, side), dtype=np.float32)
            arrays[f"{number}.{name}.cosine"] = draw.random((side, side), dtype=np.float32)
            patches[name] = {"grid": side, "row": side // 2, "column": 1}
        point = {"key": f"image {number}", "width": width, "height": height, "point": [0.5, 0.5], "box": None}
        points.append(point | {"patches": patches})
    save_file(arrays, tmp_path / "maps.safetensors")
    (tmp_path / "maps.json").write_text(json.dumps({"points": points}))
    return tmp_path / "maps.safetensors", tmp_path / "maps.json"


def test_page_names_its_keys_and_is_the_same_bytes_for_the_same_maps(files, tmp_path):
    for name, threshold in (("one", 0.3), ("two", 0.3), ("other", 0.6)):
        page, shown = maps_page(*files, "Figure 8", ["SigLIP2", "GranViT"], threshold, "mini")
        save_figure(page, tmp_path / f"{name}.png", shown)
    one, two, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other
    facts = json.loads((tmp_path / "one.json").read_text())
    assert facts["keys"] == ["image 0", "image 1", "image 2"]
    assert facts["queries"][1] == {"key": "image 1", "point": [0.5, 0.5], "box": None}


def test_figure_without_images_says_so(tmp_path):
    save_file({}, tmp_path / "maps.safetensors")
    (tmp_path / "maps.json").write_text('{"points": []}')
    page, shown = maps_page(
        tmp_path / "maps.safetensors", tmp_path / "maps.json", "Figure 9", ["GranViT"], 0.3, "smoke"
    )
    save_figure(page, tmp_path / "figure9.png", shown)
    assert shown["keys"] == [] and (tmp_path / "figure9.png").is_file()


def test_missing_maps_are_named_with_their_command(files, tmp_path):
    with pytest.raises(GranvitError, match=r"nowhere: cannot be read.*snakemake"):
        maps_page(tmp_path / "nowhere", files[1], "", ["GranViT"], 0.3, "mini")


def test_paper_shows_twelve_query_points():
    figures = load_figures()
    shown = [figures.figure1b, figures.figure8, figures.figure9]
    assert sum(points.images * points.points for points in shown) == 12
    assert figures.attention_maps.threshold == 0.3
    assert list(figures.attention_maps.encoders) == ["AIMv2", "SAILViT", "SigLIP2", "GranViT"]
