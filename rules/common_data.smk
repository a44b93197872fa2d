"""Helper functions of the rules that make data."""

from granvit.data.annotators.choose import annotation_settings

BUDGETS = ["8M", "16M", "24M", "all"]
MIXTURE_TASKS = {
    "bbox2caption": ["bbox2caption"],
    "caption2bbox": ["caption2bbox"],
    "both": ["bbox2caption", "caption2bbox"],
}
# Which of a source's uses each mixture draws from; the rest draw from the pretraining sources.
MIXTURE_USES = {"projector": "projector", "instruction": "sft", "continued": "continued"}
# The figures of samples: the data type that each shows, and its title
SAMPLE_FIGURES = {
    "figure6": ("natural", "Figure 6. Natural images of Gran-29M"),
    "figure7": ("ocr", "Figure 7. OCR images of Gran-29M"),
}
# Columns of a sources file on which neither a catalogue nor an ingested shard depends
SOURCE_NOTES = ("group", "use", "boxes", "origin", "fetch", "licence", "reported_images", "reported_regions", "row")


def raw_folder(wildcards):
    """A source's raw folder, where a rule renders it; the user's own data are no declared input."""
    path = source_row(wildcards)["path"]
    return path if path == f"results/{wildcards.scale}/raw/{wildcards.source}" else []


@told_plainly
def source_row(wildcards):
    """What a source's catalogue and shards depend on: its row of the sources file, its folder resolved."""
    known = sources(wildcards.scale)
    if wildcards.source not in known:
        file = settings(wildcards.scale).data.sources
        raise GranvitError(f"{file}: no source '{wildcards.source}'; known: {', '.join(known)}")
    row = {name: value for name, value in vars(known[wildcards.source]).items() if name not in SOURCE_NOTES}
    return row | {"path": row["path"].replace("{scale}", wildcards.scale)}


def wants_accelerator(source, data):
    """Whether a model that annotates a source runs inside the job, on an accelerator; PaddleOCR's are small, and
    mostly run on the CPU."""
    captions = data.captioner.backend == "transformers" and "captioner" in (source.captions, source.text)
    ocr = source.boxes == "ocr" and data.ocr.device != "cpu"
    return source.boxes == "detector" or captions or ocr


def questions_at_once(wildcards):
    """How many questions a job that annotates a source has in flight at the captioner's server."""
    source, captioner = sources(wildcards.scale)[wildcards.source], settings(wildcards.scale).data.captioner
    asks = captioner.backend == "server" and "captioner" in (source.captions, source.text)
    return captioner.concurrency if asks else 0


def sources_annotated(on_accelerator):
    """A pattern of the names of sources that a model inside the job annotates, or of all the others.

    Where scales disagree about a name, the scale in force is right: a name has to fit one rule only.
    """
    kinds = {}
    for scale in [*SCALES, SCALE]:
        data = settings(scale).data
        kinds |= {source.name: wants_accelerator(source, data) for source in sources(scale).values()}
    return "|".join(name for name, kind in kinds.items() if kind == on_accelerator) or "(?!)"


def annotator_settings(wildcards):
    """What the regions and captions of a source depend on, each annotator with its own step version."""
    source, data = sources(wildcards.scale)[wildcards.source], settings(wildcards.scale).data
    chosen = annotation_settings(source, data, rendered=bool(raw_folder(wildcards)))
    used = ["annotate", *(name for name in ("detector", "captioner", "ocr") if name in chosen)]
    return chosen | {"versions": {name: steps.version(name) for name in used}}


def filter_rules(wildcards):
    """The filters for a source's type of data."""
    return rules_of(sources(wildcards.scale)[wildcards.source], wildcards.scale)


def rules_of(source, scale):
    """The filters of a scale for a source; instruction data pass whatever these are."""
    return {} if source.data_type == "instruction" else settings(scale).data.filters.of(source.data_type).model_dump()


