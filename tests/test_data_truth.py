"""The truth of a source: what its row names is read by the adapters, and mistakes are told in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from data_worlds import image_bytes, spec, write_coco, write_file

from granvit.config.reading import GranvitError
from granvit.data.records.records import Record, make_key
from granvit.data.sources.table import read_sources
from granvit.data.sources.truth import read_truth
from granvit.graph import data
from granvit.graph.scale import Scale
from granvit.miniature.sources import render_source
from granvit.miniature.truth import rendered_truth

HEADER = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards\ttruth"
PAGES = "Pages\tocr\tText Images\tpretrain\tfolder\t{path}\tocr\tnone\tocr\t1\t{truth}"
FOUND = {"boxes": "ocr", "text": "ocr", "captions": "none", "data_type": "ocr"}
LABELS = [{"transcription": "tea 4", "points": [[10, 20], [110, 20], [110, 50], [10, 50]]},
          {"transcription": "milk", "points": [[10, 80], [90, 82], [90, 102], [10, 100]]}]  # fmt: skip


def record(file: str, width: int = 600, height: int = 500, source: str = "World") -> Record:
    return Record(make_key(source, file), source, "ocr", width, height, provenance={"file": file})


def pages(root, **truth_of_images):
    """A folder of pages, some of which someone labelled with PPOCRLabel."""
    for name in ("a", "b"):
        path = root / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image_bytes(name))
    lines = (f"{name}.jpg\t{json.dumps(labels)}" for name, labels in truth_of_images.items())
    write_file(root / "Label.txt", "\n".join(lines) + "\n")
    return spec(root, adapter="folder", truth="adapter=paddle_labels", **FOUND)


def test_labels_beside_a_folder_of_images_are_the_truth_of_those_they_name(tmp_path):
    truth_of = read_truth(pages(tmp_path / "pages", a=LABELS))
    known = truth_of(record("a.jpg"))
    assert [(region.box, region.text) for region in known.regions] == [
        ((10, 20, 110, 50), "tea 4"), ((10, 80, 90, 102), "milk"),
    ]  # fmt: skip
    assert known.caption is None and truth_of(record("b.jpg")) is None


def test_boxes_without_texts_fractions_and_captions_are_truths_too(tmp_path):
    root = write_coco(tmp_path / "coco", images=2, boxes=1)
    content = json.loads((root / "instances.json").read_text())
    for annotation in content["annotations"]:
        annotation |= {"bbox": [0.1, 0.2, 0.5, 0.25], "caption": None, "category_id": None}
    write_file(root / "true.json", content)
    source = spec(root, truth="annotations=true.json;box_format=xywh_relative", text="captioner")
    known = read_truth(source)(record("images/1.jpg"))
    assert known.caption == "view 1"
    assert known.regions[0].box == pytest.approx((60, 100, 360, 225)) and known.regions[0].text == ""


def test_a_row_may_be_measured_by_what_its_own_adapter_reads(tmp_path):
    root = write_coco(tmp_path / "coco", images=2)
    source = spec(root, truth="adapter=coco", boxes="detector", text="captioner", options="images=images")
    assert source.truth_source.options == "images=images"
    assert [region.text for region in read_truth(source)(record("images/0.jpg")).regions] == [
        "thing 0 of 0", "thing 1 of 0", "thing 2 of 0",
    ]  # fmt: skip
    elsewhere = replace(source, path=str(tmp_path / "images"), truth=f"adapter=coco;path={root}")
    assert read_truth(elsewhere)(record("images/1.jpg")).caption == "view 1"


def test_an_image_without_boxes_has_none_where_it_is_named_and_is_not_labelled_elsewhere(tmp_path):
    assert read_truth(pages(tmp_path / "named", a=LABELS, b=[]))(record("b.jpg")).regions == ()
    source = pages(tmp_path / "beside", a=LABELS)
    line = {"file_name": "a.jpg", "objects": {"bbox": [[10, 20, 100, 30]], "categories": ["tea"]}}
    write_file(tmp_path / "beside/metadata.jsonl", json.dumps(line))
    beside = read_truth(replace(source, truth="adapter=metadata_jsonl"))
    assert beside(record("a.jpg")).regions[0].box == (10, 20, 110, 50)
    assert beside(record("b.jpg")) is None


def test_a_box_that_nobody_can_judge_is_no_mistake(tmp_path):
    unread = LABELS[0] | {"transcription": "###"}
    known = read_truth(pages(tmp_path / "pages", a=[*LABELS, unread]))(record("a.jpg"))
    assert len(known.regions) == 2


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([LABELS[0] | {"points": "everywhere"}], r"a\.jpg below .*pages: a region cannot be used: bad_box"),
        ([], "found neither a box nor a caption in .*name the file or the fields by the adapter's options"),
    ],
)
def test_a_truth_that_is_broken_or_empty_names_the_row_and_the_image(tmp_path, labels, expected):
    source = replace(pages(tmp_path / "pages", a=labels), row="mine.tsv, line 2")
    with pytest.raises(GranvitError, match=f"mine.tsv, line 2: truth: .*{expected}") as error:
        read_truth(source)
    assert "\n" not in str(error.value)


def test_a_truth_that_is_absent_or_of_other_sizes_is_one_clear_line(tmp_path):
    source = replace(pages(tmp_path / "pages", a=LABELS), row="mine.tsv, line 2")
    gone = replace(source, truth="adapter=paddle_labels;annotations=Lable.txt")
    with pytest.raises(GranvitError, match="mine.tsv, line 2: truth: .*Lable.txt"):
        read_truth(gone)
    with pytest.raises(GranvitError, match="line 2: truth: source 'World': its data are absent, /nowhere"):
        read_truth(replace(source, truth="path=/nowhere"))
    turned = read_truth(spec(write_coco(tmp_path / "coco"), truth="adapter=coco"))
    with pytest.raises(GranvitError, match="3.jpg is of 600x500 pixels there, and of 500x600 as shown"):
        turned(record("images/3.jpg", 500, 600))
    flat = [LABELS[0] | {"points": [[10, 20], [110, 20], [110, 20], [10, 20]]}]
    with pytest.raises(GranvitError, match="World/a.jpg: the box .* has no area on an image of 600x500"):
        read_truth(pages(tmp_path / "flat", a=flat))(record("a.jpg"))


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        ("adapter=cocoa", r"truth: adapter is 'cocoa'; expected one of coco, folder, llava"),
        ("adapter=urls;list=a", "truth: adapter is 'urls'; expected one of"),
        ("Label.txt", "truth: 'Label.txt' is no `name=value`; write `adapter=NAME;path=FOLDER`"),
        ("adapter=coco;boxes=a", "truth: options: adapter 'coco' has no 'boxes'; it takes annotations"),
        ("adapter=coco;box_format=xyx", "truth: options: box_format is 'xyx'; expected one of"),
    ],
)
def test_mistakes_in_the_column_are_told_before_anything_runs(tmp_path, truth, expected):
    row = PAGES.format(path=tmp_path, truth=truth)
    (tmp_path / "s.tsv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(GranvitError, match=f"s.tsv, line 2: {expected}"):
        read_sources(tmp_path / "s.tsv")


def test_the_truth_of_a_row_changes_no_job_that_makes_data(tmp_path):
    (tmp_path / "s.tsv").write_text(
        f"{HEADER}\n{PAGES.format(path=tmp_path, truth='adapter=paddle_labels')}\n"
    )
    named, plain = (Scale("mini", {"data": {"sources": str(tmp_path / file)}}) for file in ("s.tsv", "t.tsv"))
    (tmp_path / "t.tsv").write_text(f"{HEADER}\n{PAGES.format(path=tmp_path, truth='')}\n")
    for asked in (data.source_row, data.annotator_settings, data.filter_settings):
        assert asked(named, "Pages") == asked(plain, "Pages")
    assert [source.name for source in data.audited_sources(named)] == ["Pages"]
    assert data.audited_sources(plain) == []
    (settings,) = data.audit_settings(plain)
    assert (settings["truth"], settings["rendered"]) == (None, None)


def test_the_miniatures_pretraining_sources_are_audited_and_the_papers_have_no_truth():
    mini = Scale("mini")
    audited = [source.name for source in data.audited_sources(mini)]
    assert audited == ["Scenes", "TextPages", "ChartsTables", "Receipts", "RichText"]
    known = {one["row"]["name"]: (one["truth"], one["rendered"]) for one in data.audit_settings(mini)}
    assert known["Receipts"] == ("rendered", mini.config.data.rendered_images["Receipts"])
    assert known["Instructions"] == (None, None)
    assert data.audited_sources(Scale("paper")) == []


def test_the_miniatures_truth_is_what_its_sources_say_beside_their_images(tmp_path):
    for name in ("Scenes", "TextPages", "Receipts"):
        render_source(name, 3, tmp_path / name)
        truth_of = rendered_truth(name, 3)
        told = {
            path.name: truth_of(record(f"images/{path.name}"))
            for path in (tmp_path / name / "images").iterdir()
        }
        if name == "Scenes":
            content = json.loads((tmp_path / name / "instances.json").read_text())
            files = {image["id"]: image["file_name"] for image in content["images"]}
            said = [
                (files[one["image_id"]], one["caption"], one["bbox"][:2]) for one in content["annotations"]
            ]
            ours = [(f, r.text, list(r.box[:2])) for f in files.values() for r in told[f].regions]
            assert ours == said
        else:
            content = json.loads((tmp_path / name / "truth.json").read_text())
            for file, lines in content.items():
                ours = [(region.text, list(region.box)) for region in told[file].regions]
                assert ours == [(line["text"], line["box"]) for line in lines]
                for region in told[file].regions:
                    assert " ".join(part.text for part in region.parts) == region.text
                    edges = [part.box for part in region.parts]
                    assert min(box[0] for box in edges) >= region.box[0] == int(edges[0][0])


def test_charts_and_tables_say_each_string_where_it_is_printed():
    truth_of = rendered_truth("ChartsTables", 2)
    for kind, number in (("chart", 0), ("table", 1)):
        known = truth_of(record(f"images/{kind}-pretrain-{number:06d}.jpg"))
        assert len(known.regions) == 7 and not any(region.parts for region in known.regions)
        assert all(0 <= r.box[0] < r.box[2] <= 520 and r.box[1] < r.box[3] for r in known.regions)
    assert truth_of(record("images/chart-pretrain-000004.jpg")) is None
