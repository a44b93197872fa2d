"""ROIAlign (He et al., Mask R-CNN) in plain PyTorch: ``aligned=True``, adaptive sampling ratio,
differentiable, any device.

Averaged bilinear samples on a regular grid are separable, so a region is W_y F W_x^T with two small
interpolation matrices: two batched matrix products, deterministic forward and backward.
"""

from __future__ import annotations

import torch


def roi_align(
    features: torch.Tensor,
    boxes: torch.Tensor,
    batch_index: torch.Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
) -> torch.Tensor:
    """Cut regions out of feature maps (or images).

    features: (V, C, H, W); boxes: (R, 4) xyxy in input pixels; batch_index: (R,) which map each box lies on;
    output_size: (height, width) in bins; spatial_scale: feature cells a pixel. Returns (R, C, height, width).
    Samples farther than one cell outside the map count as zero, and so does an empty box, as in the original.
    """
    height, width = features.shape[-2:]
    left, top, right, bottom = (boxes.to(torch.float32) * spatial_scale - 0.5).unbind(1)
    rows = _axis_weights(top, bottom, height, output_size[0])
    columns = _axis_weights(left, right, width, output_size[1])
    regions = features.index_select(0, batch_index)
    rows, columns = rows.to(regions.dtype), columns.to(regions.dtype)
    return torch.matmul(torch.matmul(rows.unsqueeze(1), regions), columns.transpose(1, 2).unsqueeze(1))


def to_map(tokens: torch.Tensor) -> torch.Tensor:
    """(V, T, C) tokens of a square image in raster order -> (V, C, H, W)."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _axis_weights(start: torch.Tensor, end: torch.Tensor, cells: int, bins: int) -> torch.Tensor:
    """Interpolation matrices of one axis: (R, bins, cells); start, end: (R,) in cells, half-pixel shifted."""
    bin_size = (end - start) / bins
    samples = bin_size.ceil().clamp(min=1)  # the adaptive sampling ratio: one sample a cell
    most = int(samples.max()) if len(samples) else 1
    sample = torch.arange(most, device=start.device)
    offset = (sample + 0.5) / samples[:, None]  # (R, S), in bins
    bin_index = torch.arange(bins, device=start.device)
    positions = start[:, None, None] + (bin_index[:, None] + offset[:, None, :]) * bin_size[:, None, None]
    taken = (sample < samples[:, None]) & (bin_size > 0)[:, None]
    inside = (positions >= -1) & (positions <= cells) & taken[:, None]
    cell = torch.arange(cells, device=start.device)
    distance = positions.clamp(0, cells - 1)[..., None] - cell
    weights = (1 - distance.abs()).clamp(min=0) * inside[..., None]  # (R, bins, S, cells)
    return weights.sum(2) / samples[:, None, None]
