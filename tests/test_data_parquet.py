"""Parquet files as people write them: types of columns, names with dots, and memory."""

from __future__ import annotations

import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import read_source

from granvit.data.records.records import Rejected
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.places import ImagePlaces
from granvit.errors import GranvitError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _write(path, columns, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def _bytes(root, items):
    """The images of ``items``, or the cause for which there is none."""
    found = []
    with ImagePlaces(root) as places:
        for item in items:
            try:
                found.append(places.read(item.place) if item.place else None)
            except Rejected as cause:
                found.append(str(cause))
    return found


def _large(root, images, layout):
    """A file of 64 images of half a megabyte: 32 MB."""
    columns = {"image": images([bytes([row]) * 500_000 for row in range(64)]), "text": ["x"] * 64}
    _write(root / "a.parquet", columns, compression="none", use_dictionary=False, **layout)


def _peak(steps):
    """Bytes that Python held at once while ``steps`` were taken, and Arrow after any of them."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        arrow = max(pa.total_allocated_bytes() for _ in steps)
        return tracemalloc.get_traced_memory()[1] + arrow - before
    finally:
        tracemalloc.stop()


def _bare(images):
    return images


def _listed(images):
    return [[image] for image in images]


def _listed_objects(images):
    return [[{"bytes": image}] for image in images]


MANY_GROUPS, MANY_PAGES = {"row_group_size": 4}, {"write_batch_size": 1}


@pytest.mark.parametrize("layout", [MANY_GROUPS, MANY_PAGES])
@pytest.mark.parametrize("images", [_bare, _listed, _listed_objects])
def test_images_are_counted_and_read_a_few_at_a_time(tmp_path, images, layout):
    _large(tmp_path, images, layout)
    items = read_source("parquet", tmp_path, caption="text")
    assert len(items) == 64
    assert _peak(ADAPTERS["parquet"].read(tmp_path, {"caption": "text"})) < 10_000_000
    with ImagePlaces(tmp_path) as places:
        assert _peak(len(places.read(item.place)) for item in items) < 10_000_000


def test_a_size_beside_the_bytes_is_read_without_them(tmp_path):
    _large(tmp_path, lambda images: [{"bytes": image, "w": 600, "h": 500} for image in images], {})
    options = {"width": "image.w", "height": "image.h"}
    assert {item.stated_size for item in read_source("parquet", tmp_path, **options)} == {(600, 500)}
    assert _peak(ADAPTERS["parquet"].read(tmp_path, options)) < 2_000_000


def test_an_image_that_is_named_but_not_there_is_missing(tmp_path):
    rows = [{"bytes": None, "path": path} for path in ("i.jpg", "", None)]
    _write(tmp_path / "one/a.parquet", {"image": pa.array([*rows, None], IMAGE)})
    _write(tmp_path / "lists/a.parquet", {"image": pa.array([rows], pa.list_(IMAGE))})
    causes = ["missing_image", "no_image", "no_image"]
    assert _bytes(tmp_path / "one", read_source("parquet", tmp_path / "one")) == [*causes, "no_image"]
    assert _bytes(tmp_path / "lists", read_source("parquet", tmp_path / "lists")) == causes


@pytest.mark.parametrize("value", [IMAGE, pa.binary()])
@pytest.mark.parametrize("kind", [lambda value: pa.list_(value, 2), pa.large_list, pa.list_view])
@pytest.mark.parametrize("feature", ["List", None])
def test_every_type_of_list_holds_images(tmp_path, kind, value, feature):
    a, b = (image if value == pa.binary() else {"bytes": image} for image in (b"a", b"b"))
    table = pa.table({"images": pa.array([[a, b], None, [b, a]], kind(value))})
    if feature:
        features = {"images": {"feature": {"_type": "Image"}, "length": 2, "_type": feature}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    items = read_source("parquet", tmp_path)
    assert [item.original_id for item in items] == ["a/0/0", "a/0/1", "a/1", "a/2/0", "a/2/1"]
    assert _bytes(tmp_path, items) == [b"a", b"b", None, b"b", b"a"]


KINDS = [pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_bytes_holds_images(tmp_path, kind):
    images = pa.array([b"a", b"b"], pa.binary()).cast(kind)
    _write(tmp_path / "a.parquet", {"image": images, "text": ["x", "y"]})
    items = read_source("parquet", tmp_path, caption="text")
    assert _bytes(tmp_path, items) == [b"a", b"b"]
    assert [item.caption for item in items] == ["x", "y"]


def test_an_image_inside_an_object_is_found_by_its_dotted_name(tmp_path):
    rows = [
        {"image": {"bytes": b"a"}, "pages": [b"1", b"2"], "text": "A"},
        None,
        {"image": {"bytes": b"c"}, "pages": None, "text": "C"},
    ]
    _write(tmp_path / "a.parquet", {"s": rows})
    items = read_source("parquet", tmp_path, image="s.image", caption="s.text")
    assert _bytes(tmp_path, items) == [b"a", "no_image", b"c"]
    assert [item.caption for item in items] == ["A", None, "C"]
    pages = read_source("parquet", tmp_path, image="s.pages", id="s.text")
    assert [item.original_id for item in pages] == ["A/0", "A/1", "a.parquet/1", "C"]
    assert _bytes(tmp_path, pages[:2]) == [b"1", b"2"]


def test_a_column_whose_own_name_holds_a_dot_comes_before_a_field_of_an_object(tmp_path):
    columns = {"image": [{"jpg": b"field"}], "image.jpg": [b"column"], "a.b": ["text"]}
    _write(tmp_path / "a.parquet", columns)
    items = read_source("parquet", tmp_path, image="image.jpg", caption="a.b")
    assert (_bytes(tmp_path, items), items[0].caption) == ([b"column"], "text")
    assert _bytes(tmp_path, read_source("parquet", tmp_path)) == [b"column"]


def test_a_file_without_rows_is_passed_over(tmp_path):
    _write(tmp_path / "a.parquet", {"image": [b"a"], "text": ["A"]})
    _write(tmp_path / "b.parquet", {"image": pa.nulls(0), "text": pa.nulls(0)})
    _write(tmp_path / "c.parquet", {"text": pa.array([], pa.binary())})
    (item,) = read_source("parquet", tmp_path, caption="text")
    assert (item.place.file, item.caption) == ("a.parquet", "A")


@pytest.mark.parametrize(
    ("option", "column", "values", "message"),
    [
        ("caption", "x", [b"bytes"], r"column 'x' \(option `caption`\) is of type binary, expected text"),
        ("id", "x", [True], "is of type bool, expected text or numbers"),
        ("width", "x.w", [{"w": "600"}], r"column 'x.w' \(option `width`\) is of type string, expected numb"),
        ("boxes", "x", ["[1, 2, 3, 4]"], "is of type string, expected lists of boxes"),
        (
            "boxes",
            "x.bbox",
            [[[1, 2, 3, 4]]],
            r"no column 'x.bbox' \(option `boxes`\); 'x' has no object, but list<",
        ),
        ("boxes", "x.box", [{"bbox": [], "label": []}], "no column 'x.box'.*; 'x' has bbox, label"),
        ("conversations", "x", [{"from": ["human"]}], "is of type struct<.*expected lists of turns"),
        ("image", "x", ["1.jpg"], "is of type string, expected bytes, objects with `bytes`, or lists"),
        ("image", "x.jpg", [[{"jpg": b""}]], r"no column 'x.jpg' \(option `image`\); 'x' has no object, but"),
    ],
)
def test_a_column_that_can_never_hold_what_its_option_says_is_an_error(
    tmp_path, option, column, values, message
):
    _write(tmp_path / "a.parquet", {"image": [b"a"], "x": values})
    with pytest.raises(GranvitError, match=r"a\.parquet: .*" + message):
        read_source("parquet", tmp_path, **({"image": "image"} | {option: column}))


@pytest.mark.parametrize(
    ("column", "values"), [("x", [None]), ("x.a", [None]), ("x.a", [{"a": None}]), ("x.a.b", [{"a": None}])]
)
def test_a_column_without_any_value_has_no_type_to_be_wrong(tmp_path, column, values):
    _write(tmp_path / "a.parquet", {"image": [b"a"], "x": values})
    options = dict.fromkeys(("caption", "boxes", "texts", "width", "height"), column)
    (item,) = read_source("parquet", tmp_path, image="image", **options)
    assert (item.caption, item.regions, item.rejects) == (None, [], [])
    (item,) = read_source("parquet", tmp_path, image=column)
    assert item.place is None


def test_lists_that_are_all_empty_have_no_type_to_be_wrong(tmp_path):
    _write(tmp_path / "a.parquet", {"images": [[]], "boxes": [[]]})
    (item,) = read_source("parquet", tmp_path, image="images", boxes="boxes", texts="boxes")
    assert (item.place, item.regions, item.rejects) == (None, [], [])


def _features(category):
    """What `datasets` writes for a list of objects, as of three of its versions."""
    box = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "Sequence"}
    one = {"bbox": box, "category": category}
    return [one], {"feature": one, "_type": "List"}, {"feature": one, "_type": "Sequence"}


def _objects(path, category, values, number=0, as_lists=False):
    found = [{"bbox": [1, 2, 3, 4], "category": values[0]}, {"bbox": [5, 6, 7, 8], "category": values[1]}]
    if as_lists:
        found = {name: [one[name] for one in found] for name in found[0]}
    table = pa.table({"image": pa.array([{"bytes": b"x", "path": "x"}], IMAGE), "objects": [found]})
    info = {"info": {"features": {"objects": _features(category)[number]}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path)


OBJECTS = {"boxes": "objects.bbox", "texts": "objects.category", "box_format": "xywh"}


def _described(root):
    (item,) = read_source("parquet", root, **OBJECTS)
    return [(region.box, region.text) for region in item.regions]


@pytest.mark.parametrize("as_lists", [False, True])
def test_a_list_of_objects_is_read_as_an_object_of_lists_is(tmp_path, as_lists):
    _objects(tmp_path / "a.parquet", {"dtype": "string", "_type": "Value"}, ["cat", "dog"], as_lists=as_lists)
    assert _described(tmp_path) == [([1, 2, 4, 6], "cat"), ([5, 6, 12, 14], "dog")]


@pytest.mark.parametrize("as_lists", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_numbers_of_categories_become_the_names_in_the_files_metadata(tmp_path, number, as_lists):
    label = {"names": ["bird", "cat"], "_type": "ClassLabel"}
    _objects(tmp_path / "a.parquet", label, [1, 7], number, as_lists)
    assert [words for _, words in _described(tmp_path)] == ["cat", ""]


def test_numbers_of_categories_without_names_are_an_error_and_no_empty_texts(tmp_path):
    _objects(tmp_path / "a.parquet", {"dtype": "int64", "_type": "Value"}, [1, 7])
    with pytest.raises(GranvitError, match=r"'objects.category' \(option `texts`\) holds whole numbers"):
        _described(tmp_path)


def test_a_column_inside_a_list_of_objects_that_is_not_there_is_named(tmp_path):
    _objects(tmp_path / "a.parquet", {"dtype": "string", "_type": "Value"}, ["cat", "dog"])
    with pytest.raises(GranvitError, match="no column 'objects.box'.*'objects' has bbox, category"):
        read_source("parquet", tmp_path, boxes="objects.box")
