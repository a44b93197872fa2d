"""Held-out images as the mixture has them: their regions, their kind, and their files."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_mixture

from granvit.boxes import format_box
from granvit.errors import GranvitError
from granvit.evaluation.heldout_regions import TASKS, count_images, heldout_images


@pytest.fixture
def mixture(tmp_path):
    """Ten images of Things, three regions each, both tasks."""
    return make_mixture(tmp_path / "Things" / "heldout.parquet", tasks=TASKS)


def test_all_images_come_in_their_order_and_some_by_their_keys(mixture):
    keys = [image.key for image in heldout_images(mixture)]
    assert keys == pq.read_table(mixture)["key"].to_pylist() and len(keys) == count_images(mixture) == 10
    assert [image.key for image in heldout_images(mixture, {keys[7], keys[2]})] == [keys[2], keys[7]]


def test_a_regions_two_questions_are_found_in_any_order_and_where_two_regions_share_a_box(tmp_path):
    box, other = [0.0, 0.0, 60.0, 60.0], [10.0, 10.0, 70.0, 90.0]
    boxes = [(box, "a sign"), (box, "a board"), (other, "a man")]
    captions, places = [], []
    for at, word in boxes:
        text = format_box(at, 160, 120)
        captions.append(
            {"task": "bbox2caption", "question": f"What is at {text}?", "answer": word, "box": at}
        )
        places.append({"task": "caption2bbox", "question": f"Where is {word}?", "answer": text, "box": at})
    mixed = [pair for both in zip(captions, places, strict=True) for pair in both]
    for pairs in ([*captions, *places], mixed):
        path = make_mixture(tmp_path / "Scenes" / "x.parquet", 1, TASKS)
        table = pq.read_table(path)
        row = table.to_pylist()[0] | {"qa": pairs}
        pq.write_table(pa.Table.from_pylist([row], table.schema), path)
        regions = next(heldout_images(path)).regions
        assert [(r.box, r.text) for r in regions] == boxes
        assert [r.asked["caption2bbox"][0] for r in regions] == [f"Where is {word}?" for _, word in boxes]


def test_a_box_that_two_regions_share_is_one_box(mixture):
    table = pq.read_table(mixture)
    row = table.to_pylist()[0]
    row["qa"] += row["qa"][:1]  # the first region once more
    pq.write_table(pa.Table.from_pylist([row], table.schema), mixture)
    (image,) = heldout_images(mixture)
    boxes = [region.box for region in image.regions]
    assert len(boxes) == 4 and image.boxes == boxes[:3]


def test_the_source_is_the_shards_folder_and_the_table_of_sources_knows_its_kind(mixture):
    image = next(heldout_images(mixture))
    assert (image.source, image.data_type({"Things": "ocr"})) == ("Things", "ocr")
    with pytest.raises(GranvitError, match="'Things'.*known: Scenes. Draw the held-out mixture again"):
        image.data_type({"Scenes": "natural"})


def test_what_is_no_mixture_and_what_cannot_be_read_is_named_with_its_remedy(tmp_path, mixture):
    with pytest.raises(GranvitError, match="nowhere.parquet: not a mixture.*snakemake"):
        next(heldout_images(tmp_path / "nowhere.parquet"))
    pq.write_table(pq.read_table(mixture).drop(["qa"]), tmp_path / "other.parquet")
    with pytest.raises(GranvitError, match="other.parquet: not a mixture.*no column qa"):
        count_images(tmp_path / "other.parquet")
    image, shard = next(heldout_images(mixture)), mixture.parent / "heldout.tar"
    assert image.open().size == (image.width, image.height)
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(GranvitError, match=f"image '{image.key}' cannot be read.*snakemake .*heldout.tar"):
        image.open()
    shard.unlink()
    for look in (image.open, image.read):
        with pytest.raises(GranvitError, match="heldout.tar: image .* cannot be read.*snakemake"):
            look()
