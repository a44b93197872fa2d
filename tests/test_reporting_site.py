"""The report: every number leads to its answers and its recipe, nothing is lost on the way, and what answers
say stays text.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from report_world import (
    QUESTIONS,
    SCRIPT,
    SPECS,
    make_site,
    picture,
    wanted,
    write_reported,
)

from granvit.config.tables import required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks
from granvit.evaluation.tsv_files import Question
from granvit.files import copy_folder
from granvit.reporting.site.answers import Asked, Cell, differing_first
from granvit.reporting.site.galleries import beside
from granvit.reporting.site.images import write_images
from granvit.reporting.site.pages import make_report
from granvit.reporting.site.places import Answered
from granvit.reporting.site.record import clock, missing_tables, timings
from granvit.reporting.site.tables import labelled

VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass(repr=False)
class Page(HTMLParser):
    """What a page holds: links, images, ids, text outside what is labelled *reported*, cells of tables."""

    links: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str = ""
    cells: list[tuple[str, str]] = field(default_factory=list)  # own text, href
    open: list[bool] = field(default_factory=list)  # of each open element: whether it is reported
    in_cell: bool = False

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            inside = bool(self.open) and self.open[-1]
            self.open.append(inside or "reported" in (found.get("class") or "").split())
        if tag == "td":
            self.cells.append(("", ""))
            self.in_cell = True
        if tag == "a" and self.in_cell:
            self.cells[-1] = (self.cells[-1][0], found["href"])

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        self.open.pop()
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data):
        if not (self.open and self.open[-1]):
            self.text += data
            if self.in_cell:
                self.cells[-1] = (self.cells[-1][0] + data.strip(), self.cells[-1][1])


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == [], f"{path}: an element stays open"
    return page


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


def test_a_run_without_the_wished_one_stands_beside_the_last_other():
    one, two, chance = Answered("a", 0), Answered("b", 0), Answered("a", 0, chance=True)
    assert beside(one, [one, two, chance, Answered("c", 1)], ["c", "a"]) == two
    assert beside(one, [one], ["a"]) is None


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


def test_a_sample_is_the_same_for_every_run_and_keeps_groups_whole(tmp_path):
    benchmark = find_benchmark(load_benchmarks(), "MMVP")
    questions = [Question(str(n), {"question": "?"}, ()) for n in range(40)]
    asked = Asked(benchmark, questions, {"MMVP": None}, limit=7)
    cells = []
    for right in (3, 20):
        path = tmp_path / f"{right}.jsonl"
        lines = ({"index": str(n), "score": float(n < right), "read": "A"} for n in range(40))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        cells.append(asked.cells(path)["MMVP"])
    assert [cell.counts["right"] for cell in cells] == [3, 20] and [cell.n for cell in cells] == [40, 40]
    assert list(cells[0].shown) == list(cells[1].shown) and len(cells[0].shown) == 8
    pairs = {int(index) // 2 for index in cells[0].shown}
    assert {int(index) for index in cells[0].shown} == {n for pair in pairs for n in (2 * pair, 2 * pair + 1)}
    assert [cell.groups for cell in cells] == [(20, 1), (20, 10)]


def test_wrong_answers_that_the_other_run_has_right_come_first():
    mine = Cell(shown={str(n): {"score": 0.0} for n in range(4)} | {"9": {"score": 1.0}})
    other = Cell(shown={str(n): {"score": float(n == 2)} for n in range(4)})
    assert differing_first(mine, other, "wrong") == ["2", "0", "1", "3"]
    assert differing_first(mine, None, "wrong") == ["0", "1", "2", "3"]


def test_an_image_is_small_and_one_that_cannot_be_read_is_named(tmp_path):
    broken = "QUJD" * 30
    text = f"index\tquestion\timage\n0\ta\t{picture(0)}\n1\tb\t{broken}\n"
    (tmp_path / "b.tsv").write_text(text)
    said = []

    class Everything:
        def __contains__(self, digest):
            return True

    found = dict(write_images(tmp_path / "b.tsv", Everything(), tmp_path / "site", 300, said.append))
    (shown_one,) = found.values()
    assert (shown_one.width, shown_one.height, shown_one.full) == (300, 200, (900, 600))
    assert len(said) == 1 and "is not shown: not_an_image" in said[0]


def test_a_table_that_is_left_out_says_which_runs_lack_scores_and_their_last_error(tmp_path):
    (tmp_path / "scores/a/seed0").mkdir(parents=True)
    log = tmp_path / "logs/finetune_sft/b-seed0.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: first\nstep 3\nerror: disk: no space is left\n")
    needed = {"table2": ["a", "b"], "table3": ["a"], "table4": ["c"]}
    two, three = missing_tables(needed, ["table4"], tmp_path, seed=0)
    assert (
        two["runs"] == [{"name": "b", "error": "disk: no space is left"}]
        and "1 of the 2 runs" in two["reason"]
    )
    assert three["runs"] == [] and "all that it needs has been made" in three["reason"]


def test_times_are_summed_by_rule_in_the_order_of_the_phases(tmp_path):
    for rule, seconds in (("b_rule", (1, 2)), ("a_rule", (5,)), ("unknown", (7,))):
        for number, value in enumerate(seconds):
            file = tmp_path / rule / "deep" / f"{number}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"s\tmax_rss\tcpu_time\n{value}\t-\t{value}\n")
    found = timings(tmp_path, {"b_rule": "data", "a_rule": "train"})
    assert [(t.phase, t.rule, t.jobs, t.seconds, t.longest, t.memory) for t in found] == [
        ("data", "b_rule", 2, 3.0, 2.0, 0.0), ("train", "a_rule", 1, 5.0, 5.0, 0.0),
        ("other", "unknown", 1, 7.0, 7.0, 0.0),
    ]  # fmt: skip
    assert [clock(seconds) for seconds in (3.14, 59.6, 3723.4)] == ["3.1 s", "1:00", "1:02:03"]


def test_heads_of_rows_are_joined_where_there_are_two_columns():
    assert [[label.rows for label in head] for head in labelled([["a", "x"], ["a", "y"], ["b", "y"]])] == [
        [2, 1], [0, 1], [1, 1],
    ]  # fmt: skip
    assert [label.rows for head in labelled([["✓", "✓", "✗"]] * 2) for label in head] == [1] * 6


def test_a_folder_is_copied_whole(tmp_path):
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/deep/file").write_text("text")
    copy_folder(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/deep/file").read_text() == "text"
    with pytest.raises(OSError):
        copy_folder(tmp_path / "missing", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_text_stands_out_from_the_ground_that_it_stands_on():
    style = Path("granvit/reporting/site/style.css").read_text()
    colours = dict(re.findall(r"--(\w+): #(\w{6});", style))
    assert {"ink", "grey", "link", "right", "partly", "wrong", "paper", "pale"} <= colours.keys()

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for name in ("ink", "grey", "link", "right", "partly", "wrong"):
        for ground in ("paper", "pale"):
            contrast = (luminance(colours[ground]) + 0.05) / (luminance(colours[name]) + 0.05)
            assert contrast >= 4.5, (name, ground, contrast)
