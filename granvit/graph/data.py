"""What the jobs that make data depend on: sources, annotators, filters, mixtures, figures of the data."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from granvit.config import steps
from granvit.config.schema import Budget
from granvit.data.annotators.choose import annotation_settings
from granvit.data.sources.table import SourceSpec, absent_source
from granvit.errors import GranvitError
from granvit.graph.scale import Scale

RENDERED_SOURCE = "results/{scale}/raw/{source}"  # where the miniature renders one
# Columns of a sources file on which neither a catalogue nor an ingested shard depends
SOURCE_NOTES = {
    "group", "use", "boxes", "origin", "fetch", "licence", "reported_images", "reported_regions", "row",
    "truth",
}  # fmt: skip
MIXTURE_TASKS = {
    "bbox2caption": ["bbox2caption"],
    "caption2bbox": ["caption2bbox"],
    "both": ["bbox2caption", "caption2bbox"],
    # Controls (docs/controls.md): the same images' captions alone, and each text with another region's box
    "captions": [],
    "shuffled": ["bbox2caption"],
}
# Which of a source's uses each mixture draws from; the rest draw from the pretraining sources.
MIXTURE_USES = {"projector": "projector", "instruction": "sft", "continued": "continued"}
# The figures of samples: the data type that each shows, and how its title begins
SAMPLE_FIGURES = {
    "figure6": ("natural", "Figure 6. Natural images"),
    "figure7": ("ocr", "Figure 7. OCR images"),
}
PAPERS_SOURCES = "config/reported/gran29m_sources.csv"  # names alone are read from it
_NAMED = 6  # sources in a title or a message


def rendered_images(scale: Scale, source: str) -> int:
    """How many images of a source the miniature renders. Raises GranvitError where no number is set."""
    counts = scale.config.data.rendered_images
    if source not in counts:
        raise GranvitError(
            f"config/scales/{scale.name}.yaml: data.rendered_images: no number for '{source}'; "
            f"known: {', '.join(counts)}"
        )
    return counts[source]


def source_row(scale: Scale, source: str) -> dict[str, Any]:
    """What a source's catalogue and shards depend on: its row of the sources file, its folder resolved."""
    row = {name: value for name, value in vars(scale.source(source)).items() if name not in SOURCE_NOTES}
    return row | {"path": row["path"].replace("{scale}", scale.name)}


def rendered_folder(scale: Scale, source: str) -> str | list[str]:
    """A source's raw folder, where a rule renders it; the user's own data are no declared input."""
    path = source_row(scale, source)["path"]
    return path if path == RENDERED_SOURCE.format(scale=scale.name, source=source) else []


def absent_sources(scale: Scale) -> list[SourceSpec]:
    """Sources whose folder is not there and which no job makes, with that folder as their path."""
    placed = [replace(source, path=source_row(scale, source.name)["path"]) for source in all_sources(scale)]
    return [
        source
        for source in placed
        if not (source.is_remote or rendered_folder(scale, source.name) or Path(source.path).exists())
    ]


def absence_note(scale: Scale) -> str:
    """One line about the sources without data, for a plan, which does not need them; empty where none is."""
    absent = [f"{source.name} ({source.path})" for source in absent_sources(scale)]
    if not absent:
        return ""
    count = f"{len(absent)} of {len(scale.sources)} sources of the scale {scale.name} have no data here"
    named = ", ".join(absent[:_NAMED]) + (", ..." if absent[_NAMED:] else "")
    return f"note: {count}: {named}; a run that has to read them will stop before its first job"


def require_sources(scale: Scale, names: Collection[str]) -> None:
    """Raise GranvitError where sources among ``names``, which jobs are about to read, have no data; each
    with its row and how to get it."""
    absent = [source for source in absent_sources(scale) if source.name in names]
    if absent:
        raise GranvitError("\n".join(str(absent_source(source)) for source in absent))


def boxes_given(scale: Scale, source: str) -> bool:
    """Whether a source brings its boxes."""
    return scale.source(source).boxes == "given"


