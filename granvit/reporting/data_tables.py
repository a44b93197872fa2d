"""Tables 6 and 7: images and regions of this scale's pretraining sources beside the paper's counts.

Own numbers are counted from the packed shards' indexes. A source that the scale lacks has empty cells:
nothing is ever filled in from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granvit.data.records.pack import REGION_COUNTS
from granvit.errors import GranvitError
from granvit.files import write_text
from granvit.progress import Progress
from granvit.reporting import markdown
from granvit.reporting.reported import read_number, read_printed

TOTAL = "TOTAL"
COUNTS = ["images", "regions"]  # after filtering
DATA_TYPES = {"natural": "Natural", "ocr": "OCR"}  # as Tables 6 and 7 print them


def count_indexes(indexes: Iterable[str | Path], log: str | Path | None = None) -> pd.DataFrame:
    """``images`` and ``regions``, a row a source, from index files ``{source}/{shard}.parquet``.

    One column is streamed, batch by batch, so memory grows neither with the shards nor with their size.
    Raises GranvitError for an index that is missing or broken.
    """
    paths = [Path(path) for path in indexes]
    progress = Progress(len(paths), "counting indexes", "indexes", log)
    found = []
    for number, path in enumerate(paths, 1):
        found.append((path.parent.name, *_count_index(path)))
        progress.update(number)
    return pd.DataFrame(found, columns=["source", *COUNTS]).groupby("source", sort=False).sum()


def _count_index(path: Path) -> tuple[int, int]:
    try:
        with pq.ParquetFile(path) as index:
            regions = 0
            for batch in index.iter_batches(columns=[REGION_COUNTS]):
                lengths = pc.list_value_length(batch.column("regions"))
                regions += pc.sum(lengths).as_py() or 0
            return index.metadata.num_rows, regions
    except FileNotFoundError as error:
        raise GranvitError(f"{path}: no such index; make it with `snakemake {path}`") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise GranvitError(
            f"{path}: not the index of a packed shard ({error}); delete it and make it again"
        ) from error


def make_table6(
    sources: pd.DataFrame,
    found: pd.DataFrame,
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    reported_csv: str | Path = "config/reported/gran29m_sources.csv",
) -> None:
    """Table 6: a row a source, the paper's 38 first, then those that the paper does not have.

    ``sources``: the scale's pretraining sources, columns ``source``, ``data_type`` (natural, ocr) and
    ``group`` of Table 7. ``found``: what ``count_indexes`` counted. Rows named TOTAL sum a type of data, the
    last one everything; their difference is left empty where the sources are not the paper's own. Raises
    GranvitError where the paper's counts are missing or no whole numbers.
    """
    reported = _exact(_read_reported(reported_csv, "source"), reported_csv)
    own = _own(sources, found, "source")
    table = _side_by_side(own, reported.add_prefix("reported_"))
    for name in COUNTS:
        table[f"{name}_difference"] = table[name] - table[f"reported_{name}"]
    table = _with_totals(table)
    _write_csv(out_csv, table, scale)
    header = ["Data type", "Source", "Images", "Regions", "Images (*reported*)", "Regions (*reported*)",
              "Images, difference", "Regions, difference"]  # fmt: skip
    parts = [
        "# Table 6. Data sources of Gran-29M\n",
        _scale_note(scale, len(own), own.index.isin(reported.index).sum()),
        markdown.table(header, _shown(table, signed="difference").values.tolist(), left=2),
        "Counted from the index beside each packed shard, after filtering. *reported*: the paper's Table 6. "
        "An empty cell: this scale has no such source, or the paper has not. *difference*: ours minus the "
        "paper's; totals have one where they are of the same sources.\n",
    ]
    write_text(out_md, "\n".join(parts))


def make_table7(
    sources: pd.DataFrame,
    found: pd.DataFrame,
    assignment: Mapping[str, str],
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    reported_groups: str | Path = "config/reported/gran29m_groups.csv",
    reported_sources: str | Path = "config/reported/gran29m_sources.csv",
) -> None:
    """Table 7: the same by group, and the gap between the paper's two tables.

    ``assignment``: the group of each source of the paper, this project's for OCR sources (the paper names
    none). ``gap`` is what Table 7 prints minus the sum of Table 6 over the group. Raises GranvitError for a
    source of the paper without a group, and as ``make_table6`` does.
    """
    table6 = _exact(_read_reported(reported_sources, "source"), reported_sources).reset_index()
    unassigned = sorted(set(table6["source"]) - set(assignment))
    if unassigned:
        raise GranvitError(
            f"no group of Table 7 for {', '.join(unassigned)}; give each a row in config/sources.tsv"
        )
    printed = _read_reported(reported_groups, "group").rename(index={"": TOTAL})
    of_group = [table6["data_type"], table6["source"].map(assignment).rename("group")]
    by_group = table6.groupby(of_group)[COUNTS].sum().reindex(printed.index.drop((TOTAL, TOTAL)))
    table = _with_totals(_side_by_side(_own(sources, found, "group"), by_group.add_prefix("table6_")))
    texts = printed.reindex(table.index)  # the paper does not sum a type of data
    for name in COUNTS:
        counts = texts[name].map(lambda text: int(read_number(text)), na_action="ignore")
        table[f"reported_{name}"] = counts.astype("Int64")
        table[f"gap_{name}"] = table[f"reported_{name}"] - table[f"table6_{name}"]
    table = table[[f"{kind}{name}" for kind in ("", "reported_", "table6_", "gap_") for name in COUNTS]]
    _write_csv(out_csv, table, scale)
    shown = _shown(table, signed="gap")
    for name in COUNTS:
        shown[f"reported_{name}"] = texts[name].fillna("").to_numpy()
    header = ["Data type", "Group", "Images", "Regions", "Images (*reported*)", "Regions (*reported*)",
              "Images, Table 6", "Regions, Table 6", "Images, gap", "Regions, gap"]  # fmt: skip
    parts = [
        "# Table 7. Gran-29M by group\n",
        _scale_note(scale, len(sources), sources["source"].isin(table6["source"]).sum()),
        markdown.table(header, shown.values.tolist(), left=2),
        "*reported*: as the paper prints it, rounded. *Table 6*: the paper's Table 6 summed over the sources "
        "that this project puts into the group (column `group` of `config/sources.tsv`; the paper names no "
        "group for an OCR source). *gap*: Table 7 minus that sum.\n",
        _no_assignment_fits(table6, printed),
    ]
    write_text(out_md, "\n".join(parts))


def _no_assignment_fits(table6: pd.DataFrame, printed: pd.DataFrame) -> str:
    """Why another assignment would not close the gap, from the paper's own numbers."""
    arxiv, docmatrix = (table6.set_index("source").loc[name] for name in ("Arxiv", "Docmatrix"))
    rich = printed.loc[("OCR", "Rich Text Images")]
    together = arxiv["regions"] + docmatrix["regions"]
    return (
        f"No other assignment closes it: of the OCR groups, Arxiv's {arxiv['images']:,} images fit into "
        f"*Rich Text Images* ({rich['images']}) only, and so do Docmatrix's {docmatrix['regions']:,} "
        f"regions ({rich['regions']}); together the two have {together:,} regions.\n"
    )


