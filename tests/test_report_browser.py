"""The report in a browser, from disk: two clicks from a number of Table 1 to an answer, wide and narrow."""

from __future__ import annotations

import pytest
from browsers import needs_browser, overflow, resize, windowless  # noqa: F401 (a fixture: `browser`)
from report_world import make_site

RUN = "runs/sft-granvit/seed0"
PAGES = [
    "index.html", "data.html", f"{RUN}/index.html", f"{RUN}/RefCOCO_testA.html",
    f"{RUN}/RefCOCO_testA-all-1.html", f"{RUN}/mean-average-OCR.html",
]  # fmt: skip

pytestmark = needs_browser


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> str:
    return (make_site(tmp_path_factory.mktemp("browser")) / "index.html").as_uri()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_two_clicks_lead_from_a_number_of_table_1_to_an_answer(browser, index, width, kind):
    resize(browser, width)
    browser.get(index)
    pages = [overflow(browser)]
    row = "//section[@id='table1']//tr[th='MMStar']"
    browser.find_element("xpath", f"{row}//td[3]/a").click()
    pages.append(overflow(browser))
    assert browser.find_element("css selector", "h1").text == "MMStar: sft-siglip2"
    browser.find_element("css selector", f"ul.doors a.{kind}").click()
    pages.append(overflow(browser))
    card = browser.find_element("css selector", ".card")
    answer = card.find_element("css selector", ".answer")
    assert answer.is_displayed() and kind in answer.text and "sft-granvit" in card.text
    assert pages == [0, 0, 0]
    image = card.find_element("css selector", "img")
    shown = "return arguments[0].complete && arguments[0].naturalWidth"
    browser.execute_async_script("arguments[0].decode().then(arguments[1], arguments[1])", image)
    assert browser.execute_script(shown, image) > 0


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_wider_than_its_window(browser, index, width, page):
    resize(browser, width)
    browser.get(index.replace("index.html", page))
    assert overflow(browser) == 0
    wide = "document.body.insertAdjacentHTML('beforeend', '<div style=\"width: 3000px\">wide</div>')"
    for table in browser.find_elements("css selector", "table"):
        assert table.find_element("xpath", "..").get_attribute("class") == "scroll"
    browser.execute_script(wide)
    assert overflow(browser) > 1000, "this test would see it"


def test_the_keyboard_reaches_the_first_number_and_follows_it(browser, index):
    from selenium.webdriver.common.keys import Keys

    resize(browser, 1280)
    browser.get(index)
    first = browser.find_element("css selector", "#table1 td a")
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if browser.switch_to.active_element == first:
            break
    assert browser.switch_to.active_element == first
    outline = first.value_of_css_property("outline-style")
    assert outline == "solid", "where the focus is can be seen"
    first.send_keys(Keys.ENTER)
    assert "RefCOCO_testA" in browser.title


def test_an_image_takes_its_room_before_it_is_there(browser, index):
    resize(browser, 400)
    browser.get(index.replace("index.html", f"{RUN}/MMStar-all-1.html"))
    high = "return document.querySelector('.cards').offsetHeight"
    before = browser.execute_script(high)
    browser.execute_script("document.querySelectorAll('img').forEach(one => one.remove())")
    assert browser.execute_script(high) < before
    browser.get(index.replace("index.html", f"{RUN}/MMStar-all-1.html"))
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.execute_script(high) == before


def test_nothing_on_a_page_failed_to_load(browser, index):
    browser.get(index)
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
