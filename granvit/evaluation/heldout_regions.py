"""Held-out images with their boxes: what no model was trained on, and where things are on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError

_COLUMNS = ["key", "shard", "offset", "size", "width", "height", "qa"]
_ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class HeldOutImage:
    """One image. ``boxes``: its different regions, pixels of the original image; ``data_type``: natural or
    ocr, as the table of sources says."""

    key: str
    data_type: str
    shard: str
    offset: int
    size: int
    width: int
    height: int
    boxes: list[list[float]]

    def open(self) -> Image.Image:
        """The image as shown. Raises GranvitError where its shard is gone or damaged."""
        try:
            return decode_rgb(read_image_bytes(self.shard, self.offset, self.size))
        except (OSError, UnreadableImage) as error:
            raise GranvitError(
                f"{self.shard}: image {self.key!r} cannot be read ({error}); pack that shard again"
            ) from error


def count_images(mixture: str | Path) -> int:
    """How many images a held-out mixture has. Raises GranvitError as ``heldout_images`` does."""
    with _mixture(mixture) as file:
        return file.metadata.num_rows


def heldout_images(mixture: str | Path, data_types: Mapping[str, str]) -> Iterator[HeldOutImage]:
    """Every image of the held-out mixture, in its order. ``data_types``: of each source, by its name.

    Raises GranvitError for a file that is missing or no mixture, or a source that is not in ``data_types``.
    """
    with _mixture(mixture) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS):
            yield from (_image(row, mixture, data_types) for row in batch.to_pylist())


def _mixture(path: str | Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        missing = set(_COLUMNS) - set(file.schema_arrow.names)
        if missing:
            raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
        return file
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise GranvitError(
            f"{path}: not a mixture of held-out images ({error}); make it with `snakemake {path}`"
        ) from error


def _image(row: dict, mixture: str | Path, data_types: Mapping[str, str]) -> HeldOutImage:
    pairs, source = row.pop("qa"), Path(row["shard"]).parent.name
    if source not in data_types:
        raise GranvitError(
            f"{mixture}: image {row['key']!r} is of source {source!r}, which the table of sources does not "
            f"have; known: {', '.join(data_types)}. Draw the mixture again"
        )
    boxes = dict.fromkeys(tuple(pair["box"]) for pair in pairs if pair["box"])
    return HeldOutImage(**row, data_type=data_types[source], boxes=[list(box) for box in boxes])
