"""The same comparison over several seeds: mean and standard deviation of every row of Table 1."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from granvit.config.tables import load_tables
from granvit.files import write_text
from granvit.reporting import markdown
from granvit.reporting.scores import Scores


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

    ``difference`` is the last recipe's mean minus the first's. Raises GranvitError naming a score file that
    is missing and the command that makes it.
    """
    spec = load_tables(tables)["table1"]
    names = {recipe: name for name, recipe in spec.layout.models.items()}
    named = {names.get(recipe, recipe): recipe for recipe in recipes}
    by_seed = {seed: Scores(scores_root, seed, spec.shared).by_benchmark(named) for seed in seeds}
    rows = pd.concat(by_seed, names=["seed"]).groupby(level=["capability", "benchmark"], sort=False)
    means = rows.agg(statistics.fmean)  # exact before it is rounded, unlike pandas' own
    deviations = rows.std().fillna(0.0)
    difference = means.iloc[:, -1] - means.iloc[:, 0]
    pairs = {
        f"{name} {what}": of[name] for name in named for what, of in (("mean", means), ("sd", deviations))
    }
    table = pd.DataFrame({**pairs, "difference": difference}).assign(seeds=len(seeds), scale=scale)
    write_text(out_csv, table.to_csv(float_format="%.2f", lineterminator="\n"))
    shown = []
    for row in table.index:
        cells = (f"{means.loc[row, name]:.2f} ± {deviations.loc[row, name]:.2f}" for name in named)
        shown.append([*row, *cells, f"{difference[row]:+.2f}"])
    models = [markdown.marked(name, markdown.scale_tag(scale)) for name in named]
    body = markdown.table(["Capability", "Benchmark", *models, "difference"], shown, left=2)
    note = f"Mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})."
    write_text(
        out_md, "\n".join(["# Table 1 over several seeds\n", f"{markdown.SCALE_NOTES[scale]} {note}\n", body])
    )
