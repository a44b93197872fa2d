"""Tables 6 and 7: images and regions of this scale's pretraining sources beside the paper's counts.

Own numbers are counted from the packed shards' indexes. A source that the scale lacks has empty cells:
nothing is ever filled in from the paper.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granvit.data.records.pack import REGION_COUNTS
from granvit.errors import GranvitError
from granvit.files import write_csv, write_text
from granvit.progress import Progress
from granvit.reporting import markdown

TOTAL = "TOTAL"
DATA_TYPES = {"natural": "Natural", "ocr": "OCR"}  # as Tables 6 and 7 print them
TABLE6_COLUMNS = [
    "data_type", "source", "images", "regions", "reported_images", "reported_regions",
    "images_difference", "regions_difference", "scale",
]  # fmt: skip
TABLE7_COLUMNS = [
    "data_type", "group", "images", "regions", "reported_images", "reported_regions",
    "table6_images", "table6_regions", "gap_images", "gap_regions", "scale",
]  # fmt: skip
_UNITS = {"": 1, "K": 10**3, "M": 10**6}


@dataclass(frozen=True)
class Counts:
    """Images and their regions after filtering."""

    images: int = 0
    regions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.images + other.images, self.regions + other.regions)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.images - other.images, self.regions - other.regions)


@dataclass(frozen=True)
class Source:
    """A pretraining source of this scale: its ``data_type`` (natural, ocr) and its group of Table 7."""

    name: str
    data_type: str
    group: str


Key = tuple[str, str]  # (data type as printed, source or group)


def count_indexes(indexes: Iterable[str | Path], log: str | Path | None = None) -> dict[str, Counts]:
    """Images and regions by source, from index files ``{source}/{shard}.parquet``.

    One column is streamed, batch by batch, so memory grows neither with the shards nor with their size.
    """
    paths = [Path(path) for path in indexes]
    progress = Progress(len(paths), "counting indexes", "indexes", log)
    found: dict[str, Counts] = {}
    for number, path in enumerate(paths, 1):
        source = path.parent.name
        found[source] = found.get(source, Counts()) + _count_index(path)
        progress.update(number)
    return found


def _count_index(path: Path) -> Counts:
    try:
        with pq.ParquetFile(path) as index:
            regions = 0
            for batch in index.iter_batches(columns=[REGION_COUNTS]):
                lengths = pc.list_value_length(batch.column("regions"))
                regions += pc.sum(lengths).as_py() or 0
            return Counts(index.metadata.num_rows, regions)
    except FileNotFoundError as error:
        raise GranvitError(f"{path}: no such index; make it with `snakemake {path}`") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise GranvitError(
            f"{path}: not the index of a packed shard ({error}); delete it and make it again"
        ) from error


def make_table6(
    sources: Sequence[Source],
    found: Mapping[str, Counts],
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    reported_csv: str | Path = "config/reported/gran29m_sources.csv",
) -> None:
    """Table 6: a row a source, the paper's 38 first, then those that the paper does not have.

    ``found``: what ``count_indexes`` counted. Rows named TOTAL sum a type of data, the last one everything;
    their difference is left empty where the sources are not the paper's own.
    """
    reported = {key: _exact(row, reported_csv) for key, row in _read_reported(reported_csv, "source").items()}
    own = {(DATA_TYPES[s.data_type], s.name): found.get(s.name, Counts()) for s in sources}
    rows = []
    for key, group in _with_totals([*reported, *(key for key in own if key not in reported)]):
        ours, theirs = _sum(own, group), _sum(reported, group)
        alike = {k for k in group if k in own} == {k for k in group if k in reported}
        rows.append([*key, *_pair(ours), *_pair(theirs), *_pair(ours - theirs if alike and ours else None)])
    write_csv(out_csv, TABLE6_COLUMNS, ([*map(_plain, row), scale] for row in rows))
    header = ["Data type", "Source", "Images", "Regions", "Images (*reported*)", "Regions (*reported*)",
              "Images, difference", "Regions, difference"]  # fmt: skip
    parts = [
        "# Table 6. Data sources of Gran-29M\n",
        _scale_note(scale, len(own), sum(key in reported for key in own)),
        markdown.table(header, [_shown(row, signed=(6, 7)) for row in rows], left=2),
        "Counted from the index beside each packed shard, after filtering. *reported*: the paper's Table 6. "
        "An empty cell: this scale has no such source, or the paper has not. *difference*: ours minus the "
        "paper's; totals have one where they are of the same sources.\n",
    ]
    write_text(out_md, "\n".join(parts))


def make_table7(
    sources: Sequence[Source],
    found: Mapping[str, Counts],
    assignment: Mapping[str, str],
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    reported_groups: str | Path = "config/reported/gran29m_groups.csv",
    reported_sources: str | Path = "config/reported/gran29m_sources.csv",
) -> None:
    """Table 7: the same by group, and the gap between the paper's two tables.

    ``assignment``: the group of each source of the paper, this project's for OCR sources (the paper names
    none). ``gap`` is what Table 7 prints minus the sum of Table 6 over the group.
    """
    table6 = _read_reported(reported_sources, "source")
    unassigned = sorted(name for _, name in table6 if name not in assignment)
    if unassigned:
        raise GranvitError(
            f"no group of Table 7 for {', '.join(unassigned)}; give each a row in config/sources.tsv"
        )
    printed = _read_reported(reported_groups, "group")
    by_group: dict[Key, Counts] = {}
    for (kind, name), row in table6.items():
        _add(by_group, (kind, assignment[name]), _exact(row, reported_sources))
    own: dict[Key, Counts] = {}
    for source in sources:
        _add(own, (DATA_TYPES[source.data_type], source.group), found.get(source.name, Counts()))
    total = printed.pop((TOTAL, ""))
    rows, shown = [], []
    for key, group in _with_totals([*printed, *(key for key in own if key not in printed)]):
        texts = total if key[0] == TOTAL else printed.get(key, {"images": "", "regions": ""})
        theirs = (
            Counts(_approximate(texts["images"]), _approximate(texts["regions"])) if texts["images"] else None
        )
        sums = _sum(by_group, group)
        gap = theirs - sums if theirs and sums else None
        row = [*key, *_pair(_sum(own, group)), *_pair(theirs), *_pair(sums), *_pair(gap)]
        rows.append(row)
        cells = _shown(row, signed=(8, 9))
        shown.append([*cells[:4], texts["images"], texts["regions"], *cells[6:]])
    write_csv(out_csv, TABLE7_COLUMNS, ([*map(_plain, row), scale] for row in rows))
    header = ["Data type", "Group", "Images", "Regions", "Images (*reported*)", "Regions (*reported*)",
              "Images, Table 6", "Regions, Table 6", "Images, gap", "Regions, gap"]  # fmt: skip
    names = {name for _, name in table6}
    parts = [
        "# Table 7. Gran-29M by group\n",
        _scale_note(scale, len(sources), sum(source.name in names for source in sources)),
        markdown.table(header, shown, left=2),
        "*reported*: as the paper prints it, rounded. *Table 6*: the paper's Table 6 summed over the sources "
        "that this project puts into the group (column `group` of `config/sources.tsv`; the paper names no "
        "group for an OCR source). *gap*: Table 7 minus that sum.\n",
        _no_assignment_fits(table6, printed),
    ]
    write_text(out_md, "\n".join(parts))


def _no_assignment_fits(table6: Mapping[Key, dict], printed: Mapping[Key, dict]) -> str:
    """Why another assignment would not close the gap, from the paper's own numbers."""
    arxiv, docmatrix = (table6["OCR", name] for name in ("Arxiv", "Docmatrix"))
    rich = printed["OCR", "Rich Text Images"]
    together = int(arxiv["regions"]) + int(docmatrix["regions"])
    return (
        f"No other assignment closes it: of the OCR groups, Arxiv's {int(arxiv['images']):,} images fit into "
        f"*Rich Text Images* ({rich['images']}) only, and so do Docmatrix's {int(docmatrix['regions']):,} "
        f"regions ({rich['regions']}); together the two have {together:,} regions.\n"
    )


