"""The card of exported data says what is in the folder, from the shards' own records and counts."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from data_worlds import edit_coco, prepare, spec, write_coco, write_llava
from huggingface_hub import DatasetCard

from granvit.cli import main
from granvit.config.loading import load_config
from granvit.data.mixtures.mixture import TASKS, Drawing
from granvit.data.sources.table import SourceSpec
from granvit.reporting.dataset_card import contents, dataset_card


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Twelve images in two shards of the scale `mini`, one without and four with one box less behind the
    filters; five of chats."""
    folder = tmp_path_factory.mktemp("world") / "results/mini/data"
    chat = write_llava(folder.parents[2] / "c", images=5)
    chats = spec(chat, name="Chat", adapter="llava", data_type="instruction", use="sft", captions="none")
    edit_coco(root := write_coco(folder.parents[2] / "n"), shrink)
    return prepare(spec(root, shards=2), folder) + prepare(chats, folder)


def shrink(content: dict) -> None:
    """The first box of four images, and all of a fifth, below 100 x 100 pixels."""
    for place, box in enumerate(content["annotations"]):
        if place in (0, 3, 6, 9, 15, 16, 17):
            box["bbox"][3] = 60


def lines(card: DatasetCard, heading: str) -> dict[str, list[str]]:
    """A table's cells below a heading, by its first cell (of filters: by source and rule)."""
    part = card.text.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"
    ]
    return {" ".join(row[:2]) if heading == "Filters" else row[0]: row[1:] for row in cells[2:]}


def rows(**notes) -> dict[str, SourceSpec]:
    return {"World": spec("n", **notes)}


def test_card_counts_each_source_and_names_its_licence_and_origin(indexes):
    known = rows(licence="cc-by-4.0", origin="a page | another")
    card = dataset_card("mine", "coco", contents(indexes), known, None)
    found = lines(card, "Sources and their licences")
    assert found["World"] == ["cc-by-4.0", "a page / another", "11", "11", "29", "0"]
    assert found["Chat"] == ["unknown", "unknown", "5", "0", "0", "10"]
    assert lines(card, "How they were made")["World"] == ["given by the source"] * 3
    assert "instances.json" in card.text and "16 images of 2 sources" in card.text
    assert card.data.license == "other" and card.data.tags == ["granvit", "coco"]


def test_card_says_what_the_filters_took_from_the_shards_exported(indexes):
    def taken(inputs) -> dict[str, list[int]]:
        card = dataset_card("mine", "coco", contents(inputs), {}, None)
        return {rule: list(map(int, cells[1:])) for rule, cells in lines(card, "Filters").items()}

    one, both = taken(indexes[:1]), taken(indexes[:2])
    first, second = (len(pq.read_table(index)) for index in indexes[:2])
    assert one["World all"][1] == first < 11 and both["World all"] == [12, first + second, 36, 29]
    assert both["World box_area"] == [12, 12, 36, 29] and both["World regions"][:2] == [12, 11]


def test_shards_without_their_counts_have_a_card_without_filters(indexes, tmp_path):
    for file in (indexes[0], indexes[0].with_suffix(".tar")):
        shutil.copy(file, tmp_path)
    card = dataset_card("mine", "coco", contents([tmp_path / indexes[0].name]), {}, None)
    assert "## Filters" not in card.text and lines(card, "How they were made")["World"] == ["unknown"] * 3


def test_card_of_a_mixture_counts_questions(indexes, tmp_path):
    Drawing(indexes[:2], tmp_path / "m.parquet", tmp_path / "m.json", 0.0).regions(TASKS, None, 1.0)
    Drawing(indexes[2:], tmp_path / "c.parquet", tmp_path / "c.json", 0.0).conversations()
    found = contents([tmp_path / "m.parquet", tmp_path / "c.parquet"])
    assert dict(found.counts["World"]) == {"images": 11, "captions": 11, "regions": 58, "turns": 0}
    assert dict(found.counts["Chat"]) == {"images": 5, "captions": 0, "regions": 0, "turns": 10}
    assert found.scale == "mini" and len(found.shards) == 3
    text = dataset_card("mine", "llava", found, {}, load_config("mini").data).text
    assert "## Filters" in text


def test_export_writes_the_card_into_its_folder(indexes, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["data", "export", "--format", "llava", "--source", "Chat", "--out", str(out), *map(str, indexes)]
    assert main(call) == 0
    card = DatasetCard.load(out / "README.md")
    assert lines(card, "Sources and their licences") == {"Chat": ["unknown", "unknown", "5", "0", "0", "10"]}
    assert "# out" in card.text and "conversations.json" in card.text and len(list(out.iterdir())) == 3
