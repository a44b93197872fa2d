"""ROIAlign against the definition written as slow loops."""

from __future__ import annotations

import math

import pytest
import torch

from granvit.models.roi_align import roi_align


def slow_roi_align(features, boxes, batch_index, size, scale):
    """Torchvision's aligned, adaptive ROIAlign, bin by bin and sample by sample."""
    channels, height, width = features.shape[1:]
    out = torch.zeros(len(boxes), channels, *size, dtype=features.dtype)

    def bilinear(image, y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return torch.zeros(channels, dtype=features.dtype)
        y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        return (
            image[:, top, left] * (1 - dy) * (1 - dx)
            + image[:, top, right] * (1 - dy) * dx
            + image[:, bottom, left] * dy * (1 - dx)
            + image[:, bottom, right] * dy * dx
        )

    for number, (box, index) in enumerate(zip(boxes.tolist(), batch_index.tolist(), strict=True)):
        x1, y1, x2, y2 = (value * scale - 0.5 for value in box)
        bin_height, bin_width = (y2 - y1) / size[0], (x2 - x1) / size[1]
        rows, columns = max(math.ceil(bin_height), 1), max(math.ceil(bin_width), 1)
        for i in range(size[0]):
            for j in range(size[1]):
                samples = [
                    bilinear(
                        features[index],
                        y1 + (i + (row + 0.5) / rows) * bin_height,
                        x1 + (j + (column + 0.5) / columns) * bin_width,
                    )
                    for row in range(rows)
                    for column in range(columns)
                ]
                out[number, :, i, j] = torch.stack(samples).mean(0)
    return out


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_roi_align_equals_its_definition(scale):
    torch.manual_seed(0)
    features = torch.randn(2, 3, 9, 12)
    boxes = torch.tensor(
        [[0, 0, 12, 9], [1.3, 2.1, 4.7, 3.2], [5, 5, 5.5, 8.9], [-3, -2, 6, 4], [8, 6, 20, 15], [0, 0, 12, 1]]
    )
    boxes = boxes / scale
    index = torch.tensor([0, 1, 1, 0, 1, 0])
    fast = roi_align(features, boxes, index, (4, 3), scale)
    torch.testing.assert_close(
        fast, slow_roi_align(features, boxes, index, (4, 3), scale), rtol=1e-4, atol=1e-5
    )


def test_whole_map_at_its_own_size_is_the_map():
    features = torch.randn(1, 2, 6, 6)
    whole = roi_align(features, torch.tensor([[0.0, 0.0, 96.0, 96.0]]), torch.tensor([0]), (6, 6), 1 / 16)
    torch.testing.assert_close(whole, features)


def test_gradients_flow_only_to_the_region():
    features = torch.randn(1, 1, 8, 8, requires_grad=True)
    roi_align(features, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0]), (2, 2)).sum().backward()
    gradient = features.grad[0, 0]
    assert float(gradient.sum()) == pytest.approx(4) and not gradient[5:].any() and not gradient[:, 5:].any()


def test_an_empty_box_gives_zeros_and_one_below_a_cell_does_not():
    features, on_first = torch.ones(1, 2, 4, 4), torch.zeros(1, dtype=torch.long)
    for box in ([1.0, 1, 1, 1], [1.0, 0, 1, 3], [0.0, 2, 3, 2]):
        assert not roi_align(features, torch.tensor([box]), on_first, (3, 3)).any(), box
    assert roi_align(features, torch.tensor([[1.0, 1, 1.1, 1.1]]), on_first, (3, 3)).eq(1).all()


def test_no_region_gives_an_empty_result():
    assert roi_align(
        torch.randn(1, 2, 4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (3, 3)
    ).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_roi_align_equals_torchvisions_where_that_is(device):
    try:
        from torchvision.ops import roi_align as torchvisions
    except (ImportError, RuntimeError) as error:  # its wheel is a CUDA build, which a CPU torch cannot load
        pytest.skip(f"torchvision cannot be used here: {str(error).splitlines()[0]}")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 8, 32, 32, generator=generator).to(device)
    corners = 512 * torch.rand(20, 2, generator=generator)
    sides = 4 + 200 * torch.rand(20, 2, generator=generator)
    boxes = torch.cat([corners, corners + sides], 1).to(device)
    index = (torch.arange(20) % 3).to(device)
    expected = torchvisions(
        features, torch.cat([index[:, None].float(), boxes], 1), (14, 14), 1 / 16, -1, True
    )
    torch.testing.assert_close(
        roi_align(features, boxes, index, (14, 14), 1 / 16), expected, rtol=1e-5, atol=1e-5
    )
