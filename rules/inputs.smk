"""What jobs are made from: input functions of the rules, and the files that they name."""


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
            manifest = fill(
                getattr(rules, runs.TRAINING_RULES[stage]).output.manifest, **dict(wildcards.items())
            )
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


def files_asked(function, **given):
    """An input function: the files that `function` of granvit.graph asks for, by name: (kind, run, seed) is a run's file,
    (kind, run, seed, benchmark) what its answers are worth, (kind, mixture) a mixture."""
    asked = for_job(function, **given)

    def file(scale, kind, of, seed=None, benchmark=None):
        if kind == "mixture":
            return fill(rules.draw_mixture.output.mixture, mixture=of)
        if benchmark:
            files = rules.score_benchmarks.output.get(kind)
            return fill(files[SLUGS.index(slug(benchmark))], recipe=of, seed=seed)
        return run_file(kind, AT[scale].recipe(of), seed)

    return lambda wildcards: {
        name: [file(wildcards.scale, *one) for one in found] for name, found in asked(wildcards).items()
    }


def results_of(tables):
    """The copies, under results/, of the tables named."""
    return expand("results/{table}.{suffix}", table=tables, suffix=["csv", "md"])


# What the report of a job's scale shows
TABLES_SHOWN = for_job(
    graph_report.shown,
    kind="tables",
    known=[*MADE_TABLES, *BEYOND_TABLES, "seeds", "claims"],
    made=MADE_TABLES,
)
FIGURES_SHOWN = for_job(graph_report.shown, kind="figures", known=DRAWN, made=DRAWN)


def table_files(table):
    """A table's CSV and Markdown, whatever rule makes it; of some there is a CSV only."""
    if table in PLAIN_TABLES:
        return [fill(rules.make_table.output.csv, table=table)]
    makers = {"seeds": rules.compare_seeds, "claims": rules.make_claims} | dict.fromkeys(
        DATA_TABLES, rules.make_data_table
    )
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
    files = {
        kind: [file for table in scored for file in scores_behind(table, kind)]
        for kind in ("scores", "verdicts")
    }
    files = {kind: found + scores_of(COMPARED, seeds, kind=kind) for kind, found in files.items()}
    made = graph_report.runs_behind(
        scale, scored, SEED, [(name, seed) for name in COMPARED for seed in seeds]
    )
    files |= {
        f"{kind}s": [run_file(kind, run, seed) for run, seed in made] for kind in ("manifest", "timing")
    }
    files["tables"] = [file for name in tables for file in table_files(name)]
    files["figures"] = [file for name in drawn for file in drawn_files(name)]
    reports = (rules.report_filters, rules.report_rejects, rules.find_contamination, rules.audit_annotations)
    files["data"] = [fill(rule.output.report) for rule in reports if scale.config.report.data]
    return {kind: list(dict.fromkeys(found)) for kind, found in files.items()}
