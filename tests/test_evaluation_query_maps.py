"""Query points of the map figures: chosen by hash, put on the right patches, and written as plain files."""

from __future__ import annotations

import json

import pytest
from factories import make_encoder, make_mixture
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load_file

from granvit.config.figures import QueryPoints
from granvit.evaluation.heldout_regions import heldout_images
from granvit.evaluation.query_maps import choose_queries, map_queries
from granvit.models.encoders import load_encoder

KINDS = {"Things": "natural", "Pages": "ocr"}


def wanted(**changes) -> QueryPoints:
    return QueryPoints(**{"data_type": "natural", "images": 2, "points": 2, "min_boxes": 2} | changes)


@pytest.fixture
def mixture(tmp_path):
    return make_mixture(tmp_path / "Things/heldout.parquet", tasks=("bbox2caption",))


def chosen(mixture, points, figure="figure8", backwards=False):
    images = list(heldout_images(mixture))
    return choose_queries(images[::-1] if backwards else images, KINDS, points, figure)


def test_points_are_the_centres_of_boxes_chosen_by_hash_alone(mixture):
    queries = chosen(mixture, wanted())
    places = [(query.key, query.box) for query in queries]
    assert places == [(query.key, query.box) for query in chosen(mixture, wanted(), backwards=True)]
    assert len({key for key, _ in places}) == 2 and len(places) == 4
    assert places != [(query.key, query.box) for query in chosen(mixture, wanted(), "figure1b")]
    boxes = {image.key: image.boxes for image in heldout_images(mixture)}
    for query in queries:
        assert query.box in boxes[query.key]
        assert (query.x, query.y) == ((query.box[0] + query.box[2]) / 2, (query.box[1] + query.box[3]) / 2)
    # More of them keep those that were there
    assert [(query.key, query.box) for query in chosen(mixture, wanted(images=5))][:4] == places


def test_only_images_of_the_kind_with_enough_boxes_and_no_more_than_there_are(mixture):
    assert chosen(mixture, wanted(data_type="ocr")) == []
    assert chosen(mixture, wanted(min_boxes=4)) == []
    assert len(chosen(mixture, wanted(images=99, points=9))) == 30


def test_users_own_image_and_point_come_first(mixture, tmp_path):
    file = tmp_path / "mine.png"
    Image.new("RGB", (200, 100), "red").save(file)
    own = [{"image": str(file), "point": [0.25, 0.5]}]
    queries = chosen(mixture, wanted(own=own, images=1, points=1))
    assert [query.key for query in queries][0] == str(file) and len(queries) == 2
    assert (queries[0].x, queries[0].y, queries[0].box) == (50, 50, None)
    with pytest.raises(ValidationError, match="no file"):
        wanted(own=[{"image": str(tmp_path / "nowhere.png"), "point": [0, 0]}])
    with pytest.raises(ValidationError):
        wanted(own=[{"image": str(file), "point": [20, 50]}])


def test_maps_of_each_encoder_stand_beside_the_querys_patch(mixture, tmp_path):
    models = {}
    for name, family, patch in (("A", "siglip", 8), ("B", "clip", 16)):
        load_encoder(make_encoder(tmp_path / family, family, patch=patch)).save(tmp_path / name / "encoder")
        models[name] = tmp_path / name
    own = tmp_path / "mine.png"
    Image.new("RGB", (200, 100), "red").save(own)
    points = wanted(own=[{"image": str(own), "point": [0.99, 0.99]}], images=1, points=1)
    files = [tmp_path / "out/figure8.safetensors", tmp_path / "out/figure8.json"]
    for _ in range(2):
        map_queries(models, mixture, KINDS, points, *files, "cpu")
        written = [file.read_bytes() for file in files]
    assert written == [file.read_bytes() for file in files]
    arrays, shown = load_file(files[0]), json.loads(files[1].read_text())["points"]
    assert [point["key"] for point in shown][0] == str(own) and len(shown) == 2
    # Lower right corner of a picture twice as wide as high: the padded square's third quarter
    assert shown[0]["patches"] == {
        "A": {"grid": 4, "row": 2, "column": 3},
        "B": {"grid": 2, "row": 1, "column": 1},
    }
    assert arrays["0.picture"].shape == (100, 200, 3)
    for number in range(2):
        for name, side in (("A", 4), ("B", 2)):
            attention, cosine = (arrays[f"{number}.{name}.{kind}"] for kind in ("attention", "cosine"))
            patch = shown[number]["patches"][name]
            assert attention.shape == cosine.shape == (side, side)
            assert attention.sum() == pytest.approx(1)
            assert cosine[patch["row"], patch["column"]] == pytest.approx(1)
