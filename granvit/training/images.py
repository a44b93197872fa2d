"""Images of a mixture as the encoder wants them, decoded once a process; and remembered features of a
frozen encoder."""

from __future__ import annotations

import torch
from PIL import Image

from granvit.data.records.images import UnreadableImage, as_shown, decode_rgb, open_image
from granvit.data.records.shards import read_image_bytes
from granvit.device import autocast
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM

MEMORY_LIMIT = 2 << 30  # bytes of pixels, and of features, that one training process keeps
GROUP = 8  # images whose features are computed together


def decode_at_least(data: bytes, side: int) -> Image.Image:
    """Decode RGB; a JPEG may be decoded at a reduced size whose longer side is still ``side`` pixels or more.

    The decoder's own reduction (1/2, 1/4, 1/8) saves most of a large photograph's decoding time.
    """
    with open_image(data) as image:
        if image.format in ("JPEG", "MPO") and max(image.size) >= 2 * side:
            scale = side / max(image.size)
            image.draft(None, (round(image.width * scale), round(image.height * scale)))
            return as_shown(image)
    return decode_rgb(data)


class ImageStore:
    """Preprocessed uint8 pixels of a mixture's rows: (3, S, S) or (1 + n*n, 3, S, S).

    ``keep``: remember them, while memory lasts, for later epochs.
    """

    def __init__(self, mixture, model: MLLM, keep: bool) -> None:
        self.mixture, self.model = mixture, model
        self.kept: dict[int, torch.Tensor] = {}
        self.room = MEMORY_LIMIT if keep else 0

    def __getitem__(self, index: int) -> torch.Tensor:
        """Raises UnreadableImage (a sample to skip) where the bytes are no image, GranvitError where the
        shard is not there."""
        if index in self.kept:
            return self.kept[index]
        pixels = self._read(self.mixture.row(index))
        if pixels.nbytes <= self.room:
            self.kept[index] = pixels
            self.room -= pixels.nbytes
        return pixels

    def _read(self, row: dict) -> torch.Tensor:
        try:
            data = read_image_bytes(row["shard"], row["offset"], row["size"])
        except OSError as error:
            raise GranvitError(
                f"mixture: {self.mixture.path}: image {row['key']!r} cannot be read from {row['shard']}: "
                f"{error}; "
                "pack that shard again"
            ) from error
        try:
            # Twice the size needed, so that the last reduction is always the encoder's own bicubic one.
            image = decode_at_least(data, 2 * self.model.canvas_size)
        except UnreadableImage:
            raise
        except Exception as error:  # Pillow's decoders raise many types on damaged bytes
            raise UnreadableImage("corrupt_image") from error
        return self.model.preprocess(image)


class FeatureStore:
    """Features of a frozen encoder, computed once and remembered: (image_tokens, C) a row.

    Rows are encoded in fixed groups, never in the batch that happens to ask: the last bits of a matrix
    product depend on the batch around an image, and a resumed run must get the bits that the interrupted
    one had.
    """

    def __init__(self, images: ImageStore, model: MLLM, precision: str) -> None:
        self.images, self.model, self.precision = images, model, precision
        self.kept: dict[int, torch.Tensor] = {}
        self.unreadable: dict[int, UnreadableImage] = {}

    @staticmethod
    def fits(rows: int, model: MLLM) -> bool:
        """Whether all features of a mixture fit in memory."""
        return 4 * rows * model.image_tokens * model.projector.input_size <= MEMORY_LIMIT

    def __call__(self, rows: list[int]) -> torch.Tensor:
        """(B, image_tokens, C) of the rows asked for; each has to be readable."""
        for row in rows:
            self.require(row)
        return torch.stack([self.kept[row] for row in rows])

    def require(self, row: int) -> None:
        """Raises UnreadableImage where the row's image cannot be read."""
        if row not in self.kept and row not in self.unreadable:
            self._fill(row // GROUP * GROUP)
        if row in self.unreadable:
            raise self.unreadable[row]

    def _fill(self, begin: int) -> None:
        pixels = {}
        for row in range(begin, min(begin + GROUP, len(self.images.mixture))):
            try:
                pixels[row] = self.images[row]
            except UnreadableImage as error:
                self.unreadable[row] = error
        if pixels:
            self.kept.update(zip(pixels, self._encode(torch.stack(list(pixels.values()))), strict=True))

    @torch.no_grad()
    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        with autocast(self.model.device, self.precision):
            return self.model.join_views(self.model.encode_views(pixels))
