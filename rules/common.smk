"""Settings, and how rules name files. Functions stand here and in inputs.smk only; granvit.graph says what a job depends on."""

import inspect
import os
import sys
from functools import cache, wraps

from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile, strip_wildcard_constraints

sys.path.insert(0, workflow.basedir)

from granvit import finished, fork_server
from granvit.config import steps
from granvit.config.claims import load_claims, require_recipes
from granvit.config.figures import load_figures
from granvit.config.gates import load_gates
from granvit.config.loading import SCALES, merge, read_words
from granvit.config.tables import load_tables, required_forward_runs, required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks, slug
from granvit.files import require_writable
from granvit.graph import claims as graph_claims
from granvit.graph import data, figures, profiles, runs, times
from granvit.graph import report as graph_report
from granvit.graph.scale import Scale
from granvit.miniature.standins import SMALLEST_LLM
from granvit.processes import plain_path


def reported(function):
    """A user's mistake becomes Snakemake's own one-message error instead of a traceback."""

    @wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except GranvitError as error:
            raise WorkflowError(str(error)) from None

    return wrapper


# Snakemake writes the interpreter's path into shell commands as it is.
sys.executable = reported(plain_path)(sys.executable)

# What the user overrides on the command line or in a profile; every scale's own file stays below it.
OVERRIDES = merge(
    dict(workflow.config_settings.overwrite_config), read_words(dict(workflow.config_settings.config))
)
config["overrides"] = OVERRIDES  # for scripts that read a setting which reruns nothing

# Only where a person typed the command: jobs get what is in force as options of their own.
if workflow.is_main_process:
    reported(profiles.require_command)(workflow, sys.argv[1:], os.environ)
    if said := reported(times.give_back_times)():
        print(said, file=sys.stderr)

SCALE = config["scale"]
SEED = config["seed"]
AT = {scale: Scale(scale, OVERRIDES) for scale in [*SCALES, SCALE]}
# The scale in force comes first: every mistake in its files is reported before the first job.
reported(lambda scale: (scale.config, scale.recipes, scale.sources))(AT[SCALE])
if workflow.is_main_process:
    if not profiles.only_looks(sys.argv[1:]):
        reported(require_writable)("results", f"results/{SCALE}", "state")
    elif note := data.absence_note(AT[SCALE]):
        print(note, file=sys.stderr)
TABLES = reported(load_tables)()
PAPER_TABLES = [name for name, table in TABLES.items() if table.layout.paper]
BEYOND_TABLES = [name for name in TABLES if name not in PAPER_TABLES]
# Tables whose runs' cost can be asked for
COST_TABLES = ["table1", *BEYOND_TABLES]
# Those of them that the scale in force has the models for
OFFERED = ["table1", *runs.offered(AT[SCALE], {name: TABLES[name] for name in BEYOND_TABLES})]
FIGURES = reported(load_figures)()
CLAIMS = reported(load_claims)(TABLES)
reported(require_recipes)(CLAIMS, AT[SCALE].recipes)
reported(graph_claims.require_known)(AT[SCALE].config.claims or (), CLAIMS)
BENCHMARKS = {benchmark.slug: benchmark.tsv for benchmark in reported(load_benchmarks)()}
SLUGS = list(BENCHMARKS)
# Settings that only name a value, for `lookup`: it walks through all that it is given, so these are no more than needed
LOOKED_UP = {
    "compute": True,
    "evaluation": {"batch_size"},
    "data": {"max_image_pixels", "rendered_questions", "rendered_from", "contamination"},
}
SETTINGS = reported(lambda: {scale: AT[scale].config.model_dump(include=LOOKED_UP) for scale in SCALES})()
# Every figure that some rule draws
PLAIN_FIGURES = ["figure1a", "figure2", "figure3", "figure4a", "figure5"]
DRAWN = [*PLAIN_FIGURES, *figures.MAP_FIGURES, *figures.ANSWER_FIGURES, *data.SAMPLE_FIGURES]
# Tables that are counted from the data
DATA_TABLES = ["table6", "table7"]
# Tables of every cell, and of every held-out box: CSV only
PLAIN_TABLES = ["comparison", "attention_locality"]
# Every table that a report shows where nobody chose some
MADE_TABLES = [*PAPER_TABLES, *DATA_TABLES, *PLAIN_TABLES]
# The two rows that are compared over several seeds
COMPARED = ["sft-siglip2", "sft-granvit"]


