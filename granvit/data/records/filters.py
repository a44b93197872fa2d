"""The paper's filters (Sec. 3, "Filtering Criteria"), each counted alone and in sequence.

Natural images go through all five as printed. On OCR lines the two box rules cannot be what was done (98 % of
real text lines break one, `docs/data.md`), so the configuration switches them off there, and they are only
counted. Instruction data passes unfiltered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from granvit.boxes import Box
from granvit.boxes import area as area_of
from granvit.config.data import FilterRules
from granvit.data.records.records import COUNT_COLUMNS, NO_TEXT, Count, Record, readable_key, write_records
from granvit.data.records.shards import shard_records
from granvit.errors import GranvitError
from granvit.files import remove_leftovers, write_csv


@dataclass(frozen=True)
class Rule:
    """``apply`` gives the record as the rule leaves it: with some of its regions, or None for the image."""

    name: str
    apply: Callable[[Record], Record | None]


def _of_images(name: str, keeps: Callable[[Record], bool]) -> Rule:
    return Rule(name, lambda record: record if keeps(record) else None)


def _of_boxes(name: str, keeps: Callable[[Box], bool]) -> Rule:
    return Rule(name, lambda r: replace(r, regions=[region for region in r.regions if keeps(region.box)]))


def in_order(rules: FilterRules) -> list[Rule]:
    """The rules that are on, in the order in which they apply."""
    last = _of_images("regions", lambda r: len(r.regions) >= rules.min_regions)
    return [*on_images(rules), *(_on_boxes(rules) if rules.box_rules else []), last]


def let_in(record: Record, rules: FilterRules) -> bool:
    """Whether the image passes the rules on its size and shape, whatever boxes it will have."""
    return all(rule.apply(record) for rule in on_images(rules))


def describe_image_rules(rules: FilterRules) -> str:
    """What ``let_in`` depends on, to go behind an annotator's own settings."""
    return f" in images of side>{rules.min_image_side} aspect<={rules.image_aspect}"


def on_images(rules: FilterRules) -> list[Rule]:
    """The rules on an image's size and shape that are on: they need no regions."""
    side, aspect = rules.min_image_side, rules.image_aspect
    on: list[Rule] = []
    if side is not None:
        on.append(_of_images("image_side", lambda r: min(r.width, r.height) > side))
    if aspect is not None:
        on.append(_of_images("image_aspect", lambda r: _aspect_fits(r.width, r.height, aspect)))
    return on


def _on_boxes(rules: FilterRules) -> list[Rule]:
    aspect, area = rules.box_aspect, rules.min_box_area
    on: list[Rule] = []
    if aspect is not None:
        on.append(_of_boxes("box_aspect", lambda b: _aspect_fits(b[2] - b[0], b[3] - b[1], aspect)))
    if area is not None:
        on.append(_of_boxes("box_area", lambda b: area_of(b) > area))
    return on


def rules_for(record: Record, rules: FilterRules) -> list[Rule]:
    """The rules that apply to a record, in order."""
    return [] if record.data_type == "instruction" else in_order(rules)


def what_passes(record: Record, rules: FilterRules) -> Record | None:
    """The record as the filters leave it; None where they drop the image."""
    for rule in rules_for(record, rules):
        kept = rule.apply(record)
        if kept is None:
            return None
        record = kept
    return record


def _aspect_fits(width: float, height: float, limit: float) -> bool:
    # Multiplied out: 1/3 has no exact floating-point form, and the bound itself passes.
    return width <= limit * height and height <= limit * width


def filter_shard(
    in_shard: str | Path, out_jsonl: str | Path, out_counts: str | Path, rules: FilterRules
) -> None:
    """Write the records that pass, and what each rule removed.

    ``in_shard``: the records as annotated (JSON lines) or, where no model annotates the source, the ingested
    tar. Of such records a region without a text is dropped and counted here, as annotating does elsewhere.
    In ``out_counts``, rows of mode ``alone`` show one rule on everything that came in, rows of mode ``off``
    the same for a rule that is switched off; rows of mode ``sequence`` show the rule on what the rules before
    it left, the last being the outcome. Raises GranvitError for a region that passes but was never described:
    it was annotated under stricter rules.
    """
    remove_leftovers(out_jsonl, out_counts)
    counts: dict[tuple[str, str, str], Count] = {}
    records = shard_records(in_shard)
    if Path(in_shard).suffix == ".tar":
        records = _with_texts(records, counts)
    passing = _passing(records, rules, counts)
    write_records(out_jsonl, (_described(record, in_shard) for record in passing))
    rows = sorted(counts.items(), key=lambda item: item[0][:2])  # stable: rules stay in their order
    write_csv(out_counts, COUNT_COLUMNS, ([*key, *astuple(count)] for key, count in rows))


def _with_texts(records: Iterable[Record], counts: dict[tuple[str, str, str], Count]) -> Iterator[Record]:
    for record in records:
        kept = replace(record, regions=[region for region in record.regions if (region.text or "").strip()])
        for rule in (NO_TEXT, "annotate"):  # the rows that annotating writes
            counts.setdefault((record.source, "sequence", rule), Count()).add(record, kept)
        yield kept


def _passing(
    records: Iterable[Record], rules: FilterRules, counts: dict[tuple[str, str, str], Count]
) -> Iterable[Record]:
    for record in records:
        kept: Record | None = record
        for rule in rules_for(record, rules):
            counts.setdefault((record.source, "alone", rule.name), Count()).add(record, rule.apply(record))
            count = counts.setdefault((record.source, "sequence", rule.name), Count())
            if kept is not None:
                before, kept = kept, rule.apply(kept)
                count.add(before, kept)
        for rule in [] if rules.box_rules else _on_boxes(rules):  # those that are only counted
            counts.setdefault((record.source, "off", rule.name), Count()).add(record, rule.apply(record))
        counts.setdefault((record.source, "sequence", "all"), Count()).add(record, kept)
        if kept is not None:
            yield kept


def _described(record: Record, path: str | Path) -> Record:
    for region in record.regions:
        if region.text is None:
            raise GranvitError(
                f"{path}: {readable_key(record.key)}: the region {region.box} passes the filters, but has no "
                "text: it was annotated under stricter ones (data.filters); delete the file and run again"
            )
    return record
