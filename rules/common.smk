"""Settings, and helper functions of the rules: the only file with functions. granvit.graph says what a job depends on."""

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
from granvit.config.loading import SCALES, merge, read_words
from granvit.config.tables import load_tables, required_forward_runs, required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks, slug
from granvit.graph import claims as graph_claims
from granvit.graph import data, figures, profiles, runs
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

SCALE = config["scale"]
SEED = config["seed"]
AT = {scale: Scale(scale, OVERRIDES) for scale in [*SCALES, SCALE]}
# The scale in force comes first: every mistake in its files is reported before the first job.
reported(lambda scale: (scale.config, scale.recipes, scale.sources))(AT[SCALE])
TABLES = reported(load_tables)()
PAPER_TABLES = [name for name, table in TABLES.items() if table.layout.paper]
BEYOND_TABLES = [name for name in TABLES if name not in PAPER_TABLES]
# Tables whose runs' cost can be asked for
COST_TABLES = ["table1", *BEYOND_TABLES]
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
    "data": {"max_image_pixels", "rendered_questions", "contamination"},
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
    return report(file, caption=f"report/{caption}.rst", category=category, labels=label | {"scale": "{scale}"})


def figure_files(figure):
    """A figure as PNG, PDF and sidecar (recipes or keys shown, settings), all written by `save_figure`."""
    png = in_report(f"<figures>/{figure}.png", "figure", "Figures", figure=figure)
    return {"figure": png, "pdf": f"<figures>/{figure}.pdf", "sidecar": f"<figures>/{figure}.json"}


def of_shards(file, sources):
    """A rule's output file for each shard of each of the sources."""
    return [fill(file, source=source.name, shard=shard) for source in sources for shard in source.shard_names()]


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


def run_file(kind, recipe, seed=SEED):
    """A file of a training run: its manifest, model, training_log or timing; or its answers to held-out questions, or the
    boxes of its encoder's locality."""
    later = {"answers": "answer_heldout", "boxes": "measure_locality"}
    output = getattr(rules, later.get(kind, runs.TRAINING_RULES[recipe.stage])).output
    return fill(output.get(kind), recipe=recipe.name, seed=seed)


def of_shown_runs(kind, figure=None, seeds=None):
    """An input function: a file of each run that a figure shows, in their order; of each all seeds."""

    @reported
    def files(wildcards):
        scale, names = AT[wildcards.scale], figures.recipes_shown(FIGURES, figure or wildcards.figure)
        return [run_file(kind, scale.recipe(name), seed) for name in names for seed in seeds or [SEED]]

    return files


@reported
def scaling_mixtures(wildcards):
    """What the stage that each point of Fig. 5 varies learned from: counts of its mixture."""
    points = figures.scaling_points(AT[wildcards.scale], FIGURES.figure5)
    return [fill(rules.draw_mixture.output.summary, mixture=point["mixture"]) for point in points]


def is_recorded(file):
    """Whether Snakemake has seen the job end that made a file."""
    return workflow.persistence.metadata(IOFile(file)) is not None


def start_of_run(stage):
    """An input function for the training of a stage: its runs' mixtures, and the checkpoints that they start from."""

    @reported
    def files(wildcards):
        scale = AT[wildcards.scale]
        recipe = scale.recipe(wildcards.recipe)
        if workflow.is_main_process:
            manifest = fill(getattr(rules, runs.TRAINING_RULES[stage]).output.manifest, **dict(wildcards.items()))
            runs.require_own_run(recipe, stage, Path(manifest), lambda: is_recorded(manifest))
        mixture = rules.draw_mixture.output.mixture
        found = {"mixture": fill(mixture, mixture=recipe.mixture)}
        if recipe.eval_every:
            found["heldout"] = fill(mixture, mixture="heldout")
        if recipe.tokens_of:
            found["tokens_of"] = fill(mixture, mixture=recipe.tokens_of)
        for role, other in {"parent": recipe.parent, "encoder_from": recipe.encoder_from}.items():
            if other:
                found[role] = run_file("manifest", scale.recipe(other), wildcards.seed)
                found[f"{role}_model"] = run_file("model", scale.recipe(other), wildcards.seed)
        if scale.is_rendered and not recipe.parent:
            found["llm"] = f"{scale.config.llms[recipe.llm].path}/model.safetensors"
            if not recipe.encoder_from:
                found["encoder"] = f"{scale.config.encoders[recipe.encoder].path}/model.safetensors"
        return found

    return files


@reported
def trained_model(wildcards):
    """The model folder of the run that a prediction is made with."""
    return run_file("model", AT[wildcards.scale].recipe(wildcards.recipe), wildcards.seed)


def benchmark_files(folder, suffix):
    """One file a benchmark, by the benchmark's slug."""
    return [f"{folder}/{slug}.{suffix}" for slug in BENCHMARKS]


def question_files(wildcards):
    """The benchmarks' files, where a rule renders them; the user's own are no declared input.

    What they hold follows from `runs.question_settings`, so that a fresh copy of the same questions reruns nothing.
    """
    scale = AT[wildcards.scale]
    files = sorted({f"{scale.config.data.benchmarks}/{tsv}" for tsv in BENCHMARKS.values()})
    return [ancient(file) for file in files] if scale.is_rendered else []


