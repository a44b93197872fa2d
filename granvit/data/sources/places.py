"""Reading an image's bytes from where the source keeps them: a file, a tar, a Parquet file."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow as pa

from granvit.data.records.records import Rejected
from granvit.data.sources.adapters.parquet import IMAGE_ROWS, column_of, open_folder, parquet_file
from granvit.data.sources.items import Place
from granvit.errors import GranvitError

# Far above any image, and still in memory: above it lies a disk image or a link to something without an end.
_LARGEST = 1 << 30  # bytes


class ImagePlaces:
    """Reads images by their places. Use it with ``with``.

    ``root`` is the source's folder or URL. One tar or Parquet file stays open at a time; asked in the
    catalogue's order, each is opened once and read from start to end.
    """

    def __init__(self, root: str | Path):
        self.root = root
        self._opened = ExitStack()
        self._container: tuple[str, str | None] | None = None  # file and column of what is open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def read(self, place: Place) -> bytes:
        """The bytes as they are.

        Raises Rejected ``path_outside_source``, ``missing_image`` (also for a Parquet row that names a file
        instead of holding its bytes), ``no_image``, ``unreadable_file`` (also for what is no regular file, is
        above 1 GiB, or lies in a damaged part of a Parquet file), ``truncated_tar``, or the problem that
        reading the source showed already; GranvitError where a URL cannot be read.
        """
        if place.problem:
            raise Rejected(place.problem)
        # Judged by the name alone: links from images/ to wherever the files really lie are welcome.
        if os.path.isabs(place.file) or os.path.normpath(place.file).split(os.sep)[0] == "..":
            raise Rejected("path_outside_source")
        try:
            if place.row is not None:
                return self._from_parquet(place)
            if place.offset is not None:
                return self._from_tar(place)
            with _open_regular(Path(self.root) / place.file) as file:
                if os.fstat(file.fileno()).st_size > _LARGEST:
                    raise Rejected("unreadable_file")
                return file.read()
        except Rejected:
            raise
        except OSError as error:
            if "://" in str(self.root):  # the network's fault and no image's
                raise GranvitError(
                    f"{self.root}/{place.file}: cannot be read ({error}); run again"
                ) from error
            missing = isinstance(error, FileNotFoundError)
            raise Rejected("missing_image" if missing else "unreadable_file") from error
        except ValueError as error:  # a zero byte in the name, or a damaged column
            raise Rejected("unreadable_file") from error

    def _from_tar(self, place: Place) -> bytes:
        if place.size > _LARGEST:
            raise Rejected("unreadable_file")
        file = self._kept_open(place, lambda: _open_regular(Path(self.root) / place.file))
        file.seek(place.offset)
        data = file.read(place.size)
        if len(data) != place.size:
            raise Rejected("truncated_tar")
        return data

    def _from_parquet(self, place: Place) -> bytes:
        column = self._kept_open(place, lambda: _Column(self.root, place.file, place.column))
        value = column.value(place.row)
        if place.part is not None:
            value = value[place.part]
        named = isinstance(value, dict) and value.get("path")
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise Rejected("missing_image" if named else "no_image")
        return data

    def _kept_open(self, place: Place, open_it: Callable[[], Any]) -> Any:
        """What ``open_it`` opens, which stays open for the images that follow in it."""
        if self._container != (place.file, place.column):
            self._opened.close()
            self._container = None
            self._reader = self._opened.enter_context(closing(open_it()))
            self._container = place.file, place.column
        return self._reader


def _open_regular(path: Path) -> BinaryIO:
    """A file, also through links; a pipe would be waited for, and a device has no end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Rejected("unreadable_file")
    return open(path, "rb")


class _Column:
    """Values of one column by row; rows asked for in ascending order are decoded once.

    A page that cannot be decoded costs its row group from there on: pages are read one after the other, and
    only a group's beginning is known. The next group is read again.
    """

    def __init__(self, root: str | Path, file: str, name: str):
        self.name = name
        self._remote = "://" in str(root)
        files, folder = open_folder(root)
        with ExitStack() as opened:
            source = opened.enter_context(files.open(f"{folder}/{file}", "rb"))
            self._parquet = opened.enter_context(parquet_file(source))
            self.close = opened.pop_all().close
        groups = [self._parquet.metadata.row_group(g).num_rows for g in range(self._parquet.num_row_groups)]
        self._starts = [sum(groups[:g]) for g in range(len(groups))]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._group, self._first, self._values = -1, 0, None
        self._readable: dict[int, int] = {}  # of a damaged row group: the first row that cannot be had

    def value(self, row: int) -> Any:
        """Raises Rejected for a damaged part; OSError where a file system that is not local fails."""
        group = bisect_right(self._starts, row) - 1
        if row >= self._readable.get(group, row + 1):
            raise Rejected("unreadable_file")
        if self._values is None or group != self._group or row < self._first:
            self._batches = self._parquet.iter_batches(IMAGE_ROWS, columns=[self.name], row_groups=[group])
            self._group, self._first, self._values = group, self._starts[group], None
            self._advance()
        while row >= self._end:
            self._first = self._end
            self._advance()
        return self._values[row - self._first].as_py()

    def _advance(self) -> None:
        """Take the rows from ``_first`` on."""
        self._values = None
        try:
            self._values = column_of(next(self._batches), self.name)
        except (StopIteration, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and self._remote:
                raise  # the network's fault, and another time's luck
            self._readable[self._group] = self._first
            raise Rejected("unreadable_file") from error

    @property
    def _end(self) -> int:
        return self._first + len(self._values)
