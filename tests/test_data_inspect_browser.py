"""The pages of ``granvit data inspect`` in a browser, from disk: search, pages, boxes, hostile texts."""

from __future__ import annotations

import pytest
from browsers import needs_browser, overflow, resize, windowless  # noqa: F401 (a fixture: `browser`)
from conftest import ROOT
from data_worlds import edit_coco, image_bytes, spec, write_coco

from granvit.config.loading import load_config
from granvit.reporting.inspection.pages import inspect
from granvit.reporting.inspection.reading import RawSource

pytestmark = needs_browser
EVIL = "<img src=x onerror=\"document.title='hit'\"></script><script>document.title='hit'</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> str:
    """Thirty images: one with a hostile caption and a small box, one too small, one broken, two equal."""
    folder = tmp_path_factory.mktemp("inspected")
    root = write_coco(folder / "raw", images=30)
    edit_coco(root, lambda content: content["images"][0].update(caption=EVIL))
    edit_coco(root, lambda content: content["annotations"][0].update(bbox=[300, 250, 50, 50], caption=EVIL))
    edit_coco(root, lambda content: content["images"][4].update(width=300, height=200))
    (root / "images/4.jpg").write_bytes(image_bytes("4", (300, 200)))
    (root / "images/5.jpg").write_bytes(b"broken")
    (root / "images/7.jpg").write_bytes((root / "images/6.jpg").read_bytes())
    config = load_config("paper", root=ROOT)
    with RawSource(spec(root), config.data) as images:
        inspect(images, "World", "natural", config.data, config.report, folder / "out", 100)
    return (folder / "out").as_uri()


def cards(driver) -> list[str]:
    return [card.text for card in driver.find_elements("css selector", ".card")]


def test_search_and_state_choose_the_images_and_the_address_remembers(browser, pages):
    resize(browser, 1280)
    browser.get(f"{pages}/gallery.html")
    assert len(cards(browser)) == 24
    browser.find_element("css selector", "#query").send_keys("THING 2 of 17")
    assert len(cards(browser)) == 1 and "thing 2 of 17" in cards(browser)[0]
    assert browser.find_element("css selector", "#count").text == "1 of 30 images, 1 to 1"
    browser.refresh()
    assert len(cards(browser)) == 1
    browser.get("about:blank")
    browser.get(f"{pages}/index.html")
    browser.find_element("link text", "dropped by the filter image_side").click()
    assert len(cards(browser)) == 1 and "images/4.jpg" in cards(browser)[0]
    browser.get(f"{pages}/gallery.html#show=not_an_image")
    assert len(cards(browser)) == 1 and "cannot be used: not_an_image" in cards(browser)[0]
    browser.get(f"{pages}/gallery.html#show=copies")
    assert ["images/6.jpg" in text or "images/7.jpg" in text for text in cards(browser)] == [True, True]


def test_every_image_is_on_some_page(browser, pages):
    browser.get("about:blank")
    browser.get(f"{pages}/gallery.html")
    first = cards(browser)
    browser.find_element("css selector", ".pager button[aria-label='Page 2']").click()
    second = cards(browser)
    assert len(first) == 24 and len(second) == 6 and not set(first) & set(second)
    assert "page=2" in browser.current_url


def test_hostile_texts_are_shown_and_do_nothing(browser, pages):
    browser.get("about:blank")
    browser.get(f"{pages}/gallery.html#q=onerror")
    (card,) = browser.find_elements("css selector", ".card")
    assert EVIL in card.text and browser.title == "World: the images"
    assert len(card.find_elements("css selector", "img")) == 1
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_box_lies_where_it_should_and_its_line_lights_it_up(browser, pages):
    from selenium.webdriver.common.action_chains import ActionChains

    resize(browser, 1280)
    browser.get("about:blank")
    browser.get(f"{pages}/gallery.html#q=onerror")
    frame = browser.find_element("css selector", ".frame img")
    browser.execute_async_script("arguments[0].decode().then(arguments[1], arguments[1])", frame)
    box = browser.find_element("css selector", ".frame rect.taken")
    scale = frame.rect["width"] / 600
    place = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width]", box
    )
    at = [300 * scale, 250 * scale, 50 * scale]
    assert [place[0] - frame.rect["x"], place[1] - frame.rect["y"], place[2]] == pytest.approx(at, abs=3)
    assert "box_area" in box.get_attribute("textContent")
    line = browser.find_element("css selector", ".regions li.taken")
    ActionChains(browser).move_to_element(line).perform()
    assert "on" in box.get_attribute("class").split() and "on" in line.get_attribute("class").split()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("page", ["index.html", "gallery.html"])
def test_no_page_is_wider_than_its_window(browser, pages, width, page):
    resize(browser, width)
    browser.get("about:blank")
    browser.get(f"{pages}/{page}")
    assert overflow(browser) == 0
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