def _scale_note(scale: str, own: int, of_paper: int) -> str:
    sources = "source" if own == 1 else "sources"
    note = f"Scale: **{scale}**; {own} {sources}, {of_paper} of them among the paper's 38."
    if scale == "paper":
        return note + "\n"
    return note + " Its images are this scale's own: their numbers say nothing about the paper's counts.\n"


def _read_reported(path: str | Path, name: str) -> pd.DataFrame:
    """The paper's rows as printed, in its order, by type of data and source or group."""
    return read_printed(path).set_index(["data_type", name])


def _exact(printed: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    for key, row in printed.iterrows():
        if not all(row[name].isdecimal() for name in COUNTS):
            raise GranvitError(f"{path}: {key}: {dict(row)} has a count that is no whole number; correct it")
    return printed[COUNTS].astype(int).astype("Int64")


def _own(sources: pd.DataFrame, found: pd.DataFrame, by: str) -> pd.DataFrame:
    """This scale's counts by type of data and source or group; a source that lost all its images counts 0."""
    counts = found.reindex(sources["source"], fill_value=0).astype("Int64")
    counts.index = pd.MultiIndex.from_arrays(
        [sources["data_type"].map(DATA_TYPES), sources[by]], names=["data_type", by]
    )
    return counts.groupby(level=[0, 1], sort=False).sum()


def _side_by_side(own: pd.DataFrame, papers: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows first, then those that only we have."""
    rows = papers.index.append(own.index.difference(papers.index, sort=False))
    return pd.concat([own.reindex(rows), papers.reindex(rows)], axis=1)


def _with_totals(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by type of data in the order met, each type with a total below it, and a total of all."""
    kinds = table.groupby(level=0, sort=False)
    totals = ((rows, _total(rows, kind)) for kind, rows in kinds)
    return pd.concat([*(part for pair in totals for part in pair), _total(table, TOTAL)])


def _total(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row of sums: of what is there, but of differences only if every row has one, so that the same
    sources are compared.
    """
    sums = {name: [rows[name].sum(skipna="difference" not in name, min_count=1)] for name in rows}
    index = pd.MultiIndex.from_tuples([(kind, TOTAL)], names=rows.index.names)
    return pd.DataFrame(sums, index=index, dtype="Int64")


def _write_csv(path: str | Path, table: pd.DataFrame, scale: str) -> None:
    write_text(path, table.assign(scale=scale).to_csv(lineterminator="\n"))


def _shown(table: pd.DataFrame, signed: str) -> pd.DataFrame:
    """Cells for readers: thousands apart, signs where the column's name holds ``signed``, totals in bold."""

    def text(value: int, sign: str) -> str:
        return "" if pd.isna(value) else f"{value:{sign if value else ''},}"

    cells = {name: [text(value, "+" if signed in name else "") for value in table[name]] for name in table}
    shown = pd.DataFrame(cells, index=table.index).reset_index()
    totals = table.index.get_level_values(1) == TOTAL
    shown.loc[totals] = shown[totals].map(lambda cell: f"**{cell}**" if cell else "")
    return shown