def scores_of(recipes, seeds, rule=None, kind="scores"):
    """Every score file of the named runs, or every verdicts file."""
    files = (rule or rules.score_benchmarks).output.get(kind)
    return [fill(file, recipe=recipe, seed=seed) for recipe in recipes for seed in seeds for file in files]


def scores_behind(table, kind="scores"):
    """Every score file (or verdicts file) that a table's cells come from, the chance row's among them."""
    chance = [name for name in [table.layout.chance] if name]
    leaves = scores_of(required_leaves(table), [SEED], kind=kind)
    return leaves + scores_of(chance, [SEED], rules.score_shuffled, kind)


@reported
def table_inputs(wildcards):
    """Scores, and manifests of the runs whose cost a table shows."""
    table = TABLES[wildcards.table]
    costed = [AT[wildcards.scale].recipe(name) for name in required_forward_runs(table)]
    return {"scores": scores_behind(table), "manifests": [run_file("manifest", run) for run in costed]}


@reported
def claim_inputs(wildcards):
    """What the claims are tested on: verdicts of the benchmarks that they name (the job that makes them also makes the
    scores that are held against them), training logs, attention in boxes."""
    scale = AT[wildcards.scale]
    asked = graph_claims.needed(scale, CLAIMS, TABLES)
    verdicts = rules.score_benchmarks.output.verdicts
    of = [(verdicts[SLUGS.index(slug(name))], run, seed) for run, seed, name in asked.answers]
    files = {"verdicts": [fill(file, recipe=run, seed=seed) for file, run, seed in of]}
    for name, kind, found in (("logs", "training_log", asked.logs), ("boxes", "boxes", asked.boxes)):
        files[name] = [run_file(kind, scale.recipe(run), seed) for run, seed in found]
    return files


@reported
def lineages(wildcards):
    """The runs behind each row of a table, by the row's recipe."""
    scale, leaves = AT[wildcards.scale], required_leaves(TABLES[wildcards.table])
    return {leaf: [run.name for run in runs.with_ancestors(scale, [leaf])] for leaf in leaves}


@reported
def cost_inputs(wildcards):
    """What the cost of a table's runs is counted from: manifests and times of all that they start from, the mixtures
    that these went through, and a model of each row."""
    scale, leaves = AT[wildcards.scale], required_leaves(TABLES[wildcards.table])
    behind = runs.with_ancestors(scale, leaves)
    mixtures = sorted({run.mixture for run in behind})
    return {
        "manifests": [run_file("manifest", run) for run in behind],
        "timings": [run_file("timing", run) for run in behind],
        "models": [run_file("model", scale.recipe(name)) for name in leaves],
        "mixtures": [fill(rules.draw_mixture.output.mixture, mixture=name) for name in mixtures],
    }


def results_of(tables):
    """The copies, under results/, of the tables named."""
    return expand("results/{table}.{suffix}", table=tables, suffix=["csv", "md"])


# What the report of a job's scale shows
TABLES_SHOWN = for_job(graph_report.shown, kind="tables", known=[*MADE_TABLES, *BEYOND_TABLES, "seeds"], made=MADE_TABLES)
FIGURES_SHOWN = for_job(graph_report.shown, kind="figures", known=DRAWN, made=DRAWN)


def table_files(table):
    """A table's CSV and Markdown, whatever rule makes it; of some there is a CSV only."""
    if table in PLAIN_TABLES:
        return [fill(rules.make_table.output.csv, table=table)]
    makers = {"seeds": rules.compare_seeds} | dict.fromkeys(DATA_TABLES, rules.make_data_table)
    return [fill(file, table=table) for file in makers.get(table, rules.make_table).output]


def drawn_files(figure):
    """A figure's PNG, PDF and sidecar, whatever rule makes it."""
    png = Path(fill(rules.draw_radar.output.figure))
    return [str(png.with_name(f"{figure}{end}")) for end in (".png", ".pdf", ".json")]


@reported
def report_inputs(wildcards):
    """Everything that the report of a scale shows: tables and figures, the scores and verdicts that the cells come
    from, and the manifests and times of the runs behind them."""
    scale = AT[wildcards.scale]
    tables, drawn = TABLES_SHOWN(wildcards), FIGURES_SHOWN(wildcards)
    scored = [TABLES[name] for name in tables if name in TABLES]
    seeds = scale.config.comparison_seeds if "seeds" in tables else []
    files = {kind: [file for table in scored for file in scores_behind(table, kind)] for kind in ("scores", "verdicts")}
    files = {kind: found + scores_of(COMPARED, seeds, kind=kind) for kind, found in files.items()}
    made = graph_report.runs_behind(scale, scored, SEED, [(name, seed) for name in COMPARED for seed in seeds])
    files |= {f"{kind}s": [run_file(kind, run, seed) for run, seed in made] for kind in ("manifest", "timing")}
    files["tables"] = [file for name in tables for file in table_files(name)]
    files["figures"] = [file for name in drawn for file in drawn_files(name)]
    reports = (rules.report_filters, rules.report_rejects, rules.find_contamination, rules.audit_annotations)
    files["data"] = [fill(rule.output.report) for rule in reports if scale.config.report.data]
    return {kind: list(dict.fromkeys(found)) for kind, found in files.items()}
