"""WebDataset tars: an image and, under the same name, its ``.json`` and ``.txt``; img2dataset's too."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from granvit.data.records.records import Rejected, rejecting
from granvit.data.sources.adapters.entries import LARGEST_ENTRY, describe, parse_entry
from granvit.data.sources.adapters.entries import OPTIONS as ENTRY_OPTIONS
from granvit.data.sources.adapters.file_kinds import LOOKED_AT, is_image, is_junk, judge
from granvit.data.sources.adapters.folder import container_files, walk
from granvit.data.sources.items import Place, RawItem, text
from granvit.errors import GranvitError

OPTIONS = {"files": "which tars, as a pattern (**/*.tar)"} | ENTRY_OPTIONS
# Of the adapter `urls`: tars that granvit.data.sources.downloads makes of a list first.
URL_OPTIONS = {
    "list": "the URLs: a txt, csv, tsv, json, jsonl or parquet file, or a folder of one kind; needed",
    "url": "its column of URLs (url)",
    "caption": "its column of captions (none)",
}


def read_tars(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """One item a sample: ``{tar}/{name up to its first dot}``.

    Headers and the texts beside the images are read, the images are passed over, and nothing is unpacked.
    Members that point elsewhere (absolute names, ``..``, links, devices) are rejected and never followed. A
    tar that is cut off costs what is behind the cut: one item with the cause ``truncated_tar`` stands for it.
    A ``.json`` that cannot be read costs its image: ``broken_annotations``. Of several images under one name
    the first is taken, and the others are duplicates; ``a.depth.png`` beside ``a.jpg`` is no picture. Where
    no name is an image's, the members' first bytes tell, as in folders: what may be an image and is not read
    here is counted by its suffix (``not_read_here.heic``).
    """
    root = Path(root)
    files = container_files(root, settings.get("files", "**/*.tar"), ".tar")
    if "files" not in settings:
        _refuse_compressed(root)
    for file in files:
        yield from _samples(root / file, file, settings)


def read_urls(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """The tars that the download left, in img2dataset's own names: ``tars/00000/000000012``."""
    del settings  # they are the download's
    return read_tars(root, {"files": "tars/*.tar"})


def _refuse_compressed(root: Path) -> None:
    for folder, names in walk(root):
        for name in names:
            if name.endswith((".tar.gz", ".tgz")):
                raise GranvitError(
                    f"{root / folder / name}: a compressed tar has no byte ranges to read from; run `gunzip` "
                    "on it, so that it ends in .tar (images hardly shrink in it anyway), or name the tars to "
                    "read in the row's option `files`"
                )


def _samples(path: Path, file: str, settings: dict[str, str]) -> Iterator[RawItem]:
    prefix, length = file.removesuffix(".tar"), path.stat().st_size
    rest = RawItem(f"{prefix}/cut", Place(file, problem="truncated_tar"))  # everything behind a cut
    if length < tarfile.BLOCKSIZE:
        yield rest
        return
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115 (closed below, where reading errors are another matter)
    except tarfile.ReadError as error:
        raise GranvitError(
            f"{path}: no uncompressed tar ({error}); fetch it again, or `gunzip` it"
        ) from error
    with tar:
        yield from _Samples(tar, file, prefix, settings).items(length, rest)


class _Samples:
    """Members with one name up to the first dot make one sample, as in WebDataset."""

    def __init__(self, tar: tarfile.TarFile, file: str, prefix: str, settings: dict[str, str]):
        self.tar, self.file, self.prefix, self.settings = tar, file, prefix, settings
        self.stem: str | None = None
        self.members: dict[str, tarfile.TarInfo] = {}

    def items(self, length: int, rest: RawItem) -> Iterator[RawItem]:
        for member in self._members():
            if member is None or member.offset_data + member.size > length:
                yield from self._sample()
                yield rest
                return
            problem = _problem(member)
            if problem:
                yield RawItem(f"{self.prefix}/{member.name}", Place(self.file, problem=problem))
                continue
            if not member.isfile() or is_junk(member.name):
                continue
            folder, _, name = member.name.rpartition("/")
            name, _, extension = name.partition(".")
            stem = f"{folder}/{name}" if folder else name
            extension = extension.lower()
            if stem != self.stem or extension in self.members:
                yield from self._sample()
                self.stem = stem
            self.members[extension] = member
        yield from self._sample()

    def _members(self) -> Iterator[tarfile.TarInfo | None]:
        """The members, and None at the end of a tar that is cut off."""
        while True:
            try:
                while (member := self.tar.next()) is not None:
                    self.tar.members.clear()  # tarfile remembers all of them, which may be millions
                    yield member
            except (tarfile.TarError, OSError):
                yield None
                return
            # A damaged header ends tarfile's reading as quietly as the zeros of a whole tar's end do.
            file = self.tar.fileobj
            file.seek(self.tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                yield None
                return
            while (block := file.read(tarfile.BLOCKSIZE)) == bytes(tarfile.BLOCKSIZE):
                pass
            if not block.strip(b"\0"):
                return
            # `cat a.tar b.tar` is one file with two ends; tarfile goes on from its offset.
            self.tar.offset = file.tell() - len(block)

    def _sample(self) -> Iterator[RawItem]:
        members, self.members = self.members, {}
        if not members:
            return
        images = sorted(extension for extension in members if is_image(f"image.{extension}"))
        # `a.jpg` is the image where `a.depth.png` lies beside it.
        images = [extension for extension in images if "." not in extension] or images
        unread = None
        if not images:
            images, unread = self._by_content(members)
        places = [Place(self.file, members[name].offset_data, members[name].size) for name in images]
        item = RawItem(os.path.normpath(f"{self.prefix}/{self.stem}"), places[0] if places else unread)
        try:
            if "json" in members:
                describe(item, parse_entry(self._read(members["json"])), self.settings)
        except Rejected as cause:
            item.place = replace(item.place or Place(self.file), problem=str(cause))
        with rejecting(item.rejects, "caption"):
            if "txt" in members and not item.caption:
                item.caption = text(self._read(members["txt"]).decode("utf-8-sig", "surrogateescape"))
        yield item
        yield from (RawItem(item.original_id, extra) for extra in places[1:])

    def _by_content(self, members: dict[str, tarfile.TarInfo]) -> tuple[list[str], Place | None]:
        """The images among members whose names are no image's; where there is none, the place of what may be
        one and is not read here."""
        found = {}
        for extension in sorted(members):
            name = f"image.{extension}" if extension else "image"
            found[extension] = judge(name, partial(self._beginning, members[extension]))
        images = [extension for extension, (kind, _) in found.items() if kind == "image"]
        problems = [problem for _, problem in found.values() if problem]
        return images, Place(self.file, problem=problems[0]) if problems and not images else None

    def _beginning(self, member: tarfile.TarInfo) -> bytes:
        self.tar.fileobj.seek(member.offset_data)
        return self.tar.fileobj.read(min(member.size, LOOKED_AT))

    def _read(self, member: tarfile.TarInfo) -> bytes:
        if member.size > LARGEST_ENTRY:
            raise Rejected("broken_annotations")
        self.tar.fileobj.seek(member.offset_data)
        return self.tar.fileobj.read(member.size)


def _problem(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read at all."""
    if member.islnk() or member.issym():
        return "link_in_tar"
    if not member.isfile() and not member.isdir():
        return "device_in_tar"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "path_outside_source"
    if member.issparse():
        return "sparse_in_tar"
    return None
