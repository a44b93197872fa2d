"""Shards: WebDataset tars of image + JSON, and how one image is read back by its byte range."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from granvit.data.records.records import Record, read_records
from granvit.errors import GranvitError

_END = bytes(2 * tarfile.BLOCKSIZE)
_BUFFER = 1 << 18  # bytes read and written at once


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
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._tar.__exit__(*error)

    def write(self, sample: Sample) -> tuple[int, int]:
        """Add a sample; return ``(offset, size)``, the byte range of the image inside the tar."""
        text = sample.record.to_json().encode()
        return self.write_raw(RawSample(sample.record.key, sample.image, sample.extension, text))

    def write_raw(self, sample: RawSample) -> tuple[int, int]:
        """The same for a sample whose JSON is written already. Raises GranvitError for a key with a dot."""
        if "." in sample.key:
            raise GranvitError(
                f"{self._file.name}: key {sample.key!r} holds a dot, where WebDataset would cut it; make "
                "keys with granvit.data.records.records.make_key"
            )
        span = self._add(f"{sample.key}.{sample.extension}", sample.image)
        self._add(f"{sample.key}.json", sample.json)
        return span

    def _add(self, name: str, data: bytes) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.members.clear()  # tarfile remembers each header, in the end the whole shard's
        return self._tar.offset - len(data) - -len(data) % tarfile.BLOCKSIZE, len(data)


def read_shard(path: str | Path) -> Iterator[Sample]:
    """Samples of a shard in the order written.

    Raises GranvitError for a tar that is cut off or damaged, or whose members are not image, JSON, image,
    JSON, ...
    """
    for raw in read_raw_shard(path):
        with _telling_damage(path):
            record = Record.from_json(raw.json)
            if record.key != raw.key:
                raise ValueError(f"{raw.key}.json holds the record {record.key!r}")
        yield Sample(record, raw.image, raw.extension)


def read_raw_shard(path: str | Path) -> Iterator[RawSample]:
    """``read_shard`` without parsing the records."""
    image, name = None, ""
    with _telling_damage(path):
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


def _members(path: str | Path, wanted: str = "") -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files whose names end in ``wanted``, one in memory at a time.

    Raises ValueError or TarError where bytes are missing, a header is not what its checksum says (tarfile
    alone would take it for the end), or a member is no file.
    """
    with open(path, "rb", buffering=_BUFFER) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()
            if not member.isreg():
                raise ValueError(f"{member.name} is no plain file")
            if member.name.endswith(wanted):
                file.seek(member.offset_data)
                data = file.read(member.size)
                if len(data) != member.size:
                    raise ValueError(f"{member.name} is cut off")
                yield member.name, data
        file.seek(tar.offset)
        if file.read(len(_END)) != _END:
            raise ValueError("its end is cut off, or a header is damaged")


@contextmanager
def _telling_damage(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GranvitError(f"{path}: damaged shard ({error}); delete it and make it again") from error


def shard_records(path: str | Path) -> Iterator[Record]:
    """The records of a step's shard: of a tar, or of the JSON lines that the later steps write.

    Raises GranvitError as ``read_shard`` and ``read_records`` do.
    """
    if Path(path).suffix != ".tar":
        yield from read_records(path)
        return
    with _telling_damage(path):
        for _, text in _members(path, ".json"):
            yield Record.from_json(text)


def count_samples(path: str | Path) -> int:
    """How many samples a shard holds, from its headers alone. Raises GranvitError for a damaged tar."""
    with _telling_damage(path), tarfile.open(path, "r:") as tar:
        count = 0
        while (member := tar.next()) is not None:
            tar.members.clear()
            count += member.name.endswith(".json")
        return count


def read_image_bytes(tar_path: str | Path, offset: int, size: int) -> bytes:
    """The image at the byte range that the shard's index gives. Raises GranvitError for one beyond the
    file."""
    with open(tar_path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise GranvitError(
            f"{tar_path}: bytes {offset}-{offset + size} end after the file; the index beside it is of "
            "another version: delete both and make them again"
        )
    return data
