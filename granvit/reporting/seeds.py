"""The same comparison over several seeds: mean and standard deviation of every row of Table 1."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from granvit.config.tables import load_tables
from granvit.files import write_csv, write_text
from granvit.reporting import markdown
from granvit.reporting.scores import AVERAGE, Scores
from granvit.reporting.tables import printed_rows


def make_seeds(
    recipes: Sequence[str],
    seeds: Sequence[int],
    scores_root: str | Path,
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    tables: str | Path = "config/tables.yaml",
) -> None:
    """Write mean and sample standard deviation over ``seeds`` per benchmark and capability, a pair of columns
    a recipe.

    ``difference`` is the last recipe's mean minus the first's.
    """
    spec = load_tables(tables)["table1"]
    names = {recipe: name for name, recipe in spec.layout.models.items()}
    by_seed = [Scores(scores_root, seed, spec.shared) for seed in seeds]
    rows, shown = [], []
    for capability, name, members in printed_rows(spec):
        pairs = []
        for recipe in recipes:
            values = [s.mean(recipe, members) if name == AVERAGE else s.cell(recipe, name) for s in by_seed]
            pairs.append((statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0))
        difference = pairs[-1][0] - pairs[0][0]
        numbers = [f"{number:.2f}" for pair in pairs for number in pair]
        rows.append([capability, name, *numbers, f"{difference:.2f}", str(len(seeds)), scale])
        shown.append(
            [capability, name, *(f"{mean:.2f} ± {sd:.2f}" for mean, sd in pairs), f"{difference:+.2f}"]
        )
    header = [f"{names.get(recipe, recipe)} {what}" for recipe in recipes for what in ("mean", "sd")]
    write_csv(out_csv, ["capability", "benchmark", *header, "difference", "seeds", "scale"], rows)
    tag = markdown.scale_tag(scale)
    models = [markdown.marked(names.get(recipe, recipe), tag) for recipe in recipes]
    body = markdown.table(["Capability", "Benchmark", *models, "difference"], shown, left=2)
    note = f"Mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})."
    write_text(
        out_md, "\n".join(["# Table 1 over several seeds\n", f"{markdown.SCALE_NOTES[scale]} {note}\n", body])
    )
