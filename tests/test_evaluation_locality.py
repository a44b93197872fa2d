"""Locality of attention: boxes land on the right patches, and a uniform map is exactly 1."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from factories import make_encoder, make_mixture

from granvit.errors import GranvitError
from granvit.evaluation import locality
from granvit.evaluation.heldout_regions import heldout_images
from granvit.evaluation.locality import MEASURES, Place, coverage, density, measure_locality, measures
from granvit.models.encoders import load_encoder

SQUARE = (64, 64)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ([0, 0, 16, 16], SQUARE),
        ([3, 5, 41, 17.5], (100, 37)),
        ([10, 2, 11, 199], (60, 200)),
        ([0, 0, 9, 9], (9, 9)),
    ],
)
@pytest.mark.parametrize("grid", [4, 7, 8])
def test_uniform_map_is_exactly_one(box, size, grid):
    place = Place.of(box, *size, grid)
    level = np.full(grid * grid, 1 / grid**2)
    found = measures(level, np.full(grid * grid, 0.37), place)
    assert found["attention"] == found["cosine"] == 1.0
    assert found["mean_cosine_in_box"] == found["mean_cosine_in_image"] == 0.37
    assert found["attention_beyond"] in (1.0, None)


def test_all_of_the_attention_in_the_box_is_one_over_its_share():
    place = Place.of([0, 0, 32, 16], *SQUARE, 4)  # two patches of sixteen
    assert place.share == pytest.approx(1 / 8) and place.patch == 1  # its centre is on the border of two
    weights = np.zeros(16)
    weights[:2] = 0.5
    assert density(weights, place) == pytest.approx(8)
    assert density(weights[::-1], place) == 0
    # Without the query's own patch: one patch of fifteen
    assert density(weights, place.beyond) == pytest.approx(15)


def test_negative_similarity_counts_as_none():
    place = Place.of([0, 0, 16, 16], *SQUARE, 4)
    cosine = np.full(16, -0.5)
    cosine[[0, 15]] = 1.0, 0.25
    found = measures(np.full(16, 1 / 16), cosine, place)
    assert found["cosine"] == pytest.approx(16 / 1.25)
    assert found["mean_cosine_in_box"] == 1 and found["mean_cosine_in_image"] == pytest.approx(-5.75 / 16)


def test_box_inside_the_querys_patch_has_nothing_beyond_it():
    found = measures(np.full(16, 1 / 16), np.ones(16), Place.of([1, 1, 9, 9], *SQUARE, 4))
    assert found["attention"] == 1 and found["attention_beyond"] is None


def test_padding_is_no_part_of_the_image():
    whole = coverage([0, 0, 64, 32], 64, 32, 4).reshape(4, 4)  # a band in the middle of the padded square
    assert whole.tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]
    place = Place.of([0, 0, 16, 16], 64, 32, 4)
    assert place.patch == 4 and place.share == 1 / 8
    weights = np.zeros(16)
    weights[[0, 4, 5]] = 0.8, 0.1, 0.1  # most of the mass in the padding
    assert density(weights, place) == pytest.approx(4)  # half of what is on the image, on an eighth of it


def test_partly_covered_patches_count_by_their_part():
    found = coverage([8, 0, 24, 4], *SQUARE, 4)
    assert found.tolist() == [0.125, 0.125] + [0] * 14


def held_out(tmp_path):
    """Ten held-out images of two sources, three boxes each."""
    return make_mixture(tmp_path / "Things/heldout.parquet", tasks=("bbox2caption", "caption2bbox"))


def save_run(tmp_path, family="siglip"):
    """The model folder of a run, as far as its encoder goes."""
    encoder = load_encoder(make_encoder(tmp_path / "published", family))
    encoder.save(tmp_path / "model/encoder")
    return tmp_path / "model"


def test_every_heldout_box_is_one_row(tmp_path):
    mixture, model = held_out(tmp_path), save_run(tmp_path, "clip")
    out = tmp_path / "locality.parquet"
    measure_locality(model, mixture, {"Things": "natural"}, out, "cpu")
    rows = pq.read_table(out).to_pylist()
    images = list(heldout_images(mixture))
    assert [(row["key"], row["box"]) for row in rows] == [(i.key, box) for i in images for box in i.boxes]
    assert len(rows) == 30 and {row["data_type"] for row in rows} == {"natural"}
    for row in rows:
        image = next(image for image in images if image.key == row["key"])
        x1, y1, x2, y2 = row["box"]
        expected = (x2 - x1) * (y2 - y1) / (image.width * image.height)
        assert row["share"] == pytest.approx(expected, abs=1e-6)
        assert row["attention"] > 0 and row["cosine"] > 0
    before = out.read_bytes()
    measure_locality(model, mixture, {"Things": "natural"}, out, "cpu")
    assert out.read_bytes() == before


@pytest.mark.parametrize("family", ["siglip", "internvl"])
def test_encoder_that_attends_evenly_has_locality_one(tmp_path, family):
    mixture, model = held_out(tmp_path), save_run(tmp_path, family)
    encoder = load_encoder(make_encoder(tmp_path / "published", family))
    layer = getattr(encoder.layers[encoder.depth_used - 1], encoder.family.attention)
    torch.nn.init.zeros_(layer.q_proj.weight)
    encoder.save(model / "encoder")
    measure_locality(model, mixture, {"Things": "ocr"}, tmp_path / "out.parquet", "cpu")
    assert set(pq.read_table(tmp_path / "out.parquet")["attention"].to_pylist()) == {1.0}


def test_result_does_not_depend_on_how_many_images_are_looked_at_at_once(tmp_path, monkeypatch):
    mixture, model = held_out(tmp_path), save_run(tmp_path)
    found = []
    for number in (1, 16):
        monkeypatch.setattr(locality, "IMAGES_AT_ONCE", number)
        measure_locality(model, mixture, {"Things": "ocr"}, tmp_path / "out.parquet", "cpu")
        found.append(pq.read_table(tmp_path / "out.parquet").to_pandas())
    for name in MEASURES:
        np.testing.assert_allclose(found[0][name], found[1][name], atol=2e-6)


def test_a_source_that_the_table_of_sources_lacks_is_named(tmp_path):
    with pytest.raises(GranvitError, match="is of source 'Things'.*known: Scenes"):
        measure_locality(save_run(tmp_path), held_out(tmp_path), {"Scenes": "ocr"}, tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()
