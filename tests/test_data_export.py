"""Export: what other frameworks read, and what our own adapters read back as it was."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import defaultdict

import pyarrow.parquet as pq
import pytest
from data_worlds import edit_coco, prepare, spec, write_coco, write_llava
from PIL import Image

from granvit.boxes import parse_box
from granvit.data.mixtures.export import export
from granvit.data.mixtures.mixture import TASKS, Drawing, region_questions
from granvit.data.sources.adapters import ADAPTERS
from granvit.errors import GranvitError


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """Twelve images in two shards; one is turned by EXIF, one's caption holds the picture's mark."""
    folder = tmp_path_factory.mktemp("regions")
    root = write_coco(folder / "raw")
    content = json.loads((root / "instances.json").read_text())
    content["images"][1]["caption"] = "A page with <image> on it, “quoted”"
    (root / "instances.json").write_text(json.dumps(content))
    with Image.open(root / "images/2.jpg") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(root / "images/2.jpg", exif=exif)
    return prepare(spec(root, shards=2), folder)


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats")
    root = write_llava(folder / "raw")
    return prepare(
        spec(root, adapter="llava", data_type="instruction", use="sft", name="Chat", captions="none"), folder
    )


def _rows(indexes):
    return {row["key"]: row for index in indexes for row in pq.read_table(index).to_pylist()}


def _read_back(adapter, folder):
    """What an adapter reads, joined by image as the catalogue does."""
    items = defaultdict(list)
    for item in ADAPTERS[adapter].read(folder, {}):
        assert not item.rejects
        items[item.original_id].append(item)
    return items


def _check_images(folder, rows, names):
    """Bytes untouched, none missing, none too many."""
    assert {path.name for path in (folder / "images").iterdir()} == set(names)
    digests = {name: hashlib.sha256((folder / "images" / name).read_bytes()).hexdigest() for name in names}
    assert all(digests[name] == rows[key]["image_sha256"] for name, key in names.items())


def _check_llava_fields(entries):
    """What LLaVA's training script relies on: image, conversations of human and gpt in turn, one mark."""
    for entry in entries:
        assert {"id", "image", "conversations"} == set(entry)
        turns = entry["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2) != []
        assert all(set(turn) == {"from", "value"} for turn in turns)
        assert turns[0]["value"].startswith("<image>\n")
        assert sum(turn["value"].count("<image>") for turn in turns) == 1


def test_llava_export_has_the_fields_that_llava_reads_and_one_mark_an_image(regions, tmp_path):
    assert export(regions, tmp_path / "out", "llava") == 12
    entries = json.loads((tmp_path / "out/conversations.json").read_text())
    rows = _rows(regions)
    names = [entry["id"] for entry in entries]
    assert names == [key + part for key in rows for part in ("", "-caption2bbox")]
    _check_llava_fields(entries)
    _check_images(tmp_path / "out", rows, {entry["image"]: entry["id"] for entry in entries[::2]})


def test_llava_export_asks_for_no_box_that_an_earlier_turn_shows(regions, tmp_path):
    export(regions, tmp_path / "out", "llava")
    answers = 0
    for entry in json.loads((tmp_path / "out/conversations.json").read_text()):
        seen = ""
        for turn in entry["conversations"]:
            if turn["from"] == "gpt" and parse_box(turn["value"]):
                assert turn["value"] not in seen
                answers += 1
            seen += turn["value"]
    assert answers == 36


def test_llava_export_reads_back_to_the_same_turns(chats, tmp_path):
    export(chats, tmp_path / "out", "llava")
    _check_llava_fields(json.loads((tmp_path / "out/conversations.json").read_text()))
    read = _read_back("llava", tmp_path / "out")
    rows = _rows(chats)
    assert len(read) == len(rows) == 6
    for key, row in rows.items():
        (item,) = read[f"{key}.png"]
        turns = [{"question": turn.question, "answer": turn.answer} for turn in item.conversations]
        assert turns == row["conversations"]


def test_llava_export_of_a_mixture_asks_what_the_mixture_asks(regions, chats, tmp_path):
    Drawing(regions, tmp_path / "m.parquet", tmp_path / "m.json", 0.0).regions(TASKS, 12, 1.0)
    Drawing(chats, tmp_path / "c.parquet", tmp_path / "c.json", 0.0).conversations()
    assert export([tmp_path / "m.parquet", tmp_path / "c.parquet"], tmp_path / "out", "llava") == 4 + 6
    read = _read_back("llava", tmp_path / "out")
    for row in pq.read_table(tmp_path / "m.parquet").to_pylist():
        turns = [turn for item in read[f"{row['key']}.jpg"] for turn in item.conversations]
        asked = [(turn.question, turn.answer.replace("< image>", "<image>")) for turn in turns]
        told = sorted(row["qa"], key=lambda qa: qa["task"] == "caption2bbox")  # these in one of their own
        assert asked == [(qa["question"], qa["answer"]) for qa in told]


def test_coco_export_reads_back_to_the_same_regions(regions, tmp_path):
    export(regions, tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out/instances.json").read_text())
    assert set(content) == {"images", "annotations", "categories"}
    rows, read = _rows(regions), _read_back("coco", tmp_path / "out")
    names = {image["file_name"]: image["key"] for image in content["images"]}
    _check_images(tmp_path / "out", rows, names)
    for image in content["images"]:
        row, parts = rows[image["key"]], read[str(image["id"])]
        assert (image["width"], image["height"]) == (row["width"], row["height"])
        assert [part.caption for part in parts if part.place] == [row["caption"]]
        back = [(region.box, region.text) for part in parts for region in part.regions]
        assert back == [(region["box"], region["text"]) for region in row["regions"]]
    assert any(row["width"] < row["height"] for row in rows.values()), "one image is turned"


def test_coco_export_made_into_shards_again_gives_the_same_regions(regions, tmp_path):
    """Through ingest, which turns boxes where the stated size is that of the pixels as stored."""
    export(regions, tmp_path / "out", "coco")
    again = _rows(prepare(spec(tmp_path / "out", name="Again"), tmp_path))
    by_bytes = {row["image_sha256"]: row for row in again.values()}
    assert by_bytes
    for row in _rows(regions).values():
        other = by_bytes[row["image_sha256"]]
        assert all(other[name] == row[name] for name in ("width", "height", "caption", "regions"))


def _labelled(folder, texts):
    """A shard of six images with three boxes each, whose texts are the given ones in turn."""
    root = write_coco(folder / "raw", images=6)
    edit_coco(
        root,
        lambda c: [a.update(caption=texts[n % len(texts)]) for n, a in enumerate(c["annotations"])],
    )
    return prepare(spec(root), folder)


def _categories(folder):
    """Names by id, and each annotation's category beside its caption."""
    content = json.loads((folder / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    return names, [(names[a["category_id"]], a["caption"]) for a in content["annotations"]]


def test_coco_export_of_few_texts_has_them_as_categories(tmp_path):
    texts = ["dog", 'a "quoted" cat, "category_id": 7', "Äpfel\n\u2028"]
    export(_labelled(tmp_path, texts), tmp_path / "out", "coco")
    names, pairs = _categories(tmp_path / "out")
    assert names == dict(enumerate(sorted(text.strip() for text in texts), 1))
    assert len(pairs) == 18 and all(name == caption for name, caption in pairs)


@pytest.mark.parametrize(("most", "texts"), [(2000, 18), (2, 3), (2, 18)])
def test_coco_export_of_many_texts_has_one_category(tmp_path, monkeypatch, most, texts):
    """Where each comes once, or there are more than may be categories."""
    monkeypatch.setattr("granvit.data.mixtures.export._MOST_CATEGORIES", most)
    export(_labelled(tmp_path, [f"text {number}" for number in range(texts)]), tmp_path / "out", "coco")
    names, pairs = _categories(tmp_path / "out")
    assert names == {1: "region"}
    assert len({caption for _, caption in pairs}) == texts


def test_export_of_one_source_takes_its_images_alone(regions, chats, tmp_path):
    Drawing(regions, tmp_path / "m.parquet", tmp_path / "m.json", 0.0).regions(TASKS, None, 1.0)
    for name, inputs in (("shards", [*regions, *chats]), ("mixture", [tmp_path / "m.parquet", *chats])):
        assert export(inputs, tmp_path / name, "llava", sources=["World"]) == 12
        entries = json.loads((tmp_path / name / "conversations.json").read_text())
        assert all(entry["id"].startswith("World__") for entry in entries)
    assert export([*regions, *chats], tmp_path / "both", "llava", sources=["World", "Chat"]) == 18
    with pytest.raises(GranvitError, match="no image of source 'Wrold'; they hold those of Chat, World"):
        export([*regions, *chats], tmp_path / "none", "llava", sources=["World", "Wrold"])


@pytest.mark.parametrize("tasks", [["bbox2caption"], ["caption2bbox"], list(TASKS)])
def test_coco_export_of_a_mixture_names_each_region_once_whatever_the_task(regions, tmp_path, tasks):
    Drawing(regions, tmp_path / "m.parquet", tmp_path / "m.json", 0.0).regions(tasks, None, 1.0)
    assert export([tmp_path / "m.parquet"], tmp_path / "out", "coco") == 12
    content, rows = json.loads((tmp_path / "out/instances.json").read_text()), _rows(regions)
    for image in content["images"]:
        texts = [a["caption"] for a in content["annotations"] if a["image_id"] == image["id"]]
        assert texts == [region["text"] for region in rows[image["key"]]["regions"]]
        assert ("caption" in image) == ("global_caption" in tasks)


def test_pycocotools_reads_the_coco_export(regions, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    export(regions, tmp_path / "out", "coco")
    read = COCO(str(tmp_path / "out/instances.json"))
    assert len(read.getImgIds()) == 12
    assert len(read.getAnnIds(catIds=read.getCatIds(catNms=["region"]), iscrowd=False)) == 36
    found = read.loadRes(
        [
            {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 1.0}
            for a in read.anns.values()
        ]
    )
    evaluation = COCOeval(read, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_tar_and_index_are_the_same_input_and_equal_inputs_give_equal_bytes(regions, tmp_path):
    for name, inputs in (("a", regions), ("b", [path.with_suffix(".tar") for path in regions])):
        export(inputs, tmp_path / name, "coco")
    assert (tmp_path / "a/instances.json").read_bytes() == (tmp_path / "b/instances.json").read_bytes()


def test_export_that_fails_leaves_nothing_and_says_why(regions, tmp_path):
    with pytest.raises(GranvitError, match="image 'World/.' comes twice"):
        export([regions[0], regions[0]], tmp_path / "out", "coco")
    with pytest.raises(GranvitError, match=r"none\.parquet: no such file"):
        export([tmp_path / "none.tar"], tmp_path / "out", "llava")
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(GranvitError, match=r"text\.parquet: not Parquet"):
        export([tmp_path / "text.parquet"], tmp_path / "out", "llava")
    export(regions, tmp_path / "out", "coco")
    with pytest.raises(GranvitError, match="exists already"):
        export(regions, tmp_path / "out", "coco")


def test_export_of_shards_whose_images_are_elsewhere_or_others_says_so(regions, tmp_path):
    index = tmp_path / "00000.parquet"
    shutil.copy(regions[0], index)
    with pytest.raises(GranvitError, match=r"00000\.tar: cannot be read \(No such file.*repository's root"):
        export([index], tmp_path / "out", "coco")
    data = bytearray(regions[0].with_suffix(".tar").read_bytes())
    data[600] ^= 255  # in the first image
    index.with_suffix(".tar").write_bytes(data)
    with pytest.raises(GranvitError, match=r"00000\.tar: image .* has other bytes than its index says"):
        export([index], tmp_path / "out", "coco")
    (tmp_path / "file").write_text("")
    with pytest.raises(GranvitError, match="file/out: cannot be made"):
        export(regions, tmp_path / "file/out", "coco")
    assert not (tmp_path / "out").exists()


def test_key_longer_than_a_file_name_may_be_is_cut_and_stays_its_own(tmp_path):
    root = write_coco(tmp_path / "raw", images=2)
    content = json.loads((root / "instances.json").read_text())
    for image in content["images"]:
        image["id"] = "x" * 300 + str(image["id"])
    for annotation in content["annotations"]:
        annotation["image_id"] = "x" * 300 + str(annotation["image_id"])
    (root / "instances.json").write_text(json.dumps(content))
    export(prepare(spec(root), tmp_path), tmp_path / "out", "coco")
    names = [path.name for path in (tmp_path / "out/images").iterdir()]
    assert len(names) == 2 and all(len(name) <= 204 for name in names)
    assert all(Image.open(io.BytesIO((tmp_path / "out/images" / name).read_bytes())) for name in names)


def test_questions_of_a_shard_are_all_three_forms(regions, tmp_path):
    export(regions, tmp_path / "out", "llava")
    pair = json.loads((tmp_path / "out/conversations.json").read_text())[:2]
    asked = [turn["value"].removeprefix("<image>\n") for e in pair for turn in e["conversations"][::2]]
    row = _rows(regions)[pair[0]["id"]]
    assert sorted(asked) == sorted(qa["question"] for qa in region_questions(row, TASKS))
    assert len(asked) == 1 + 2 * 3
