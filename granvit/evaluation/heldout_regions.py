"""Held-out images: what no model was trained on, where things are on it, and what may be asked about them.

Without torch: what draws answers reads them here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError

BBOX2CAPTION, CAPTION2BBOX = TASKS = ("bbox2caption", "caption2bbox")
_COLUMNS = ["key", "shard", "offset", "size", "width", "height", "qa"]
_ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class HeldOutRegion:
    """A region's ``text`` and ``box`` (pixels), and task -> (question, true answer)."""

    text: str
    box: list[float]
    asked: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class HeldOutImage:
    """One row of the mixture; its file is ``size`` bytes at ``offset`` of the ``shard``."""

    key: str
    shard: str
    offset: int
    size: int
    width: int
    height: int
    regions: list[HeldOutRegion]

    @property
    def source(self) -> str:
        """The source's name: that of the shard's folder."""
        return Path(self.shard).parent.name

    @property
    def boxes(self) -> list[list[float]]:
        """The regions' different boxes, in their order."""
        return [list(box) for box in dict.fromkeys(tuple(region.box) for region in self.regions)]

    def data_type(self, data_types: Mapping[str, str]) -> str:
        """natural or ocr, by ``data_types``: source -> its type. Raises GranvitError for a source that it
        lacks."""
        if self.source not in data_types:
            raise GranvitError(
                f"{self.shard}: held-out image {self.key!r} is of source {self.source!r}, which the sources "
                f"file lacks; known: {', '.join(data_types)}. Draw the held-out mixture again"
            )
        return data_types[self.source]

    def read(self) -> bytes:
        """Its file. Raises GranvitError where its shard is gone or another one."""
        try:
            return read_image_bytes(self.shard, self.offset, self.size)
        except OSError as error:
            raise self._unreadable(error) from error

    def open(self) -> Image.Image:
        """The image as shown. Raises GranvitError as ``read`` does, and for a damaged one."""
        try:
            return decode_rgb(self.read())
        except (OSError, UnreadableImage) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> GranvitError:
        return GranvitError(
            f"{self.shard}: image {self.key!r} cannot be read ({error}); delete the shard, and make it again "
            f"with `snakemake {self.shard}`"
        )


def count_images(mixture: str | Path) -> int:
    """How many images a held-out mixture has. Raises GranvitError as ``heldout_images`` does."""
    with _opened(mixture) as file:
        return file.metadata.num_rows


def heldout_images(mixture: str | Path, keys: Collection[str] | None = None) -> Iterator[HeldOutImage]:
    """The images of a held-out mixture, in its order; only those of ``keys`` where given.

    Raises GranvitError for a file that is missing or not a mixture.
    """
    wanted = None if keys is None else pa.array(sorted(keys), pa.string())
    with _opened(mixture) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS):
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch.column("key"), wanted))
            for row in batch.to_pylist():
                regions = _regions(row.pop("qa"))
                yield HeldOutImage(**row, regions=regions)


@contextmanager
def _opened(mixture: str | Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(mixture) as file:
            if missing := set(_COLUMNS) - set(file.schema_arrow.names):
                raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))}")
            yield file
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise GranvitError(
            f"{mixture}: not a mixture of held-out images ({error}); make it with `snakemake {mixture}`"
        ) from error


def _regions(pairs: Iterable[Mapping[str, Any]]) -> list[HeldOutRegion]:
    """A region's two questions are about the same box; its text is the answer to the first one."""
    regions: list[HeldOutRegion] = []
    for pair in pairs:
        task, asked = pair["task"], (pair["question"], pair["answer"])
        if task == BBOX2CAPTION:
            regions.append(HeldOutRegion(pair["answer"], pair["box"], {task: asked}))
        elif task == CAPTION2BBOX:
            same = (r for r in regions if r.box == pair["box"] and task not in r.asked)
            if region := next(same, None):
                region.asked[task] = asked
    return regions