def annotator_settings(scale: Scale, source: str) -> dict[str, Any]:
    """What the regions and captions of a source depend on, each annotator with its own step version."""
    rendered = bool(rendered_folder(scale, source))
    chosen = annotation_settings(scale.source(source), scale.config.data, rendered)
    used = ["annotate", *(name for name in ("detector", "captioner", "ocr") if name in chosen)]
    return chosen | {"versions": {name: steps.version(name) for name in used}}


def wants_accelerator(scale: Scale, source: str) -> bool:
    """Whether a model that annotates a source runs inside the job, on an accelerator; PaddleOCR's are small,
    and mostly run on the CPU."""
    spec, data = scale.source(source), scale.config.data
    captions = data.captioner.backend == "transformers" and "captioner" in (spec.captions, spec.text)
    ocr = spec.boxes == "ocr" and data.ocr.device != "cpu"
    return spec.boxes == "detector" or captions or ocr


def questions_at_once(scale: Scale, source: str) -> int:
    """How many questions a job that annotates a source has in flight at the captioner's server."""
    spec, captioner = scale.source(source), scale.config.data.captioner
    asks = captioner.backend == "server" and "captioner" in (spec.captions, spec.text)
    return captioner.concurrency if asks else 0


def filter_settings(scale: Scale, source: str) -> dict[str, Any]:
    """The filters for a source's type of data; instruction data pass whatever these are."""
    data_type = scale.source(source).data_type
    return {} if data_type == "instruction" else scale.config.data.filters.of(data_type).model_dump()


def all_sources(scale: Scale) -> list[SourceSpec]:
    """Every source of a scale."""
    return list(scale.sources.values())


def one_source(scale: Scale, source: str) -> list[SourceSpec]:
    """The source of a job."""
    return [scale.source(source)]


def annotated_sources(scale: Scale) -> list[SourceSpec]:
    """The sources to which a model adds something; the others bring all that they have."""
    return [source for source in all_sources(scale) if source.is_annotated]


def pretraining_sources(scale: Scale) -> list[SourceSpec]:
    """The sources of Gran-29M at this scale: those that Tables 6 and 7 count."""
    return [source for source in all_sources(scale) if source.use == "pretrain"]


def rendered_pages(scale: Scale) -> dict[str, int]:
    """The miniature's own sources of pages, with how many it renders."""
    named = [source.name for source in pretraining_sources(scale) if source.data_type == "ocr"]
    return {name: rendered_images(scale, name) for name in named if rendered_folder(scale, name)}


def data_types(scale: Scale) -> dict[str, str]:
    """The type of data of each pretraining source: natural or ocr."""
    return {source.name: source.data_type for source in pretraining_sources(scale)}


def mixture_sources(scale: Scale, mixture: str) -> list[SourceSpec]:
    """The sources that a mixture draws from."""
    return [s for s in all_sources(scale) if s.use == MIXTURE_USES.get(mixture, "pretrain")]


def mixture_settings(scale: Scale, mixture: str) -> dict[str, Any]:
    """What decides which questions a mixture holds; its name is a kind, or a task and a budget. Raises
    GranvitError for a name that is neither."""
    data = scale.config.data
    if mixture == "heldout":
        return {"kind": "heldout", "heldout_share": data.heldout_share}
    if mixture in MIXTURE_USES:
        return {"kind": "conversations", "heldout_share": data.heldout_share}
    task, _, budget = mixture.rpartition("-")
    if task not in MIXTURE_TASKS or budget not in get_args(Budget):
        raise GranvitError(
            f"mixture '{mixture}': expected heldout, {', '.join(MIXTURE_USES)}, or one of "
            f"{', '.join(MIXTURE_TASKS)} with a budget of {', '.join(get_args(Budget))}, as in "
            "bbox2caption-8M"
        )
    # Said only where boxes are shuffled: other mixtures are what they were before there was a choice
    shuffled = {"shuffled": True} if task == "shuffled" else {}
    return shuffled | {
        "kind": "regions",
        "tasks": ["global_caption", *MIXTURE_TASKS[task]],
        "regions": data.budgets.regions(budget),
        "ocr_region_share": data.ocr_region_share,
        "heldout_share": data.heldout_share,
        "global_captions": data.global_captions,
        "sample_by": data.sample_by,
    }


