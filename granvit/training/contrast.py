"""Regions supervised without a language model, a control (docs/controls.md): a region's feature has to be
nearer to its own text than to the other texts of the step (RegionCLIP's form of InfoNCE).

*Open*, all of it: the paper has no such run. The text side is the mean of the frozen language model's input
embeddings, the image side its projector, so that nothing has to be learnt that GranViT does not learn too.
The negatives are those of the whole step, on all ranks: how a run is laid out changes nothing that it learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from granvit.models.roi_align import roi_align, to_map


@dataclass
class Texts:
    """The different texts of a step. ids: (N,) tokens, one text behind the other; owners: (N,) which of the
    texts each token belongs to; count: how many texts."""

    ids: torch.Tensor
    owners: torch.Tensor
    count: int

    def to(self, device: torch.device) -> Texts:
        """Copy on ``device``."""
        return Texts(self.ids.to(device), self.owners.to(device), self.count)


@dataclass
class Pairs:
    """Regions and what is said of them. boxes: (R, 4) xyxy, pixels of their views; views: (R,) which of the
    batch's views; wanted: (R,) which of ``texts``."""

    boxes: torch.Tensor
    views: torch.Tensor
    wanted: torch.Tensor
    texts: Texts

    def to(self, device: torch.device) -> Pairs:
        """Copy on ``device``."""
        own = (tensor.to(device) for tensor in (self.boxes, self.views, self.wanted))
        return Pairs(*own, self.texts.to(device))


def number_texts(texts: Sequence[Sequence[int]]) -> Texts:
    """Token ids of different texts, none of them empty, as one ``Texts``."""
    lengths = torch.tensor([len(ids) for ids in texts], dtype=torch.long)
    ids = torch.tensor([token for ids in texts for token in ids], dtype=torch.long)
    return Texts(ids, torch.arange(len(texts)).repeat_interleave(lengths), len(texts))


class RegionContrast:
    """The loss. ``embeddings``: the frozen language model's input embeddings; ``patch_size``: pixels of a
    feature cell."""

    def __init__(self, embeddings: nn.Embedding, patch_size: int, temperature: float) -> None:
        self.embeddings, self.patch_size, self.temperature = embeddings, patch_size, temperature
        self._centre: torch.Tensor | None = None

    @torch.no_grad()
    def embed(self, texts: Texts) -> torch.Tensor:
        """(texts, D) unit vectors: the mean of a text's token embeddings, less the mean of the vocabulary,
        which all texts have in common."""
        if self._centre is None:
            self._centre = self.embeddings.weight.float().mean(0)
        tokens = self.embeddings(texts.ids).float() - self._centre
        sums = tokens.new_zeros(texts.count, tokens.shape[1]).index_add_(0, texts.owners, tokens)
        return F.normalize(sums, dim=1)  # a sum points where the mean does

    def losses(self, features: torch.Tensor, projector: nn.Module, pairs: Pairs) -> torch.Tensor:
        """(R,) cross-entropy of each region's own text among all texts of the step.

        features: (V, T, C) of the encoder. A region is its features, ROIAligned to 1 x 1 (one sample a cell)
        and projected.
        """
        cells = roi_align(to_map(features), pairs.boxes, pairs.views, (1, 1), 1 / self.patch_size)
        seen = F.normalize(projector(cells.flatten(1)).float(), dim=1)
        logits = seen @ self.embed(pairs.texts).T / self.temperature
        return F.cross_entropy(logits, pairs.wanted, reduction="none")
