"""The report: every number leads to its answers and its recipe, nothing is lost on the way, and what answers
say stays text.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from html_pages import Page, read
from report_world import QUESTIONS, SCRIPT, SPECS, make_site, wanted, write_reported

from granvit.config.tables import required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks
from granvit.reporting.site.pages import make_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_site(folder)
    return folder


@pytest.fixture(scope="module")
def site(folder):
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: read(path) for path in site.rglob("*.html")}


def reached(path: Path, href: str) -> Path:
    return (path.parent / unquote(href.partition("#")[0])).resolve()


def number_cells(site: Path, pages) -> list[tuple[str, str]]:
    """Every cell of the report's tables of results that holds a number of this project's."""
    text = (site / "index.html").read_text(encoding="utf-8").partition('<h2 id="figures">')[0]
    page = Page()
    page.feed(text)
    return [(text, href) for text, href in page.cells if text]


def test_every_number_of_every_table_leads_to_a_page(site, pages):
    cells = number_cells(site, pages)
    assert len(cells) == 29 * 8 + 4 * 4 + 2 * 6 + 29 * 5 + 4
    assert [text for text, href in cells if not href] == []
    for _, href in cells:
        assert reached(site / "index.html", href) in pages


def test_every_link_and_image_is_there_and_none_needs_a_network(pages):
    assert len(pages) > 1000
    for path, page in pages.items():
        for href in [*page.links, *(image["src"] for image in page.images)]:
            if href != "data:,":
                target = reached(path, href) if href.partition("#")[0] else path
                assert target.is_file(), f"{path}: {href}"
                if anchor := href.partition("#")[2]:
                    assert anchor in pages[target].ids, f"{path}: {href}"
        assert "http" not in " ".join(page.links), path
        assert "script" not in page.tags and len(page.ids) == len(set(page.ids)), path


def test_two_clicks_lead_to_answers_right_and_wrong_apart_and_to_score_recipe_and_ancestors(site, pages):
    for text, href in number_cells(site, pages):
        path = reached(site / "index.html", href)
        page = pages[path]
        if path.name in ("index.html", "data.html"):  # a run's own cost, or counts of data
            continue
        targets = {reached(path, link) for link in page.links}
        galleries = [
            target for target in targets if re.search(r"-(right|partly|wrong)-1\.html$", target.name)
        ]
        assert galleries, (text, href)
        for gallery in galleries:
            kind = re.search(r"-(right|partly|wrong)-1", gallery.name)[1]
            found = re.findall(r'<dd class="answer"><span class="(\w+)"', gallery.read_text(encoding="utf-8"))
            assert found and set(found) == {kind}
        scores = [target for target in targets if target.suffix == ".json"]
        assert scores and all("score" in json.loads(target.read_text()) for target in scores)
        runs = [target for target in targets if target.name == "index.html" and target.parent != site]
        assert all("manifest.json" in " ".join(pages[run].links) for run in runs)
        assert len(runs) >= 2, "a run and what it started from"


def test_granvits_page_names_all_its_ancestors_with_their_hashes(site, folder, pages):
    page = pages[site / "runs/sft-granvit/seed0/MMStar.html"]
    for stage, name in [
        ("stage2", "stage2-granvit"),
        ("stage1", "stage1-granvit"),
        ("projector", "projector-siglip2"),
    ]:
        manifest = json.loads((folder / f"results/{stage}/{name}/seed0/manifest.json").read_text())
        assert manifest["recipe_hash"][:12] in page.text and name in page.text
    assert "1.50 to 98.50" in page.text and "Version of the scoring step" in page.text


def test_right_and_wrong_are_as_many_as_the_score_says(site, folder, pages):
    checked = 0
    for recipe in required_leaves(SPECS["table1"]):
        for name, cell in SPECS["table1"].shared.benchmarks.items():
            benchmark = find_benchmark(load_benchmarks(), cell.benchmark)
            scores = folder / f"results/scores/{recipe}/seed0/{benchmark.slug}.json"
            content = json.loads(scores.read_text())
            part = content["splits"][cell.split] if cell.split else content
            if benchmark.rule == "anls":
                continue
            file = name.replace("+", "plus").replace("*", "").replace(" ", "-")
            text = pages[site / f"runs/{recipe}/seed0/{file}.html"].text
            counts = {kind: int(re.search(rf"{kind}: (\d+)", text)[1]) for kind in ("right", "wrong", "all")}
            assert counts["right"] + counts["wrong"] == counts["all"] == part["n"] == QUESTIONS
            assert 100 * counts["right"] / part["n"] == pytest.approx(part["score"])
            for kind, count in counts.items():
                galleries = (site / f"runs/{recipe}/seed0").glob(f"{file}-{kind}-*.html")
                found = sum(pages[gallery].text.count("Gold") for gallery in galleries)
                assert found == count
            checked += 1
    assert checked == 7 * 23


def test_an_answer_that_gives_some_of_the_marks_stands_apart(site, pages):
    page = pages[site / "runs/sft-clip/seed0/DocVQA.html"]
    assert "partly right: 1" in page.text
    assert "mark 0.50" in pages[site / "runs/sft-clip/seed0/DocVQA-partly-1.html"].text


def test_what_an_answer_or_a_question_says_stays_text(site, pages):
    page = pages[site / "runs/sft-granvit/seed0/MMStar-all-1.html"]
    assert SCRIPT in page.text and "<b>" in page.text and "Hint: hint <i>" in page.text
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert " object at 0x" not in text and "built-in method" not in text
        assert "<script" not in text and "<b>" not in text and "<mistake>" not in text


def test_the_papers_numbers_stand_only_in_what_is_labelled_reported(site, folder, pages, tmp_path):
    numbers = write_reported(tmp_path / "reported.csv") + ["70,177"]
    index = (site / "index.html").read_text(encoding="utf-8")
    assert [number for number in ("70000.77", "70,177") if number not in index] == []
    for path, page in pages.items():
        found = [number for number in numbers if number in page.text]
        assert found == [], path


def test_a_table_without_a_layout_has_a_page_of_its_own(site, pages):
    page = pages[site / "tables/comparison.html"]
    assert "12.00" in page.text and "-69988.77" not in page.text and "table1" in page.text
    assert "tables/comparison.html" in pages[site / "index.html"].links


def test_each_run_stands_beside_another_and_shuffled_images_beside_the_same_model(site, pages):
    text = {name: pages[site / f"{name}.html"].text for name in (
        "runs/sft-granvit/seed0/MMStar-all-1", "runs/sft-siglip2/seed0/MMStar-all-1",
        "chance/sft-granvit/seed0/MMStar-all-1", "runs/sft-siglip2/seed1/MMStar-all-1")}  # fmt: skip
    assert [re.search(r"that of ([\w-]+)", page)[1] for page in text.values()] == [
        "sft-siglip2", "sft-granvit", "sft-granvit", "sft-granvit",
    ]  # fmt: skip


def test_galleries_of_shuffled_images_say_that_the_model_saw_another(pages, site):
    words = "shown another question's image"
    assert words in pages[site / "chance/sft-granvit/seed0/MMStar-all-1.html"].text
    assert words not in pages[site / "runs/sft-granvit/seed0/MMStar-all-1.html"].text


def test_training_runs_stand_in_the_order_of_their_stages(site):
    text = (site / "index.html").read_text().partition('id="ran"')[2]
    names = ["projector-clip", "projector-siglip2", "stage1-granvit", "stage2-granvit", "sft-clip"]
    places = [text.index(f"runs/{name}/seed0/index.html") for name in names]
    assert places == sorted(places)


def test_runs_that_only_a_figure_shows_have_their_pages_too(site, pages):
    links = pages[site / "index.html"].links
    for run in ("stage2-8m-both", "stage1-8m-both"):
        assert f"runs/{run}/seed0/index.html" in links
    assert "recipe's hash" in pages[site / "runs/stage2-8m-both/seed0/index.html"].text.lower()


def test_pages_of_a_gallery_hold_as_many_as_asked_and_name_each_other(site, pages):
    first, second = (pages[site / f"runs/sft-clip/seed0/MMStar-all-{page}.html"] for page in (1, 2))
    assert (first.text.count("Gold"), second.text.count("Gold")) == (3, QUESTIONS - 3)
    assert "MMStar-all-2.html" in " ".join(first.links) and "MMStar-all-1.html" in " ".join(second.links)


def test_images_are_loaded_when_they_are_seen_and_keep_their_place(site, pages):
    for page in pages.values():
        for image in page.images:
            assert (
                image["loading"] == "lazy" and int(image["width"]) and int(image["height"]) and image["alt"]
            )
    files = [image["src"] for page in pages.values() for image in page.images]
    assert len(files) > len(set(files)) > 20, "an image is written once, however many show it"


def test_boxes_of_answers_and_truth_lie_on_the_image(site):
    text = (site / "runs/sft-clip/seed0/RefCOCO_testA-all-1.html").read_text()
    assert 'viewBox="0 0 48 36"' in text
    assert '<rect class="gold" x="0.0" y="0.0" width="20.0" height="18.0"/>' in text
    assert '<rect class="answer" x="0.0" y="0.0" width="24.0" height="18.0"/>' in text


def test_the_index_says_what_ran_how_long_it_took_and_what_is_missing(site, pages):
    text = " ".join(pages[site / "index.html"].text.split())
    assert re.search(r"finetune ?finetune_sft ?2 ?2:00 ?1:30 ?1:00 ?200 MB", text)
    missing = ["table2", "figure2: report.figures leaves it out", "figure3: no rule draws it"]
    said = ["torch", "sft-clip-3b: config: a <mistake>", "warmup_ratio", "these numbers mean nothing"]
    assert [words for words in missing + said if words not in text] == []


def test_equal_results_are_equal_bytes(folder, tmp_path):
    manifests = sorted((folder / "results").glob("*/*/*/manifest.json"))
    few = replace(wanted(folder, manifests, {"questions": 2}), tables=["table3"])
    sites = [tmp_path / "one", tmp_path / "two"]
    for out in sites:
        make_report(out, few, SPECS)
    one, two = ({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in sites)
    assert one == two and len(one) > 100


def test_a_missing_result_is_named_and_leaves_no_half_report(folder, tmp_path):
    shutil.copytree(folder / "results", tmp_path / "results")
    manifests = sorted((tmp_path / "results").glob("*/*/*/manifest.json"))
    world = replace(wanted(folder, manifests), tables=["table3"], results=tmp_path / "results")
    gone = tmp_path / "results/verdicts/sft-siglip2/seed0/RefCOCO.jsonl"
    for text, told in (
        (None, r"sft-siglip2/seed0/RefCOCO\.jsonl: no such file.*snakemake"),
        ('{"index": "999", "score": 1}\n', r"question 999 is not in RefCOCO.*score again"),
        ("no json\n", r"RefCOCO\.jsonl: line 1 is no verdict"),
    ):
        gone.unlink() if text is None else gone.write_text(text)
        with pytest.raises(GranvitError, match=told):
            make_report(tmp_path / "site", world, SPECS)
        assert not list(tmp_path.glob("*site*"))
