"""Reading an image's bytes from where the source keeps them: a file, a tar, a Parquet file."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from granvit.data.adapters.items import Place
from granvit.data.adapters.parquet import open_folder
from granvit.errors import GranvitError

_ROWS = 8  # of a Parquet file at a time: their images are in memory together


class Unreadable(ValueError):
    """The bytes cannot be had; the message is the cause, as counted in rejects.csv."""


class ImagePlaces:
    """Reads images by their places. Use it with ``with``.

    ``root`` is the source's folder or URL. One tar and one Parquet file stay open at a time; asked in the
    catalogue's order, each is opened once and read from start to end.
    """

    def __init__(self, root: str | Path):
        self.root = root
        self._tar: tuple[str, BinaryIO] | None = None
        self._column: _Column | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tar:
            self._tar[1].close()
        if self._column:
            self._column.close()

    def read(self, place: Place | None) -> bytes:
        """The bytes as they are.

        Raises Unreadable ``no_image``, ``path_outside_source``, ``missing_image``, ``unreadable_file``,
        ``truncated_tar``, or the problem that reading the source showed already; GranvitError where a URL
        cannot be read.
        """
        if place is None:
            raise Unreadable("no_image")
        if place.problem:
            raise Unreadable(place.problem)
        # Judged by the name alone: links from images/ to wherever the files really lie are welcome.
        if os.path.isabs(place.file) or os.path.normpath(place.file).split(os.sep)[0] == "..":
            raise Unreadable("path_outside_source")
        try:
            if place.row is not None:
                return self._from_parquet(place)
            if place.offset is not None:
                return self._from_tar(place)
            return (Path(self.root) / place.file).read_bytes()
        except Unreadable:
            raise
        except OSError as error:
            if "://" in str(self.root):  # the network's fault and no image's
                raise GranvitError(
                    f"{self.root}/{place.file}: cannot be read ({error}); run again"
                ) from error
            missing = isinstance(error, FileNotFoundError)
            raise Unreadable("missing_image" if missing else "unreadable_file") from error
        except ValueError as error:  # a zero byte in the name, or a damaged column
            raise Unreadable("unreadable_file") from error

    def _from_tar(self, place: Place) -> bytes:
        if self._tar is None or self._tar[0] != place.file:
            if self._tar:
                self._tar[1].close()
                self._tar = None
            # Stays open for the images that follow.
            self._tar = place.file, open(Path(self.root) / place.file, "rb")  # noqa: SIM115
        file = self._tar[1]
        file.seek(place.offset)
        data = file.read(place.size)
        if len(data) != place.size:
            raise Unreadable("truncated_tar")
        return data

    def _from_parquet(self, place: Place) -> bytes:
        column = self._column
        if column is None or (column.file, column.name) != (place.file, place.column):
            if column:
                column.close()
            self._column = None
            self._column = column = _Column(self.root, place.file, place.column)
        value = column.value(place.row)
        if place.part is not None:
            value = value[place.part]
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise Unreadable("no_image")  # a row that names a file elsewhere, or nothing
        return data


class _Column:
    """Values of one column by row; rows asked for in ascending order are decoded once."""

    def __init__(self, root: str | Path, file: str, name: str):
        self.file, self.name = file, name
        files, folder = open_folder(root)
        with ExitStack() as opened:
            source = opened.enter_context(files.open(f"{folder}/{file}", "rb"))
            # Without a buffer size pyarrow reads whole column chunks: hundreds of megabytes of images.
            self._parquet = opened.enter_context(pq.ParquetFile(source, buffer_size=1 << 20))
            self._opened = opened.pop_all()
        groups = [self._parquet.metadata.row_group(g).num_rows for g in range(self._parquet.num_row_groups)]
        self._starts = [sum(groups[:g]) for g in range(len(groups))]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._first, self._values = 0, None

    def close(self) -> None:
        self._opened.close()

    def value(self, row: int) -> Any:
        group = bisect_right(self._starts, row) - 1
        if self._values is None or row < self._first or self._starts[group] >= self._end:
            self._batches = self._parquet.iter_batches(
                _ROWS, columns=[self.name], row_groups=list(range(group, len(self._starts)))
            )
            self._first, self._values = self._starts[group], next(self._batches)
        while row >= self._end:
            self._first, self._values = self._end, next(self._batches)
        return self._values.column(0)[row - self._first].as_py()

    @property
    def _end(self) -> int:
        return self._first + self._values.num_rows
