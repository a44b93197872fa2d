"""The record, one image's annotations: every data step reads and writes it, and says what it leaves out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from granvit.errors import GranvitError
from granvit.files import replacing

DATA_TYPES = ("natural", "ocr", "instruction")
# What went into a step and what came out of it: the columns of the shards' lists and counts.
REJECT_COLUMNS = ["key", "what", "cause", "regions", "path"]
COUNT_COLUMNS = ["source", "mode", "rule", "images_in", "images_out", "regions_in", "regions_out"]
# A region without a text, about which nothing could be asked.
NO_TEXT = "no_region_text"


@dataclass
class Region:
    """A box ``[x1, y1, x2, y2]`` in pixels of the image as shown, its text, and how sure the annotator is
    (0-1).

    ``text`` None, between annotating and filtering: not described, since the filters drop the region.
    """

    box: list[float]
    text: str | None
    score: float | None = None


@dataclass
class Conversation:
    """One question about the image and its answer."""

    question: str
    answer: str


@dataclass
class Record:
    """Everything known about one image; ``width`` and ``height`` are of the image as shown (EXIF applied).

    ``phash``: the perceptual hash of the image as shown (fingerprints.py), 16 hexadecimal digits;
    ``image_sha256``: the hash of its bytes.
    """

    key: str
    source: str
    data_type: str
    width: int
    height: int
    caption: str | None = None
    regions: list[Region] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    provenance: dict[str, str] = field(default_factory=dict)
    phash: str | None = None
    image_sha256: str | None = None

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal records are equal bytes."""
        return json.dumps(vars(self), default=vars, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Inverse of ``to_json``. Raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(text)
        fields["regions"] = [Region(**region) for region in fields["regions"]]
        fields["conversations"] = [Conversation(**turn) for turn in fields["conversations"]]
        return cls(**fields)


@dataclass
class Reject:
    """Something left out. ``what``: image, region, caption or conversation; ``regions``: how many regions are
    lost with it."""

    what: str
    cause: str
    regions: int = 0


class Rejected(ValueError):
    """Something that cannot be used; the message is the cause, as counted in rejects.csv."""


@contextmanager
def rejecting(rejects: list[Reject], what: str, regions: int = 0) -> Iterator[None]:
    """Put into ``rejects`` what is Rejected inside: it costs itself only."""
    try:
        yield
    except Rejected as cause:
        rejects.append(Reject(what, str(cause), regions))


@dataclass
class Count:
    """What went into a rule and what came out."""

    images_in: int = 0
    images_out: int = 0
    regions_in: int = 0
    regions_out: int = 0

    def add(self, before: Record, after: Record | None) -> None:
        self.images_in += 1
        self.regions_in += len(before.regions)
        if after is not None:
            self.images_out += 1
            self.regions_out += len(after.regions)


def make_key(source: str, original_id: str) -> str:
    """``{source}/{original_id}`` as one word that WebDataset, which splits names at the first dot, reads back
    whole.

    ``/`` becomes ``__``, anything outside ``[A-Za-z0-9_-]`` becomes ``=XX`` (hex of its UTF-8 bytes), and so
    does an underscore beside another one or beside a slash: different ids never share a key.
    """
    name = f"{source}/{original_id}"
    name = re.sub(r"(?<=[_/])_|_(?=[_/])", "=5F", name.replace("=", "=3D"))
    name = re.sub(r"[^A-Za-z0-9_=/-]", lambda match: "".join(f"={b:02X}" for b in match[0].encode()), name)
    return name.replace("/", "__")


def readable_key(key: str) -> str:
    """A key as people read it: the source and the id as they were."""
    escaped = re.compile("(?:=[0-9A-F]{2})+")
    return escaped.sub(
        lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"),
        key.replace("__", "/"),
    )


def hash_key(key: str, purpose: str = "") -> int:
    """64 bits of sha256: every choice about an image is made by this number, so any machine makes the same
    one.

    ``purpose`` keeps choices independent: the images that one choice takes are not those that another one
    takes.
    """
    text = f"{purpose}:{key}" if purpose else key
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def hash_share(key: str, purpose: str) -> float:
    """The hash as a number in [0, 1): ``hash_share(...) < p`` chooses the share ``p`` of all keys."""
    return hash_key(key, purpose) / 2**64


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write JSON lines, one record each, in the order given."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(record.to_json() + "\n" for record in records)


def read_records(path: str | Path) -> Iterator[Record]:
    """Read what ``write_records`` wrote. A line that is no record is an error that names file and line."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Record.from_json(line)
            except (ValueError, KeyError, TypeError) as error:
                raise GranvitError(
                    f"{path}, line {number}: not a record ({error}); delete the file and make it again"
                ) from error