def known_truth(scale: Scale, source: SourceSpec) -> str | None:
    """In words, where the truth of a source's images is known from: the miniature drew them, or the row says;
    None where it is not known, or nothing is annotated."""
    if source.data_type == "instruction":
        return None
    return source.truth or ("rendered" if rendered_folder(scale, source.name) else None)


def audited_sources(scale: Scale) -> list[SourceSpec]:
    """The sources whose annotations can be compared with the truth."""
    return [source for source in all_sources(scale) if known_truth(scale, source)]


def audit_settings(scale: Scale) -> list[dict[str, Any]]:
    """What the audit of the annotations depends on besides the records: of each source its row, where its
    truth is known from, how many images the miniature drew of it, and its filters."""
    return [
        {
            "row": vars(source) | {"path": source.path.replace("{scale}", scale.name)},
            "truth": (truth := known_truth(scale, source)),
            "rendered": rendered_images(scale, source.name) if truth and not source.truth else None,
            "filters": filter_settings(scale, source.name),
        }
        for source in all_sources(scale)
    ]


def table_sources(scale: Scale) -> list[list[str]]:
    """What Tables 6 and 7 depend on besides the shards: name, data type and group of each source."""
    return [[source.name, source.data_type, source.group] for source in pretraining_sources(scale)]


def sampled_sources(scale: Scale, figure: str) -> list[SourceSpec]:
    """The sources that a figure of samples shows."""
    return [s for s in pretraining_sources(scale) if s.data_type == SAMPLE_FIGURES[figure][0]]


def sample_title(scale: Scale, figure: str) -> str:
    """The title of a figure of samples: Gran-29M's only where all that it shows are the paper's sources."""
    return f"{SAMPLE_FIGURES[figure][1]}{_named(sampled_sources(scale, figure))}"


def _named(sources: Sequence[SourceSpec]) -> str:
    """`` of Gran-29M``, or of which sources. Raises GranvitError where the paper's list is missing."""
    names = [source.name for source in sources]
    if not names:
        return ""
    if not Path(PAPERS_SOURCES).is_file():
        raise GranvitError(
            f"{PAPERS_SOURCES}: no such file; restore it with `git checkout -- {PAPERS_SOURCES}`"
        )
    with open(PAPERS_SOURCES, encoding="utf-8") as file:
        papers = {row["source"] for row in csv.DictReader(file)}
    if papers.issuperset(names):
        return " of Gran-29M"
    more = f" and {len(names) - _NAMED} more sources" if len(names) > _NAMED else ""
    return f" of {', '.join(names[:_NAMED])}{more}"


def figure2_sources(scale: Scale) -> list[SourceSpec]:
    """The one source of Figure 2: one whose boxes a detector finds, as the paper draws it, else the first
    natural one. Raises GranvitError without a pretraining source."""
    known = pretraining_sources(scale)
    if not known:
        file = scale.config.data.sources
        raise GranvitError(f"{file}: no source with use 'pretrain'; Figure 2 shows one, add it")
    return [min(known, key=lambda source: (source.data_type != "natural", source.boxes != "detector"))]


def figure2_settings(scale: Scale) -> dict[str, Any]:
    """What Figure 2 depends on besides its shard: its title, the source's filters, and how its annotations
    are had."""
    source = figure2_sources(scale)[0]
    return {
        "title": f"Figure 2. Annotation of one image{_named([source])}",
        "rules": filter_settings(scale, source.name),
        "made_by": {"boxes": source.boxes, "captions": source.captions, "text": source.text},
    }
