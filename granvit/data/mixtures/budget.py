"""A mixture's budget: where, in the order of the hashes, it is spent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_LIMIT = 1 << 64  # above every hash


class Budget:
    """Finds the hash below which units (images or regions) are chosen: in the order of their hashes, as many
    as fit into ``regions`` (None: all).

    What no longer fits once can never fit again, because more units only push it further back. So it is
    thrown away every now and then, and memory grows with the budget instead of with the data.
    """

    def __init__(self, regions: int | None, pending: int = 2_000_000) -> None:
        self.regions = regions
        self.total = 0  # regions offered, whether they fit or not
        self._pending = pending
        self._limit = NO_LIMIT
        self._hashes = np.empty(0, np.uint64)
        self._weights = np.empty(0, np.int32)
        self._new_hashes: list[int] = []
        self._new_weights: list[int] = []

    def add(self, hashes: Sequence[int], weight: int) -> None:
        """Offer units of ``weight`` regions each."""
        self.total += len(hashes) * weight
        for value in hashes:
            if value < self._limit:
                self._new_hashes.append(value)
                self._new_weights.append(weight)
        if len(self._new_hashes) >= self._pending:
            self._shrink()

    def is_reached(self) -> bool:
        """Whether there is more than the budget asks for."""
        return self.regions is not None and self.total > self.regions

    def cutoff(self) -> int:
        """The smallest hash that is not chosen; above every hash where all units fit."""
        self._shrink()
        return self._limit

    def _shrink(self) -> None:
        if self.regions is None:
            return
        hashes = np.concatenate([self._hashes, np.array(self._new_hashes, np.uint64)])
        weights = np.concatenate([self._weights, np.array(self._new_weights, np.int32)])
        self._new_hashes, self._new_weights = [], []
        order = np.argsort(hashes, kind="stable")
        fits = np.searchsorted(np.cumsum(weights[order], dtype=np.int64), self.regions, side="right")
        if fits < len(order):
            self._limit = min(self._limit, int(hashes[order[fits]]))
        self._hashes, self._weights = hashes[order[:fits]], weights[order[:fits]]