def _scale_note(scale: str, own: int, of_paper: int) -> str:
    sources = "source" if own == 1 else "sources"
    note = f"Scale: **{scale}**; {own} {sources}, {of_paper} of them among the paper's 38."
    if scale == "paper":
        return note + "\n"
    return note + " Its images are this scale's own: their numbers say nothing about the paper's counts.\n"


def _read_reported(path: str | Path, name: str) -> dict[Key, dict[str, str]]:
    """(data type, source or group) -> the row as printed, in the paper's order."""
    path = Path(path)
    if not path.is_file():
        raise GranvitError(
            f"{path}: the paper's numbers are missing; restore the file with `git checkout -- {path}`"
        )
    with open(path, encoding="utf-8", newline="") as file:
        return {(row["data_type"], row[name]): row for row in csv.DictReader(file)}


def _exact(row: Mapping[str, str], path: str | Path) -> Counts:
    try:
        return Counts(int(row["images"]), int(row["regions"]))
    except ValueError:
        raise GranvitError(f"{path}: {dict(row)} has a count that is no whole number; correct it") from None


def _approximate(text: str) -> int:
    """A count as the paper rounds it: ``27.63M -> 27630000``."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KM]?)", text)
    if match is None:
        raise GranvitError(f"config/reported: '{text}' is no count; expected 1269, 325K or 27.63M")
    whole, decimals, unit = match[1], match[2] or "", match[3]
    return int(whole + decimals) * _UNITS[unit] // 10 ** len(decimals)  # floats would not be exact


def _with_totals(keys: Sequence[Key]) -> list[tuple[Key, list[Key]]]:
    """Each row with the keys it sums: types of data in the order met, each with a total, and one of all."""
    rows: list[tuple[Key, list[Key]]] = []
    for kind in dict.fromkeys(kind for kind, _ in keys):
        members = [key for key in keys if key[0] == kind]
        rows += [*((key, [key]) for key in members), ((kind, TOTAL), members)]
    return [*rows, ((TOTAL, TOTAL), list(keys))]


def _add(counts: dict[Key, Counts], key: Key, more: Counts) -> None:
    counts[key] = counts.get(key, Counts()) + more


def _sum(counts: Mapping[Key, Counts], keys: Sequence[Key]) -> Counts | None:
    """None where none of the keys is there: an absent source is not one without images."""
    there = [counts[key] for key in keys if key in counts]
    return sum(there, Counts()) if there else None


def _pair(counts: Counts | None) -> list[int | None]:
    return [None, None] if counts is None else [counts.images, counts.regions]


def _plain(value: object) -> str:
    return "" if value is None else str(value)


def _shown(row: Sequence, signed: Sequence[int]) -> list[str]:
    """Cells for readers: thousands apart, differences with their sign, totals in bold."""
    cells = [_plain(value) for value in row[:2]]
    for at, value in enumerate(row[2:], 2):
        cells.append("" if value is None else f"{value:+,}" if at in signed and value else f"{value:,}")
    return [f"**{cell}**" if cell else "" for cell in cells] if row[1] == TOTAL else cells