wildcard_constraints:
    source=r"[A-Za-z0-9_-]+",
    shard=r"\d{5}",
    mixture=r"[A-Za-z0-9-]+",
    table=r"table\d+",


# Where results are: rules write to <data>/..., and name other rules' files by their outputs. `wildcard_constraints` does not
# reach wildcards in here, so these carry their own.
pathvars:
    results=f"results/{{scale,{'|'.join(SCALES)}}}",
    data="<results>/data",
    tables="<results>/tables",
    figures="<results>/figures",
    logs="<results>/logs",
    timings="<results>/timings",
    standins="results/standins",
    run=r"{recipe,[a-z0-9][a-z0-9.-]*}/seed{seed,\d+}",


def for_job(function, **given):
    """An input or params function that asks `function` of granvit.graph: its argument `scale` is what config/ says at the
    job's scale, every other one is `given` or the wildcard of that name."""
    names = [name for name in inspect.signature(function).parameters if name not in given]

    @reported
    def answer(wildcards):
        found = {name: AT[wildcards.scale] if name == "scale" else wildcards.get(name) for name in names}
        return function(**found, **given)

    return answer


@cache
def pattern(file):
    """A rule's output file without the constraints of its wildcards."""
    return strip_wildcard_constraints(file)


def fill(file, **wildcards):
    """A rule's output file with some of its wildcards given; the others stay open. The paper's graph asks this 240,000
    times, of which `expand` would make minutes."""
    path = pattern(str(file))
    for name, value in wildcards.items():
        path = path.replace(f"{{{name}}}", str(value))
    return path


def in_report(file, caption, category, **label):
    """An output that `snakemake --report` shows, under a label and its scale."""
    return report(
        file, caption=f"report/{caption}.rst", category=category, labels=label | {"scale": "{scale}"}
    )


def figure_files(figure):
    """A figure as PNG, PDF and sidecar (recipes or keys shown, settings), all written by `save_figure`."""
    png = in_report(f"<figures>/{figure}.png", "figure", "Figures", figure=figure)
    return {"figure": png, "pdf": f"<figures>/{figure}.pdf", "sidecar": f"<figures>/{figure}.json"}


def of_shards(file, sources):
    """A rule's output file for each shard of each of the sources."""
    return [
        fill(file, source=source.name, shard=shard) for source in sources for shard in source.shard_names()
    ]


def shards(file, of=data.all_sources):
    """An input function: a rule's output file for each shard of the sources that `of` names."""
    sources = for_job(of)
    return lambda wildcards: of_shards(file, sources(wildcards))


def unfiltered(sources):
    """An input function: the records before the filters of each of some sources, as annotated or, where no model
    annotates a source, as ingested."""
    made = {True: rules.annotate_regions.output.records, False: rules.ingest_source.output.tar}
    found = for_job(sources)
    return lambda wildcards: [
        fill(made[source.is_annotated], source=source.name, shard=shard)
        for source in found(wildcards)
        for shard in source.shard_names()
        if wildcards.get("shard") in (None, shard)
    ]


def sources_annotated(on_accelerator):
    """A pattern of the names of sources that a model inside the job annotates, or of all the others.

    Where scales disagree about a name, the scale in force is right: a name has to fit one rule only.
    """
    wants = reported(data.wants_accelerator)
    kinds = {s.name: wants(AT[of], s.name) for of in [*SCALES, SCALE] for s in data.annotated_sources(AT[of])}
    return "|".join(name for name, kind in kinds.items() if kind == on_accelerator) or "(?!)"
