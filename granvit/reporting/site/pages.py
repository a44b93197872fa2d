"""`snakemake report`: the whole report, from results on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import yaml
from PIL import Image

from granvit.config import steps
from granvit.config.loading import Config
from granvit.config.schema import Stage
from granvit.config.tables import TableSpec, required_benchmarks, required_leaves
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.files import read_json, remove_leftovers, whole_folder
from granvit.progress import Progress, say
from granvit.reporting import markdown
from granvit.reporting.site import record
from granvit.reporting.site.claims import write_claims
from granvit.reporting.site.galleries import Galleries
from granvit.reporting.site.means import Means
from granvit.reporting.site.places import Answered, cell_page, run_page
from granvit.reporting.site.plain import PLAIN_TABLES, write_data, write_plain
from granvit.reporting.site.record import Runs
from granvit.reporting.site.tables import TableView, data_table, score_table, seeds_table
from granvit.reporting.site.writing import STYLE, Site

DATA_TABLES = ("table6", "table7")
WITH_A_PAGE = (*PLAIN_TABLES, "claims")  # tables that do not stand on the first page


@dataclass(frozen=True)
class Wanted:
    """What a report is made of.

    ``results``: the scale's folder; ``tables``, ``figures``: names, in the order in which they stand;
    ``manifests``: of every run behind the tables and of all that these started from; ``phases``: rule ->
    phase; ``drawn``: figures that some rule makes; ``captions``: figure -> what it shows; ``compared``: the
    recipes of the comparison over seeds.
    """

    config: Config
    results: Path
    tables: Sequence[str]
    figures: Sequence[str]
    manifests: Sequence[str | Path]
    phases: Mapping[str, str]
    drawn: Sequence[str]
    captions: Mapping[str, str]
    compared: Sequence[str]
    reported_csv: Path = Path("config/reported/results.csv")

    @property
    def scale(self) -> str:
        return self.config.scale


def make_report(
    out: str | Path, wanted: Wanted, specs: Mapping[str, TableSpec], log: str | Path | None = None
) -> None:
    """Write the report as the folder ``out``, whole or not at all; ``specs``: the tables of
    config/tables.yaml. Raises GranvitError naming a result that is missing or broken."""
    remove_leftovers(out)
    with whole_folder(out) as folder:
        report = _Report(Site(folder), wanted, specs)
        report.write(log)
        say(log, f"{out}: {report.site.pages} pages, {_size(folder):.1f} MB")


def _stage_first(row: Mapping[str, Any]) -> tuple[int, str, int]:
    return get_args(Stage).index(row["stage"]), row["name"], row["seed"]


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


class _Report:
    def __init__(self, site: Site, wanted: Wanted, specs: Mapping[str, TableSpec]) -> None:
        self.site, self.wanted, self.specs = site, wanted, specs
        self.shared = next(iter(specs.values())).shared
        self.seed = wanted.config.seed
        self.runs = Runs([*wanted.manifests, *self._manifests_of_figures()])
        self.galleries = Galleries(
            site, wanted.results, Path(wanted.config.data.benchmarks), self.shared, wanted.config.report,
            self.runs, self.lineage,
        )  # fmt: skip

    def _manifests_of_figures(self) -> list[Path]:
        """Manifests of the runs that figures show, and of all that these started from, as far as they are
        there: the figures were made from them."""
        found: dict[str, Path] = {}
        sidecars = (self.wanted.results / "figures" / f"{name}.json" for name in self.wanted.figures)
        queue = [recipe for sidecar in sidecars for recipe in read_json(sidecar).get("recipes") or {}]
        while queue:
            name = queue.pop()
            paths = list(self.wanted.results.glob(f"*/{name}/seed{self.seed}/manifest.json"))
            if paths and name not in found:
                found[name] = paths[0]
                recipe = read_json(paths[0])["recipe"]
                queue += [other for role in ("parent", "encoder_from") if (other := recipe.get(role))]
        return [found[name] for name in sorted(found)]

    def write(self, log: str | Path | None) -> None:
        shutil.copyfile(STYLE, self.site.file("style.css"))
        everyone, benchmarks = self.answered(), load_benchmarks()
        progress = Progress(len(benchmarks), "report: galleries", "benchmarks", log)
        for number, benchmark in enumerate(benchmarks, 1):
            of = [one for one in everyone if benchmark.name in everyone[one]]
            if of:
                self.galleries.write(benchmark, of, partial(say, log))
            progress.update(number)
        laid_out = [name for name in self.wanted.tables if name not in WITH_A_PAGE]
        views = [self.view(name) for name in laid_out]
        for name in laid_out:
            self._copy("tables", name, ("csv", "md"))
        means = Means(self.site, self.galleries, self.wanted.compared, self.wanted.config.comparison_seeds)
        means.write({number.href for view in views for _, numbers in view.rows for number in numbers})
        if "seeds" in self.wanted.tables:
            means.write_seeds()
        for (recipe, seed), manifest in self.runs.manifests.items():
            self._run(recipe, seed, manifest, [one for one in everyone if not one.chance])
        reports = write_data(self.site, self.wanted.results) if self.wanted.config.report.data else []
        self._index(views, reports)

    def answered(self) -> dict[Answered, set[str]]:
        """Whose answers the report shows, and to which benchmarks: those that some table's cells need."""
        found: dict[Answered, set[str]] = {}
        for name in self.wanted.tables:
            spec = self.specs.get("table1" if name == "seeds" else name)
            if spec is None:
                continue
            if name == "seeds":
                seeds = self.wanted.config.comparison_seeds
                those = [Answered(recipe, seed) for recipe in self.wanted.compared for seed in seeds]
            else:
                those = [Answered(recipe, self.seed) for recipe in required_leaves(spec)]
                if spec.layout.chance:
                    those.append(Answered(spec.layout.chance, self.seed, chance=True))
            for one in those:
                found.setdefault(one, set()).update(required_benchmarks(spec))
        return found

    def view(self, name: str) -> TableView:
        wanted = self.wanted
        if name in DATA_TABLES:
            there = wanted.config.report.data
            return data_table(
                name, wanted.results, lambda source: "data.html" if there else f"tables/{name}.csv"
            )
        if name == "seeds":
            return seeds_table(wanted.results)
        return score_table(self.specs[name], wanted.results, wanted.scale, self.seed, wanted.reported_csv)

    def lineage(self, recipe: str, seed: int) -> list[dict[str, Any]]:
        """Rows of the table of runs: a run and all that it started from."""
        return [self._row(manifest) for manifest in self.runs.lineage(recipe, seed)]

    def _row(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        recipe, seed, versions = manifest["recipe"], manifest["seed"], manifest["versions"]
        timing = self.runs.timing(recipe["name"], seed)
        parents = [recipe[role] for role in ("parent", "encoder_from") if recipe.get(role)]
        return {
            "name": recipe["name"],
            "seed": seed,
            "href": run_page(recipe["name"], seed),
            "stage": recipe["stage"],
            "hash": manifest["recipe_hash"],
            "parents": ", ".join(parents) or recipe["encoder"],
            "mixture": recipe["mixture"],
            "step": versions.get("step", ""),
            "device": manifest.get("device", ""),
            "torch": versions.get("torch", ""),
            "transformers": versions.get("transformers", ""),
            "time": record.clock(timing["seconds"]) if "seconds" in timing else "",
        }

    def _run(self, recipe: str, seed: int, manifest: Mapping[str, Any], everyone: Sequence[Answered]) -> None:
        """The page of a training run."""
        page, one = run_page(recipe, seed), Answered(recipe, seed)
        file = page.replace("index.html", "manifest.json")
        shutil.copyfile(self.runs.files[recipe, seed], self.site.file(file))
        timing, settings = self.runs.timing(recipe, seed), manifest["recipe"]
        facts = [
            ("Stage", settings["stage"]),
            ("Recipe's hash", manifest["recipe_hash"]),
            ("Encoder, LLM", f"{settings['encoder']}, {settings['llm']}"),
            ("Seed", str(seed)),
            ("Step version", str(manifest["versions"].get("step", ""))),
        ]
        if "seconds" in timing:
            rate = f", {timing['images_per_second']} images a second" if "images_per_second" in timing else ""
            facts.append(("Time", record.clock(timing["seconds"]) + rate))
        scores = [
            (name, score.text, cell_page(one, name))
            for (other, name), score in self.galleries.scores.items()
            if other == one and one in everyone
        ]
        self.site.page(
            page, "run", f"Run {recipe}, seed {seed}", [],
            facts=facts, lineage=self.lineage(recipe, seed), scores=scores, file=file,
            manifest=json.dumps(manifest, indent=1, ensure_ascii=False),
        )  # fmt: skip

    def _copy(self, folder: str, name: str, suffixes: Sequence[str]) -> None:
        for suffix in suffixes:
            file = f"{folder}/{name}.{suffix}"
            shutil.copyfile(self.wanted.results / file, self.site.file(file))

    def _figure(self, name: str) -> dict[str, Any]:
        self._copy("figures", name, ("png", "pdf", "json"))
        facts = read_json(self.wanted.results / "figures" / f"{name}.json")
        with Image.open(self.wanted.results / "figures" / f"{name}.png") as image:
            width, height = image.size
        recipes, keys = facts.get("recipes") or {}, facts.get("keys") or []
        known = self.runs.manifests
        runs = [(run, run_page(run, self.seed) if (run, self.seed) in known else "") for run in recipes]
        return {
            "name": name,
            "title": name.replace("figure", "Figure "),
            "caption": facts.get("caption") or self.wanted.captions.get(name, ""),
            "width": width,
            "height": height,
            "runs": runs,
            "records": len(keys),
        }

    def _index(self, views: Sequence[TableView], reports: Sequence[Mapping[str, Any]]) -> None:
        wanted = self.wanted
        timings = record.timings(wanted.results / "timings", wanted.phases)
        phases: dict[str, list[record.Timing]] = {}
        for timing in timings:
            phases.setdefault(timing.phase, []).append(timing)
        sums = [(name, sum(t.seconds for t in of), sum(t.jobs for t in of)) for name, of in phases.items()]
        self.site.page(
            "index.html", "index", f"GranViT at {wanted.scale} scale", [],
            scale=wanted.scale,
            scale_note=markdown.SCALE_NOTES[wanted.scale].replace("**", ""),
            tables=views,
            plain=[self._plain(name) for name in wanted.tables if name in WITH_A_PAGE],
            figures=[self._figure(name) for name in wanted.figures],
            reports=reports,
            runs=sorted(map(self._row, self.runs.manifests.values()), key=_stage_first),
            versions=record.versions(),
            steps={name: step["version"] for name, step in steps.load_steps().items()},
            config=yaml.safe_dump(wanted.config.model_dump(), sort_keys=False, allow_unicode=True),
            seed=self.seed,
            seeds=wanted.config.comparison_seeds,
            timings=timings,
            phases=sums,
            missing=self._missing(),
        )  # fmt: skip

    def _plain(self, name: str) -> dict[str, Any]:
        """The page of one of ``WITH_A_PAGE``, and what the report's first page says of it."""
        if name != "claims":
            return write_plain(self.site, self.wanted.results, name)
        known = self.runs.manifests
        return write_claims(
            self.site,
            self.wanted.results,
            lambda recipe: run_page(recipe, self.seed) if (recipe, self.seed) in known else "",
        )

    def _missing(self) -> list[dict[str, Any]]:
        wanted = self.wanted
        needed = {name: required_leaves(spec) for name, spec in self.specs.items()}
        needed |= {name: [] for name in DATA_TABLES}
        tables = record.missing_tables(needed, wanted.tables, wanted.results, self.seed)
        return tables + record.missing_figures(wanted.captions, wanted.drawn, wanted.figures)
