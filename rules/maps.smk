"""What encoders look at: Figures 1b, 8 and 9, and the locality behind them."""


localrules:
    draw_maps,
    make_locality,
    copy_locality,


rule map_queries:
    input:
        models=of_shown_runs("model"),
        mixture=fill(rules.draw_mixture.output.mixture, mixture="heldout"),
        own=lambda wildcards: [own.image for own in getattr(FIGURES, wildcards.figure).own],
    output:
        maps="<results>/maps/{figure}.safetensors",
        points="<results>/maps/{figure}.json",
    log:
        "<logs>/map_queries/{figure}.log",
    benchmark:
        "<timings>/map_queries/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(figures.MAP_FIGURES),
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),
    params:
        encoders=FIGURES.attention_maps.encoders,
        points=lambda wildcards: getattr(FIGURES, wildcards.figure).model_dump(),
        data_types=for_job(data.data_types),
        device=lookup(dpath="{scale}/compute/device", within=SETTINGS),
        version=steps.version("maps"),
    message:
        "Mapping the query points of {wildcards.figure} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/map_queries.py"


rule draw_maps:
    input:
        maps=rules.map_queries.output.maps,
        points=rules.map_queries.output.points,
    output:
        **figure_files("{figure}"),
    log:
        "<logs>/draw_maps/{figure}.log",
    benchmark:
        "<timings>/draw_maps/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(figures.MAP_FIGURES),
    threads: 1
    resources:
        mem_mb=1000,
    params:
        facts=for_job(figures.figure_facts, sections=FIGURES, seed=SEED),
        version=steps.version("map_figure"),
    message:
        "Drawing {wildcards.figure} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_maps.py"


rule measure_locality:
    input:
        model=trained_model,
        mixture=fill(rules.draw_mixture.output.mixture, mixture="heldout"),
    output:
        boxes="<results>/locality/<run>.parquet",
    log:
        "<logs>/measure_locality/{recipe}-seed{seed}.log",
    benchmark:
        "<timings>/measure_locality/{recipe}-seed{seed}.tsv"
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),
    params:
        data_types=for_job(data.data_types),
        device=lookup(dpath="{scale}/compute/device", within=SETTINGS),
        version=steps.version("locality"),
    message:
        "Measuring where the encoder of {wildcards.recipe}, seed {wildcards.seed}, looks"
    script:
        "../workflow_scripts/measure_locality.py"


rule make_locality:
    input:
        boxes=of_shown_runs("boxes", "attention_maps"),
    output:
        csv=in_report("<tables>/attention_locality.csv", "locality", "Tables", table="attention_locality"),
    log:
        "<logs>/make_locality/attention_locality.log",
    benchmark:
        "<timings>/make_locality/attention_locality.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        encoders=FIGURES.attention_maps.encoders,
        version=steps.version("locality_table"),
    message:
        "Making attention_locality at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_locality.py"


use rule copy_table as copy_locality with:
    input:
        csv="<tables>/attention_locality.csv",
    output:
        csv="results/attention_locality.csv",
    log:
        "results/logs/copy_locality/attention_locality.log",
    benchmark:
        "results/timings/copy_locality/attention_locality.tsv"
    message:
        f"Copying attention_locality of the {SCALE} scale"
