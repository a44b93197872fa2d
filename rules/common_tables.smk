"""Helper functions of the rules for tables, figures and targets: which runs and files stand behind each."""

# Stage 1 and stage 2 with both region tasks (Fig. 4)
BOTH_TASKS = ["stage1-8m-both", "stage2-8m-both"]


def scores_behind(table, scale):
    """Every score file that a table's cells come from, the chance row's among them."""
    folders = [f"results/{scale}/scores/{recipe}/seed{SEED}" for recipe in required_leaves(TABLES[table])]
    if TABLES[table].layout.chance:
        folders.append(f"results/{scale}/chance/scores/{TABLES[table].layout.chance}/seed{SEED}")
    return [file for folder in folders for file in benchmark_files(folder, "json")]


def table_inputs(wildcards):
    """Scores, and manifests of the runs whose cost a table shows."""
    costed = required_forward_runs(TABLES[wildcards.table])
    return {
        "scores": scores_behind(wildcards.table, wildcards.scale),
        "manifests": [f"{run_folder(wildcards.scale, recipe, SEED)}/manifest.json" for recipe in costed],
    }


def table_settings(wildcards):
    """What a table's cells are made of: its own layout, and the averages that all tables share."""
    table = TABLES[wildcards.table]
    return table.layout.model_dump() | table.shared.model_dump(exclude={"tables"})


def results_of(tables):
    """The copies, under results/, of the tables named."""
    return expand("results/{table}.{suffix}", table=tables, suffix=["csv", "md"])


def training_logs(wildcards):
    """Logs of the two runs that Fig. 4a shows, in the order of their stages."""
    folders = [run_folder(wildcards.scale, recipe, SEED) for recipe in BOTH_TASKS]
    return [f"{folder}/training_log.csv" for folder in folders]


def scores_of(recipe_names, seeds, scale):
    """Every score file of the named runs."""
    return [
        file
        for recipe in recipe_names
        for seed in seeds
        for file in benchmark_files(f"results/{scale}/scores/{recipe}/seed{seed}", "json")
    ]


def runs_behind(table):
    """Recipes that a table's cells come from, with all their ancestors, by name."""
    known, found = recipes(SCALE), {}
    queue = list(required_leaves(TABLES[table]))
    while queue:
        recipe = known[queue.pop()]
        found[recipe.name] = recipe
        queue += [name for name in (recipe.parent, recipe.encoder_from) if name]
    return dict(sorted(found.items()))


def mixtures_behind(table):
    """Every mixture that the runs behind a table are trained or evaluated on."""
    runs = runs_behind(table).values()
    mixtures = {run.mixture for run in runs} | {"heldout" for run in runs if run.eval_every}
    return [f"results/{SCALE}/data/mixtures/{mixture}.parquet" for mixture in sorted(mixtures)]


def manifests_behind(table, stages):
    """Manifests of the runs of the named stages behind a table."""
    runs = runs_behind(table).values()
    return [f"{run_folder(SCALE, run.name, SEED)}/manifest.json" for run in runs if run.stage in stages]
