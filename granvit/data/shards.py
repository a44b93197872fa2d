"""Shards: WebDataset tars of image + JSON, and how one image is read back by its byte range."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from granvit.data.records import Record
from granvit.errors import GranvitError

_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Sample:
    """One image's bytes, its record, and the file extension that says what the bytes are."""

    record: Record
    image: bytes
    extension: str


class ShardWriter:
    """Write samples to a tar in which equal samples give equal bytes (no times, owners or modes of this
    machine).
    """

    def __init__(self, path: str | Path):
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def write(self, sample: Sample) -> tuple[int, int]:
        """Add a sample; return ``(offset, size)``, the byte range of the image inside the tar."""
        key = sample.record.key
        span = self._add(f"{key}.{sample.extension}", sample.image)
        self._add(f"{key}.json", sample.record.to_json().encode())
        return span

    def _add(self, name: str, data: bytes) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(data))
        padded = -(-len(data) // _BLOCK) * _BLOCK
        return self._tar.offset - padded, len(data)


def read_shard(path: str | Path) -> Iterator[Sample]:
    """Samples of a shard in the order written.

    Raises GranvitError for a tar that is cut off or whose members are not image, JSON, image, JSON, ...
    """
    image: bytes | None = None
    name = ""
    try:
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                data = tar.extractfile(member).read()
                stem, _, extension = member.name.partition(".")
                if extension != "json":
                    image, name = data, member.name
                elif image is None or name.partition(".")[0] != stem:
                    raise ValueError(f"{member.name} does not follow its image")
                else:
                    yield Sample(Record.from_json(data), image, name.partition(".")[2])
                    image = None
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GranvitError(f"{path}: damaged shard ({error}); delete it and make it again") from error


def count_samples(path: str | Path) -> int:
    """How many samples a shard holds, from its headers alone."""
    with tarfile.open(path, "r:") as tar:
        return sum(member.name.endswith(".json") for member in tar)


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
