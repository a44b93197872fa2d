"""The pages of ``granvit data inspect``: what stands in the data is text there; no server is asked."""

from __future__ import annotations

import pytest
from conftest import ROOT
from data_worlds import edit_coco, spec, write_coco, write_llava
from html_pages import gallery_items, read

from granvit.config.loading import load_config
from granvit.reporting.inspection.pages import inspect
from granvit.reporting.inspection.reading import RawSource

EVIL = '</script><img src=x onerror=alert(1)> & "quotes" \'`\u2028'


@pytest.fixture(scope="module")
def config():
    return load_config("paper", root=ROOT)


def test_a_text_never_becomes_markup(tmp_path, config):
    root = write_coco(tmp_path / "raw", images=2)
    edit_coco(root, lambda content: content["images"][0].update(caption=EVIL))
    edit_coco(root, lambda content: content["annotations"][0].update(caption=EVIL))
    evil = tmp_path / "<b>&amp;'\"evil"
    root.rename(evil)
    with RawSource(spec(evil), config.data) as images:
        out = tmp_path / "pages"
        inspect(images, "World", "natural", config.data, config.report, out, 9, notes=[EVIL])
    script = (out / "items.js").read_text(encoding="ascii")
    assert "<" not in script and "\u2028" not in script
    found = gallery_items(out)
    assert {EVIL.strip()} <= {found[0]["caption"], *(region[4] for region in found[0]["regions"])}
    for page in ("index.html", "gallery.html"):
        tags = read(out / page).tags
        assert "b" not in tags and "script" not in (tags if page == "index.html" else ())
        assert "<b>" not in (out / page).read_text()
    assert EVIL in read(out / "index.html").text


def test_pages_ask_no_server_for_anything(tmp_path, config):
    with RawSource(spec(write_coco(tmp_path / "raw", images=3)), config.data) as images:
        inspect(images, "World", "natural", config.data, config.report, tmp_path / "pages", 9)
    for path in (tmp_path / "pages").iterdir():
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http" not in text and "//" not in text.replace("// ", ""), path.name
    for page in ("index.html", "gallery.html"):
        for link in read(tmp_path / "pages" / page).links:
            file = link.partition("#")[0]
            assert link == "data:," or not file or (tmp_path / "pages" / file).is_file(), link


def test_questions_and_answers_are_shown_and_searched(tmp_path, config):
    how = dict.fromkeys(("boxes", "captions", "text"), "none") | {"data_type": "instruction", "use": "sft"}
    source = spec(write_llava(tmp_path / "chat", images=2), adapter="llava", **how)
    with RawSource(source, config.data) as images:
        found = inspect(images, "Chat", "instruction", config.data, config.report, tmp_path / "pages", 9)
    assert found.as_json()["turns"] == 4 and found.as_json()["images"]["kept"] == 2
    assert gallery_items(tmp_path / "pages")[0]["turns"][0] == ["What is it?", "Answer 0"]
    assert "Characters of an answer" in read(tmp_path / "pages/index.html").text