def shard_files(scale, step, suffix, use=None):
    """One file a shard that a data step made, of the sources of one use or of all."""
    used = [source for source in sources(scale).values() if use in (None, source.use)]
    return [file for source in used for file in source_files(scale, source, step, suffix)]


def source_files(scale, source, step, suffix):
    """One file a shard of a source that a data step made."""
    return [f"results/{scale}/data/{step}/{source.name}/{shard}.{suffix}" for shard in source.shard_names()]


def contamination_to_drop(wildcards):
    """Matches with benchmark images, where the configuration leaves these images out."""
    drop = settings(wildcards.scale).data.contamination.drop
    return f"results/{wildcards.scale}/data/contamination.parquet" if drop else []


def packed_shards(wildcards):
    """Index files of every packed shard that a mixture draws from."""
    return shard_files(wildcards.scale, "packed", "parquet", MIXTURE_USES.get(wildcards.mixture, "pretrain"))


@told_plainly
def mixture_settings(wildcards):
    """What decides which questions a mixture holds; its name is a kind, or a task and a budget."""
    data, name = settings(wildcards.scale).data, wildcards.mixture
    if name == "heldout":
        return {"kind": "heldout", "heldout_share": data.heldout_share}
    if name in MIXTURE_USES:
        return {"kind": "conversations", "heldout_share": data.heldout_share}
    task, _, budget = name.rpartition("-")
    if task not in MIXTURE_TASKS or budget not in BUDGETS:
        raise GranvitError(
            f"mixture '{name}': expected heldout, {', '.join(MIXTURE_USES)}, or one of {', '.join(MIXTURE_TASKS)} with a "
            f"budget of {', '.join(BUDGETS)}, as in bbox2caption-8M"
        )
    return {
        "kind": "regions",
        "tasks": ["global_caption", *MIXTURE_TASKS[task]],
        "regions": data.budgets.regions(budget),
        "ocr_region_share": data.ocr_region_share,
        "heldout_share": data.heldout_share,
        "global_captions": data.global_captions,
        "sample_by": data.sample_by,
    }


@told_plainly
def rendered_images(wildcards):
    """How many images of a source the miniature renders."""
    counts = settings(wildcards.scale).data.rendered_images
    if wildcards.source not in counts:
        raise GranvitError(
            f"config/scales/{wildcards.scale}.yaml: data.rendered_images: no number for '{wildcards.source}'; "
            f"known: {', '.join(counts)}"
        )
    return counts[wildcards.source]


def pretrain_sources(scale):
    """The sources of Gran-29M at this scale: those that Tables 6 and 7 count."""
    return [source for source in sources(scale).values() if source.use == "pretrain"]


def sampled_shards(wildcards, suffix):
    """The packed shards of the sources that a figure of samples shows."""
    data_type, _ = SAMPLE_FIGURES[wildcards.figure]
    shown = [source for source in pretrain_sources(wildcards.scale) if source.data_type == data_type]
    return [file for source in shown for file in source_files(wildcards.scale, source, "packed", suffix)]


@told_plainly
def figure2_source(scale):
    """The source of Figure 2: one whose boxes a detector finds, as the paper draws it, else the first natural one."""
    known = pretrain_sources(scale)
    if not known:
        raise GranvitError(f"{settings(scale).data.sources}: no source with use 'pretrain'; Figure 2 shows one, add it")
    return min(known, key=lambda source: (source.data_type != "natural", source.boxes != "detector"))


def figure2_files(wildcards):
    """The shards that Figure 2 shows an image of: before the filters, and packed."""
    source = figure2_source(wildcards.scale)
    files = {"annotated": ("annotated", "jsonl"), "indexes": ("packed", "parquet"), "tars": ("packed", "tar")}
    return {name: source_files(wildcards.scale, source, *step) for name, step in files.items()}


def figure2_settings(wildcards):
    """What Figure 2 depends on besides its shard: the source's filters, and how its annotations are had."""
    source = figure2_source(wildcards.scale)
    return {
        "rules": rules_of(source, wildcards.scale),
        "made_by": {"boxes": source.boxes, "captions": source.captions, "text": source.text},
    }
