"""Boxes in questions and answers: whatever frame a source wrote them in, records hold the original's."""

from __future__ import annotations

import json

import pytest
from data_worlds import encode, ingest, read_csv, spec, write_file
from PIL import Image

from granvit.boxes import from_relative, iou
from granvit.data.records.shards import read_shard
from granvit.data.sources.adapters import ADAPTERS
from granvit.errors import GranvitError

WIDE = (800, 400)  # padded: 200 rows above and below
THING = [80.0, 100.0, 480.0, 300.0]  # pixels of it
ORIGINAL, PADDED = "[0.1, 0.25, 0.6, 0.75]", "[0.1, 0.375, 0.6, 0.625]"
INSTRUCTION = {"data_type": "instruction", "use": "sft", "boxes": "none", "captions": "none", "text": "none"}


def _turns(question: str, answer: str) -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _source(root, turns, size=WIDE, options="turn_boxes=padded_square", **changes):
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.png").write_bytes(encode(Image.new("RGB", size, "red"), "PNG"))
    write_file(root / "conversations.json", [{"id": "a", "image": "a.png", "conversations": turns}])
    return spec(root, adapter="llava", options=options, **(INSTRUCTION | changes))


def _record(source, out):
    (sample,) = read_shard(ingest(source, out))
    return sample.record


def test_boxes_of_the_padded_square_become_boxes_of_the_original_in_questions_and_answers(tmp_path):
    turns = _turns(f"What is in {PADDED}?", "a dog") + _turns("Where is the dog?", f"At {PADDED}, I think.")
    first, second = _record(_source(tmp_path / "raw", turns), tmp_path / "out").conversations
    assert first.question == f"What is in {ORIGINAL}?"
    assert second.answer == f"At {ORIGINAL}, I think."
    assert iou(from_relative(json.loads(ORIGINAL), *WIDE), THING) == 1.0
    assert iou(from_relative(json.loads(PADDED), *WIDE), THING) == pytest.approx(
        0.5
    )  # what was trained before


def test_boxes_of_a_tall_image_move_sideways(tmp_path):
    source = _source(tmp_path / "raw", _turns("Where?", "[0.30,0.1,0.7, 1.00]"), size=(300, 600))
    assert _record(source, tmp_path / "out").conversations[0].answer == "[0.1, 0.1, 0.9, 1]"


@pytest.mark.parametrize(
    "text", ["[0.1, 0.2, 0.6]", "[3, 4, 5, 6]", "[0.6, 0.4, 0.1, 0.3]", "(0.1, 0.4, 0.6, 0.5)"]
)
def test_what_is_no_box_stays_as_it_is(tmp_path, text):
    assert (
        _record(_source(tmp_path / "raw", _turns("Which?", text)), tmp_path / "out").conversations[0].answer
        == text
    )


@pytest.mark.parametrize(
    ("size", "options"), [(WIDE, ""), (WIDE, "turn_boxes=original"), ((500, 500), "turn_boxes=padded_square")]
)
def test_boxes_of_the_original_and_of_square_images_are_not_rewritten(tmp_path, size, options):
    source = _source(tmp_path / "raw", _turns("Where?", "[0.10,0.4,  0.60,0.5]"), size, options)
    assert _record(source, tmp_path / "out").conversations[0].answer == "[0.10,0.4,  0.60,0.5]"


def test_a_turn_whose_box_lies_in_the_padding_is_counted_and_many_stop_the_source(tmp_path):
    turns = _turns("Where is it?", "[0.1, 0.0, 0.6, 0.9]") + _turns("And this?", PADDED)
    source = _source(tmp_path / "raw", turns * 2)
    tar = ingest(source, tmp_path / "out")
    (sample,) = read_shard(tar)
    assert [turn.answer for turn in sample.record.conversations] == [ORIGINAL] * 2
    assert [row["cause"] for row in read_csv(tar.with_suffix(".rejects.csv"))] == ["box_in_padding"] * 2
    with pytest.raises(
        GranvitError, match=r"of 4 boxes .*, 2 lie in the square's padding.*Take turn_boxes=padded_square out"
    ):
        ingest(source, tmp_path / "strict", max_cut_share=0.4)


def test_boxes_of_the_original_that_never_reach_where_padding_would_be_are_doubted_aloud(tmp_path, capsys):
    padded = _source(tmp_path / "padded", _turns("Where?", PADDED) * 100, options="")
    assert len(_record(padded, tmp_path / "a").conversations) == 100
    assert "they may be fractions of that square" in capsys.readouterr().err
    original = _source(tmp_path / "original", _turns("Where?", "[0.1, 0.1, 0.6, 0.9]") * 100, options="")
    assert len(_record(original, tmp_path / "b").conversations) == 100
    assert "fractions of that square" not in capsys.readouterr().err


def test_every_adapter_that_passes_turns_takes_the_frame():
    passing = {"llava", "metadata_jsonl", "parquet", "tars", "umg"}
    assert {name for name, adapter in ADAPTERS.items() if "turn_boxes" in adapter.options} == passing


def test_the_frame_is_taken_by_json_beside_images_too(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(Image.new("RGB", WIDE, "red"), "PNG"))
    write_file(tmp_path / "a.json", {"conversations": _turns("Where?", PADDED)})
    source = spec(tmp_path, adapter="umg", options="turn_boxes=padded_square", **INSTRUCTION)
    assert _record(source, tmp_path / "out").conversations[0].answer == ORIGINAL
