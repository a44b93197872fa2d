"""Near pairs of 64-bit hashes without comparing all with all (multi-index hashing)."""

from __future__ import annotations

import numpy as np

_BITS = 64
_PAIRS_AT_ONCE = 4_000_000


def near_pairs(a: np.ndarray, b: np.ndarray, max_distance: int) -> tuple[np.ndarray, ...]:
    """Every ``(i, j, distance)`` with at most ``max_distance`` different bits in ``a[i]`` and ``b[j]``.

    ``a, b``: uint64. Three arrays, sorted by i, then j. Exact: hashes cut into ``max_distance + 1`` chunks
    that differ in so few bits agree in at least one chunk, so only pairs that share a chunk are compared.
    """
    bounds = [_BITS * chunk // (max_distance + 1) for chunk in range(max_distance + 2)]
    found = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        mask = np.uint64((1 << (high - low)) - 1)
        a_chunk, b_chunk = ((values >> np.uint64(low)) & mask for values in (a, b))
        order = np.argsort(b_chunk, kind="stable")
        first = np.searchsorted(b_chunk[order], a_chunk, "left")
        counts = np.searchsorted(b_chunk[order], a_chunk, "right") - first
        for start, stop in _blocks(counts):
            i = np.repeat(np.arange(start, stop), counts[start:stop])
            steps = np.arange(len(i)) - np.repeat(
                np.cumsum(counts[start:stop]) - counts[start:stop], counts[start:stop]
            )
            j = order[first[i] + steps]
            distance = np.bitwise_count(a[i] ^ b[j])
            near = distance <= max_distance
            found.append(i[near] * len(b) + j[near])
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    i, j = np.divmod(pairs, max(len(b), 1))
    return i, j, np.bitwise_count(a[i] ^ b[j])


def _blocks(counts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of ``counts`` whose sum is at most ``_PAIRS_AT_ONCE`` (one item may pass it), without those
    that hold nothing.
    """
    ends = np.cumsum(counts)
    blocks, start = [], 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, "right")), start + 1)
        if ends[stop - 1] > done:
            blocks.append((start, stop))
        start = stop
    return blocks
