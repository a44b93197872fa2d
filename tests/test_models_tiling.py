"""Tiling: tiles show the image at higher resolution, and every token knows its place."""

from __future__ import annotations

import torch
from test_models_packing import make_model

from granvit.models.tiling import cut_tiles, locate_view, recombine


def test_tiles_are_the_quadrants_in_raster_order_behind_the_global_view():
    canvas, overview = torch.arange(3 * 64).reshape(3, 8, 8), torch.full((3, 4, 4), -1)
    views = cut_tiles(canvas, overview)
    assert views.shape == (5, 3, 4, 4) and torch.equal(views[0], overview)
    assert torch.equal(views[1], canvas[:, :4, :4]) and torch.equal(views[2], canvas[:, :4, 4:])
    assert torch.equal(views[3], canvas[:, 4:, :4]) and torch.equal(views[4], canvas[:, 4:, 4:])


def test_local_tokens_are_put_back_by_position():
    canvas = torch.arange(64.0).reshape(1, 8, 8)
    views = cut_tiles(canvas.expand(3, 8, 8), torch.zeros(3, 4, 4))[:, :1]
    tokens = recombine(views.flatten(2).transpose(1, 2)[None])  # one channel, one token a pixel
    assert tokens.shape == (1, 20, 4)
    local = tokens[0, 4:].reshape(4, 4, 2, 2)  # rows, columns, and the 2x2 cells of a token
    assert torch.equal(local.transpose(1, 2).reshape(8, 8), canvas[0])


def test_regions_go_to_the_tile_that_holds_them_and_else_to_the_global_view():
    assert locate_view([20.0, 2.0, 30.0, 12.0], 32, 4) == (2, [8.0, 4.0, 28.0, 24.0])
    assert locate_view([10.0, 2.0, 30.0, 12.0], 32, 4) == (0, [10.0, 2.0, 30.0, 12.0])
    assert locate_view([20.0, 2.0, 30.0, 12.0], 32, 0) == (0, [20.0, 2.0, 30.0, 12.0])


def test_tiled_model_sees_five_views_as_a_quarter_of_their_tokens(tmp_path):
    model = make_model(tmp_path, tiles=4)
    pixels = torch.randint(0, 256, (2, 5, 3, 32, 32), dtype=torch.uint8)
    embeddings = model.encode_images(pixels)
    assert embeddings.shape == (2, model.image_tokens, 32) == (2, 5 * 16 // 4, 32)
    changed = pixels.clone()
    changed[:, 0] = 0  # the global view comes first
    difference = (model.encode_images(changed) - embeddings).abs().sum(-1)
    assert difference[:, :4].all() and not difference[:, 4:].any()
