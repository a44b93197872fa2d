"""Image tiling (A.5): an image is seen as n x n local tiles and one global view, each at the encoder's
own input size.

*Open* in the paper: N, and how tiles are laid out. Here the largest square grid of at most N tiles covers
the padded square canvas, so that all images give the same number of tokens. 2x2 neighbouring features
become one token (pixel shuffle); local tokens are put back by position.
"""

from __future__ import annotations

import math

import torch

from granvit.boxes import contains, shift
from granvit.errors import GranvitError

SHUFFLE = 2  # cells a side that become one token


def tile_side(tiles: int) -> int:
    """Tiles a side of the canvas, where at most ``tiles`` are allowed (0: no tiling)."""
    return math.isqrt(tiles)


def cut_tiles(canvas: torch.Tensor, overview: torch.Tensor) -> torch.Tensor:
    """canvas (3, nS, nS), overview (3, S, S) -> (1 + n*n, 3, S, S): the global view first, then tiles in
    raster order."""
    size = overview.shape[-1]
    rows = canvas.unfold(1, size, size).unfold(2, size, size)  # (3, n, n, S, S)
    return torch.cat([overview[None], rows.flatten(1, 2).transpose(0, 1)])


def pixel_shuffle(grid: torch.Tensor) -> torch.Tensor:
    """(..., H, W, C) -> (..., H/2, W/2, 4C): four neighbours become one token with all their channels.

    Raises GranvitError where H or W is odd.
    """
    *lead, height, width, channels = grid.shape
    if height % SHUFFLE or width % SHUFFLE:
        raise GranvitError(
            f"tiling: a grid of {height}x{width} tokens cannot be shuffled by {SHUFFLE}; use another encoder"
        )
    grid = grid.reshape(*lead, height // SHUFFLE, SHUFFLE, width // SHUFFLE, SHUFFLE, channels)
    return grid.transpose(-4, -3).flatten(-3)


def recombine(features: torch.Tensor) -> torch.Tensor:
    """(B, 1 + n*n, T, C) features -> (B, (1 + n*n) T / 4, 4C) tokens: global view, then the canvas in raster
    order."""
    batch, views, tokens, _ = features.shape
    side, grid = math.isqrt(views - 1), math.isqrt(tokens)
    shuffled = pixel_shuffle(features.unflatten(2, (grid, grid)))
    overview, local = shuffled[:, 0].flatten(1, 2), shuffled[:, 1:]
    local = local.unflatten(1, (side, side)).transpose(2, 3)  # (B, tile row, row, tile column, column, 4C)
    return torch.cat([overview, local.reshape(batch, -1, local.shape[-1])], dim=1)


def locate_view(box: list[float], size: int, tiles: int) -> tuple[int, list[float]]:
    """The view that shows a region and its box there. ``box``: pixels on the global view of ``size`` px.

    A region inside one tile is looked at on that tile; one that spans tiles on the global view (*open* in
    the paper).
    """
    side = tile_side(tiles)
    if side < 2:
        return 0, box
    enlarged = [side * value for value in box]
    column, row = (min(int((enlarged[i] + enlarged[i + 2]) / 2 // size), side - 1) for i in (0, 1))
    left, top = column * size, row * size
    if not contains((left, top, left + size, top + size), enlarged):
        return 0, box
    return 1 + row * side + column, shift(enlarged, left, top)
