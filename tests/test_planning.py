"""A graph played out in simulated time: makespans that can be counted by hand, times from what was measured,
and the documents that a plan is written as."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from PIL import Image

from granvit.config.plan import load_plan
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.graph.scale import Scale
from granvit.planning import pages, wfformat
from granvit.planning.amounts import Amounts, Estimates
from granvit.planning.gantt import lay_out, write_charts
from granvit.planning.graph import prioritized
from granvit.planning.jobs import Job
from granvit.planning.plan import Plan, laid_out
from granvit.planning.simulate import Machines, critical_path, play
from granvit.planning.times import CALIBRATED, MEASURED, Clock, Rate, Time, fit, read_seconds
from granvit.training.ledger import ImageTokens

ONE, TWO = Machines(1, 1, 0), Machines(1, 2, 0)


def job(number: int, *needs: int, rule: str = "work", **more) -> Job:
    return Job(number, rule, needs=needs, **more)


CHAIN = [job(0), job(1, 0), job(2, 1)]
FAN = [job(0), job(1, 0), job(2, 0), job(3, 0), job(4, 1, 2, 3)]  # one before three, one behind them


@pytest.mark.parametrize(
    ("jobs", "seconds", "machines", "makespan"),
    [
        (CHAIN, [2, 3, 4], ONE, 9),
        (CHAIN, [2, 3, 4], TWO, 9),  # more cores help no chain
        (FAN, [1, 2, 2, 2, 1], ONE, 8),
        (FAN, [1, 2, 2, 2, 1], TWO, 6),
        (FAN, [1, 2, 2, 2, 1], Machines(1, 3, 0), 4),
        (FAN, [1, 2, 2, 2, 1], Machines(3, 1, 0), 4),  # three nodes of one core do as well
        (
            CHAIN,
            [2, 3, 4],
            replace(ONE, between=0.5),
            10,
        ),  # twice between two jobs, and nothing behind the last
        ([], [], ONE, 0),
    ],
)
def test_makespan_is_what_it_is_by_hand(jobs, seconds, machines, makespan):
    assert play(jobs, dict(enumerate(seconds)), machines).makespan == makespan


def test_devices_nodes_and_limits_hold_jobs_up_where_cores_would_not():
    devices = [job(n, resources={"accelerators": 2}) for n in range(3)]
    seconds = dict.fromkeys(range(3), 5)
    assert play(devices, seconds, Machines(1, 64, 4)).makespan == 10
    assert play(devices, seconds, Machines(1, 64, 2)).makespan == 15
    assert play(devices, seconds, Machines(2, 64, 4)).makespan == 5
    wide = [job(n, resources={"nodes": 2, "gres": "'npu:8'"}) for n in range(3)]
    assert play(wide, seconds, Machines(2, 64, 8)).makespan == 15
    assert play(wide, seconds, Machines(4, 64, 8)).makespan == 10
    asking = [job(n, resources={"questions": 16}) for n in range(3)]
    assert play(asking, seconds, Machines(1, 64, 0, {"questions": 32})).makespan == 10
    assert (
        play(asking, seconds, Machines(1, 64, 0, {"questions": 8})).makespan == 15
    )  # cut, as Snakemake does


def test_use_is_the_share_that_jobs_held():
    schedule = play(FAN, dict(enumerate([1, 2, 2, 2, 1])), TWO)
    assert schedule.core_use == pytest.approx(8 / 12) and schedule.device_use == 0
    one = play([job(0, resources={"accelerators": 4}, threads=2)], {0: 10}, Machines(2, 4, 8))
    assert (one.core_use, one.device_use) == (0.25, 0.25)


def test_the_first_of_those_that_could_start_is_the_one_of_highest_priority():
    jobs = [job(0), job(1, priority=5.0), job(2, priority=9.0)]
    ran = play(jobs, {0: 1, 1: 1, 2: 1}, ONE).ran
    assert [one.number for one in ran] == [2, 1, 0]
    behind = [job(0), job(1, 0), job(2), job(3, 2, rule="last")]
    first = prioritized(behind, ["last"])
    assert [one.number for one in first if one.priority > 0] == [2, 3]  # itself, and what it needs


def test_what_holds_everything_up_is_the_chain_that_the_last_job_waited_for():
    jobs = [job(0), job(1), job(2, 1)]
    seconds = {0: 10, 1: 1, 2: 2}
    assert play(jobs, seconds, TWO).chain() == [0]
    assert play(jobs, seconds, ONE).chain() == [0, 1, 2]  # 1 waited for the core that 0 held
    assert critical_path(jobs, seconds) == [0]
    assert critical_path(FAN, dict(enumerate([1, 2, 5, 2, 1]))) == [0, 2, 4]


def test_a_job_that_fits_nowhere_is_one_line():
    with pytest.raises(
        GranvitError, match="asks for 8 devices on 1 nodes, and there are 4 on each of 2"
    ) as end:
        play([job(0, rule="train_stage1", resources={"gres": "npu:8"})], {0: 1}, Machines(2, 64, 4))
    assert "\n" not in str(end.value) and "--devices-per-node" in str(end.value)
    with pytest.raises(GranvitError, match="on 3 nodes"):
        play([job(0, resources={"nodes": 3})], {0: 1}, Machines(2, 64, 4))


def test_a_thousand_jobs_beside_each_other_are_played_out_in_no_time():
    jobs = [job(0), *(job(n, 0) for n in range(1, 5001)), job(5001, *range(1, 5001))]
    assert play(jobs, {one.number: 1.0 for one in jobs}, Machines(1, 100, 0)).makespan == 52


def test_a_job_that_ran_counts_with_its_own_time_and_one_like_it_with_its_rate(tmp_path):
    jobs = [job(n, rule="finetune_sft") for n in range(3)] + [job(3, rule="train_stage1")]
    amounts = {n: Amounts(flops=size, size=size) for n, size in enumerate([1e12, 2e12, 4e12, 1e13])}
    clock = Clock(jobs, amounts, {0: 10.0, 1: 20.0}, load_plan())
    assert clock.time(jobs[1]) == Time(20.0, MEASURED)
    assert clock.time(jobs[2]) == Time(pytest.approx(40.0), CALIBRATED)
    assert clock.time(jobs[3]) == Time(pytest.approx(100.0), CALIBRATED)  # of another stage: the same work
    wide = job(4, rule="finetune_sft", resources={"accelerators": 8})
    amounts[4] = Amounts(flops=8 * 313e12 * 0.4 * 3600, size=1)
    assert clock.time(wide).seconds == pytest.approx(3605)  # other devices: assumed, with the start's 5 s
    others = Clock(jobs, amounts, {0: 12.0, 1: 20.0}, load_plan(), own=False)
    assert others.time(jobs[0]).seconds == pytest.approx(32 / 3)


def test_rates_are_a_start_and_a_slope_where_jobs_differ_in_size():
    found = fit([10, 20, 30], [3, 5, 7])  # which of the last bits, the processor decides
    assert (found.start, found.each) == pytest.approx((1.0, 0.2))
    assert fit([10, 20, 30], [2, 4, 6]).start == pytest.approx(0, abs=1e-6)
    assert fit([0, 0], [2, 4]) == Rate(3.0, 0.0)
    assert fit([10, 11, 10], [5, 5, 5]).seconds(20) == pytest.approx(15 / 31 * 20)
    assert fit([1, 2, 3], [9, 6, 3]) == Rate(6.0, 0.0)  # a larger one never takes less


def test_time_is_read_from_snakemakes_benchmark_file(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("s\th:m:s\n12.5\t0:00:12\n")
    assert read_seconds(str(file)) == 12.5
    file.write_text("s\th:m:s\nNA\t-\n")
    assert read_seconds(str(file)) is read_seconds(str(tmp_path / "none.tsv")) is read_seconds(None) is None


def test_questions_are_counted_where_they_are_rendered_and_assumed_where_they_are_data():
    paper, smoke = (Estimates(Scale(name), load_plan()) for name in ("paper", "smoke"))
    assert paper.questions == load_plan().questions and any("questions" in said for said in paper.assumed)
    assert smoke.questions == 6 * len(load_benchmarks()) and not smoke.assumed
    some = Scale("smoke", {"data": {"rendered_questions": {"GQA_TestDev_Balanced": 10}}})
    assert Estimates(some, load_plan()).questions == smoke.questions + 4


def test_work_at_paper_scale_is_known_without_data_or_models():
    paper = Estimates(Scale("paper"), load_plan())
    stage1 = paper.of(job(0, rule="train_stage1", wildcards={"recipe": "stage1-granvit"}))
    assert stage1.images == pytest.approx(26.7e6, rel=0.01)  # 29 M, with the share of the OCR regions
    assert stage1.flops / stage1.images == pytest.approx(13.1e12, rel=0.02)
    assert stage1.bytes == pytest.approx(7.9e9, rel=0.01)  # 1.98 G weights of 4 bytes
    eight = paper.of(job(1, rule="train_stage1", wildcards={"recipe": "stage1-8m"}))
    assert eight.images / stage1.images == pytest.approx(
        8e6 / 133e6, rel=0.02
    )  # 8 of the regions that take part
    shard = paper.of(job(2, rule="pack_shard", wildcards={"source": "LAION", "shard": "00000"}))
    assert shard.images == 17194230 / 400
    assert any("Tables 6 and 7" in words for words in paper.assumed)


def test_flops_of_few_layers_carried_on_are_those_of_all():
    from granvit.planning.shapes import Shapes

    mini = Scale("mini")
    shapes, recipe = Shapes(mini.config.encoders, mini.config.llms), mini.recipe("stage1-granvit")
    tokens = ImageTokens(100, 60, [2, 4], 3)
    counted = shapes.flops(recipe, tokens)
    from granvit.planning.shapes import PREFIX
    from granvit.training.ledger import image_flops

    whole = image_flops(recipe, tokens, PREFIX, shapes._model(recipe, None))
    assert counted == pytest.approx(whole)


@pytest.fixture
def plan() -> Plan:
    train = {"recipe": "sft-clip", "seed": "0", "scale": "mini"}
    jobs = [
        job(0, rule="pack_shard", phase="data", outputs=("results/mini/data/packed/Scenes/00000.tar",)),
        job(1, 0, rule="finetune_sft", phase="finetune", wildcards=train, resources={"accelerators": 1}),
        job(
            2, 1, rule="make_table", phase="tables", outputs=("results/mini/tables/table1.csv",), is_done=True
        ),
        job(3, 2, rule="tables", phase="collect", makes_nothing=True),
    ]
    amounts = {n: Amounts(images=10 * n, flops=1e12 * n, size=1, bytes=100) for n in range(4)}
    times = {n: Time(s, MEASURED) for n, s in enumerate([60.0, 3600.0, 30.0, 0.0])}
    settings = load_plan()
    given = settings.devices.model_copy(update={"watts": 500.0, "price": 3.0})
    return Plan("mini", ("tables",), None, jobs, amounts, times, Machines(1, 2, 2),
                settings.model_copy(update={"devices": given}), ("nothing",), whole=True)  # fmt: skip


def test_stages_and_results_say_what_is_done_and_what_all_takes(plan, tmp_path):
    pages.write(plan, tmp_path / "plan.csv", tmp_path / "plan.md")
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "plan.csv").open())}
    assert list(rows) == ["data", "sft", "tables and figures", "all", "table1"]
    assert (rows["all"]["jobs"], rows["all"]["done"], rows["all"]["device_hours"]) == ("4", "1", "1")
    assert (rows["table1"]["jobs"], rows["table1"]["images"]) == ("3", "30")
    assert (rows["all"]["core_hours_left"], rows["all"]["times"]) == ("1.01667", "measured=3")
    text = pages.text(plan)
    assert "1.0 h; cores 50% in use, devices 49%" in text
    assert "held up most by finetune_sft sft-clip: 1.0 h" in text and "Assumed: nothing" in text
    assert "energy of busy devices: 0.5 kWh at 500 W" in text
    assert "3.00 for 1.0 device-hours at 3; 6.15 if all devices are held to the end" in text


def test_finished_jobs_are_played_out_only_where_the_whole_is_asked_for(plan):
    assert plan.schedule.makespan == pytest.approx(3690)
    assert replace(plan, whole=False).schedule.makespan == pytest.approx(3660)
    done = replace(plan, whole=False, jobs=[replace(one, is_done=True) for one in plan.jobs])
    assert "Nothing to be done." in pages.text(done) and done.schedule.makespan == 0


def test_a_training_can_be_laid_out_on_more_nodes():
    eight = job(0, rule="train_stage1", resources={"gres": "'npu:8'", "accelerators": 8, "nodes": 1})
    wide = laid_out(eight, 16)
    assert (wide.nodes, wide.devices) == (16, 8)
    here = laid_out(job(0, rule="train_stage1", resources={"accelerators": 4}), 2)
    assert (here.nodes, here.devices) == (2, 4)
    assert laid_out(job(0), 16).nodes == 1


def test_chart_is_a_picture_and_a_page_that_needs_nothing_else(plan, tmp_path):
    write_charts(plan, tmp_path / "plan.png", tmp_path / "plan.html")
    assert Image.open(tmp_path / "plan.png").width > 1000
    page = (tmp_path / "plan.html").read_text()
    assert "<script" not in page and "http" not in page and "src=" not in page
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    titles = [title.text for title in drawing.iter("title")]
    assert titles[1] == "finetune_sft sft-clip: 1.0 h (measured), from 1.0 min" and len(titles) == 3


def test_lanes_of_a_node_hold_one_job_at_a_time_and_many_are_shown_by_rule(plan):
    jobs = [job(n, rule=f"rule{n % 2}") for n in range(200)]
    seconds = {n: 1.0 + n % 7 for n in range(200)}
    given = {"jobs": jobs, "times": {n: Time(s, MEASURED) for n, s in seconds.items()}}
    few = lay_out(replace(plan, **given, machines=Machines(2, 3, 0)))
    assert [row.name for row in few.rows] == ["node 0", "node 1"] and few.height == 6
    in_lane: dict[float, float] = {}
    for bar in sorted(few.bars, key=lambda bar: bar.ran.start):
        assert bar.ran.start >= in_lane.get(bar.top, 0.0)
        in_lane[bar.top] = bar.ran.end
    many = lay_out(replace(plan, **given, machines=Machines(4, 50, 0)))
    assert sorted(row.name for row in many.rows) == ["rule0", "rule1"] and len(many.bars) == 200


def test_wfformat_has_every_key_that_version_1_5_requires(plan, tmp_path):
    wfformat.write(plan, tmp_path / "wf.json", datetime(2026, 11, 27, tzinfo=UTC))
    found = json.loads((tmp_path / "wf.json").read_text())
    assert found["schemaVersion"] == "1.5" and found["name"] == "granvit-mini"
    specification, execution = (found["workflow"][key] for key in ("specification", "execution"))
    assert {"makespanInSeconds", "executedAt", "tasks", "machines"} <= set(execution)
    tasks = {task["id"]: task for task in specification["tasks"]}
    assert all({"name", "id", "parents", "children"} <= set(task) for task in tasks.values())
    assert list(tasks) == ["pack_shard_0", "finetune_sft_1", "make_table_2"]  # no target that makes nothing
    assert tasks["finetune_sft_1"]["parents"] == ["pack_shard_0"]
    assert tasks["finetune_sft_1"]["children"] == ["make_table_2"]
    runs = {task["id"]: task["runtimeInSeconds"] for task in execution["tasks"]}
    assert runs == {"pack_shard_0": 60, "finetune_sft_1": 3600, "make_table_2": 30}
    files = {file["id"]: file["sizeInBytes"] for file in specification["files"]}
    assert files["results__mini__data__packed__Scenes__00000.tar"] == 100
    assert execution["makespanInSeconds"] == pytest.approx(3690)
