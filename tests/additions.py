"""What CONTRIBUTING.md says how to add, added to a copy of the repository: one of each thing."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT, call

CLAIM = """
  mine-helps:
    statement: A quarter of the weight is better
    where: CONTRIBUTING.md
    endpoint: {table: mine, columns: [Fine-Grained]}
    compare: {of: sft-quarter, minus: sft-stage1-8m}
    direction: higher
"""
RUNS = """
projector-mine: {stage: projector, encoder: MyEncoder, llm: MyLLM}
sft-mine: {stage: sft, parent: projector-mine}
"""
SETTINGS = '''class Bars(Strict):
    """Fig. 14. ``column``: of the table `mine`."""

    column: str


class FiguresFile('''
DRAWING = '''"""Fig. 14: a bar a row of the table `mine`."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from granvit.reporting.drawing import save_figure


def bars(table: str, column: str, out_png: str, facts: dict[str, Any]) -> None:
    """A bar a run, by the table's CSV file."""
    rows = pd.read_csv(table)
    figure = Figure()
    figure.subplots().bar(rows["Run"], rows[column])
    save_figure(figure, out_png, facts | {"bars": dict(zip(rows["Run"], rows[column]))})
'''
SCRIPT = '''"""Rule draw_bars: Figure 14, the runs of the table `mine`."""

from _script import run


def main(job, log):
    from granvit.reporting.bars import bars

    facts = dict(job.params.facts)
    bars(job.input.table, facts["settings"]["column"], job.output.figure, facts)


run(snakemake, main)
'''
RULE = """

rule draw_bars:
    input:
        table=fill(rules.make_table.output.csv, table="mine"),
    output:
        **figure_files("figure14"),
    log:
        "<logs>/draw_bars/figure14.log",
    benchmark:
        "<timings>/draw_bars/figure14.tsv"
    threads: 1
    params:
        facts={"settings": FIGURES.figure14.model_dump()},
        version=steps.version("bars"),
    script:
        "../workflow_scripts/draw_bars.py"
"""


def example(name: str) -> str:
    """The lines below ``# config/{name}`` of the guide's example."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.search(rf"(?s)# config/{re.escape(name)}[^\n]*\n(.*?)\n(?:\n#|```)", text)[1]


def once_more(text: str, old: str, new: str) -> str:
    """The last line that begins with a name once more, under another name."""
    line = [line for line in text.splitlines() if line.lstrip().startswith(old)][-1]
    return text.replace(line, line + "\n" + line.replace(old, new, 1))


def insert(file: Path, before: str, text: str) -> None:
    """Put a text before the first place of another in a file."""
    content = file.read_text()
    assert before in content, f"{file.name}: no {before!r}"
    file.write_text(content.replace(before, text + before, 1))


def add_rows(folder: Path) -> None:
    """An encoder, an LLM, runs, a table and a claim more."""
    config = folder / "config"
    for name, old, new in (
        ("encoders.yaml", "SigLIP2:", "MyEncoder:"),
        ("llms.yaml", "Qwen2.5-3B:", "MyLLM:"),
    ):
        file = config / name
        file.write_text(once_more(file.read_text(), old, new))
    with (config / "recipes.yaml").open("a") as recipes:
        recipes.write(example("recipes.yaml") + RUNS)
    with (config / "tables.yaml").open("a") as tables:
        tables.write(example("tables.yaml"))
        tables.write("\n      - {label: {Run: another encoder}, recipe: sft-mine}\n")
    claims = config / "claims.yaml"
    claims.write_text(claims.read_text().rstrip() + CLAIM)


def add_benchmark(folder: Path) -> None:
    """A benchmark more, and a column of it in the table of `add_rows`."""
    file, tables = folder / "config/benchmarks.tsv", folder / "config/tables.yaml"
    file.write_text(once_more(file.read_text(), "DocVQA\t", "MyDocs\t"))
    text = tables.read_text().replace("\ncolumns:\n", "\ncolumns:\n  Docs: [MyDocs]\n", 1)
    text = text.replace("\nbenchmarks:\n", "\nbenchmarks:\n  MyDocs: {benchmark: MyDocs}\n", 1)
    before, name, mine = text.rpartition("\n  mine:\n")
    tables.write_text(before + name + mine.replace("OCR]", "OCR, Docs]"))


def add_source(folder: Path) -> None:
    """A source more, of which smoke scale has three images."""
    file, sizes = folder / "config/sources_mini.tsv", folder / "config/scales/smoke.yaml"
    file.write_text(once_more(file.read_text(), "Receipts\t", "Bills\t"))
    sizes.write_text(sizes.read_text().replace("Receipts: 3", "Receipts: 3, Bills: 3"))


def add_figure(folder: Path) -> None:
    """A figure more, of the table of `add_rows`, in the files that the guide names."""
    (folder / "granvit/reporting/bars.py").write_text(DRAWING)
    (folder / "workflow_scripts/draw_bars.py").write_text(SCRIPT)
    with (folder / "rules/figures.smk").open("a") as rules:
        rules.write(RULE)
    with (folder / "config/figures.yaml").open("a") as settings:
        settings.write("\nfigure14:\n  column: OCR\n")
    schema = folder / "granvit/config/figures.py"
    insert(schema, "class FiguresFile(", SETTINGS.removesuffix("class FiguresFile("))
    insert(schema, "    figure1a: Radar\n", "    figure14: Bars\n")
    insert(folder / "granvit/config/steps.py", '    "figure": (', '    "bars": ("draw_bars",),\n')
    call(folder, "python", "-m", "granvit.config.steps", "keep", "bars")
