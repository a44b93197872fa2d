"""Shards: WebDataset tars of image + JSON, and how one image is read back by its byte range."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from granvit.data.records.records import Record
from granvit.errors import GranvitError

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)  # two of them end a tar
_BUFFER = 1 << 18  # bytes read and written at once
_DAMAGE = (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError)

# Fields of a tar header (POSIX ustar): begin and end in the block.
_NAME, _SIZE, _CHECKSUM, _TYPE, _PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157), slice(345, 500)
)  # fmt: skip
_LARGEST = 8**11 - 1  # bytes that the size field can say


@dataclass(frozen=True)
class Sample:
    """One image's bytes, its record, and the file extension that says what the bytes are."""

    record: Record
    image: bytes
    extension: str


@dataclass(frozen=True)
class RawSample:
    """A sample as it lies in the tar, its JSON not parsed."""

    key: str
    image: bytes
    extension: str
    json: bytes


class ShardWriter:
    """Write samples to a tar in which equal samples give equal bytes (no times, owners or modes of this
    machine).
    """

    def __init__(self, path: str | Path):
        self._file = open(path, "wb", buffering=_BUFFER)  # noqa: SIM115 (closed by __exit__)
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type | None, *_: object) -> None:
        with self._file:
            if error is None:
                self._put(2 * _ZEROS)
                self._put(bytes(-self._offset % tarfile.RECORDSIZE))

    def write(self, sample: Sample) -> tuple[int, int]:
        """Add a sample; return ``(offset, size)``, the byte range of the image inside the tar."""
        text = sample.record.to_json().encode()
        return self.write_raw(RawSample(sample.record.key, sample.image, sample.extension, text))

    def write_raw(self, sample: RawSample) -> tuple[int, int]:
        """The same for a sample whose JSON is written already."""
        if "." in sample.key:
            raise GranvitError(
                f"{self._file.name}: key {sample.key!r} holds a dot, where WebDataset would cut it; make "
                "keys with granvit.data.records.records.make_key"
            )
        span = self._add(f"{sample.key}.{sample.extension}", sample.image)
        self._add(f"{sample.key}.json", sample.json)
        return span

    def _add(self, name: str, data: bytes) -> tuple[int, int]:
        self._put(tar_header(name, len(data)))
        begin = self._offset
        self._put(data)
        self._put(bytes(-len(data) % _BLOCK))
        return begin, len(data)

    def _put(self, data: bytes) -> None:
        self._offset += self._file.write(data)


def tar_header(name: str, size: int) -> bytes:
    """The header that tarfile makes for a plain file of ``size`` bytes.

    Where name and size fit into their fields only those change, and writing them into a ready header takes a
    tenth of tarfile's time: with two headers an image, most of what packing costs beside moving the bytes.
    """
    if len(name) > 100 or not name.isascii() or size > _LARGEST:
        return _tarfile_header(name, size)
    header = bytearray(_EMPTY)
    header[_NAME] = name.encode().ljust(100, b"\0")
    header[_SIZE] = b"%011o\0" % size
    header[_CHECKSUM] = _checksum(header)
    return bytes(header)


def _tarfile_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


_EMPTY = _tarfile_header("", 0)


def _checksum(header: bytes | bytearray) -> bytes:
    # The sum of the header's bytes, its own field taken for eight spaces.
    return b"%06o\0 " % (sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" "))


def read_shard(path: str | Path) -> Iterator[Sample]:
    """Samples of a shard in the order written.

    Raises GranvitError for a tar that is cut off or damaged, or whose members are not image, JSON, image,
    JSON, ...
    """
    for raw in read_raw_shard(path):
        try:
            record = Record.from_json(raw.json)
            if record.key != raw.key:
                raise ValueError(f"{raw.key}.json holds the record {record.key!r}")
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        yield Sample(record, raw.image, raw.extension)


def read_raw_shard(path: str | Path) -> Iterator[RawSample]:
    """``read_shard`` without parsing the records."""
    image, name = None, ""
    try:
        for member, data in _members(path):
            stem, _, extension = member.partition(".")
            if extension != "json":
                if image is not None:
                    raise ValueError(f"{name} has no JSON behind it")
                image, name = data, member
            elif image is None or name.partition(".")[0] != stem:
                raise ValueError(f"{member} does not follow its image")
            else:
                yield RawSample(stem, image, name.partition(".")[2], data)
                image = None
        if image is not None:
            raise ValueError(f"{name} has no JSON behind it")
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _members(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents, one file in memory at a time. Raises ValueError or TarError where bytes are missing
    or a header is not what its checksum says: tarfile alone would take such a header for the end.
    """
    with open(path, "rb", buffering=_BUFFER) as file:
        while (header := file.read(_BLOCK)) != _ZEROS:
            name, size = _plain_header(header) or _any_header(file, len(header))
            data = file.read(size)
            if len(data) != size:
                raise ValueError(f"{name} is cut off")
            yield name, data
            file.read(-size % _BLOCK)
        if file.read(_BLOCK) != _ZEROS:
            raise ValueError("its end is cut off")


def _plain_header(header: bytes) -> tuple[str, int] | None:
    """Name and size from a header as ``tar_header`` writes it where both fit; None for any other."""
    if len(header) != _BLOCK or header[_TYPE] != tarfile.REGTYPE or any(header[_PREFIX]):
        return None
    if header[_CHECKSUM] != _checksum(header):
        return None
    return header[_NAME].rstrip(b"\0").decode("ascii"), int(header[_SIZE][:11], 8)


def _any_header(file: BinaryIO, length: int) -> tuple[str, int]:
    """The same by tarfile, which reads the longer headers of long names; ``file`` then stands at the data."""
    begin = file.tell() - length
    file.seek(begin)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        info = tar.next()
    if info is None or not info.isreg():
        raise ValueError(f"no header of a plain file at byte {begin}")
    file.seek(info.offset_data)
    return info.name, info.size


def _damaged(path: str | Path, error: Exception) -> GranvitError:
    return GranvitError(f"{path}: damaged shard ({error}); delete it and make it again")


def count_samples(path: str | Path) -> int:
    """How many samples a shard holds, from its headers alone."""
    count = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # tarfile remembers each header, in the end the whole shard's
                count += member.name.endswith(".json")
    except tarfile.TarError as error:
        raise _damaged(path, error) from error
    return count


def read_image_bytes(tar_path: str | Path, offset: int, size: int) -> bytes:
    """The image at the byte range that the shard's index gives. A range beyond the file is an error."""
    with open(tar_path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise GranvitError(
            f"{tar_path}: bytes {offset}-{offset + size} end after the file; the index beside it is of "
            "another version: delete both and make them again"
        )
    return data
