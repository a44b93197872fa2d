"""Encoders: every family gives the hidden state it should, and a checkpoint that does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from factories import VISION, make_encoder
from PIL import Image
from safetensors.torch import load_file, save_file

from granvit.boxes import to_canvas
from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder, load_saved_encoder


@pytest.mark.parametrize("family", VISION)
def test_features_are_the_penultimate_hidden_state_without_class_token(tmp_path, family):
    spec = make_encoder(tmp_path, family)
    encoder = load_encoder(spec)
    pixels = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.no_grad():
        features = encoder(pixels)
        hidden = encoder.model(pixels, output_hidden_states=True).hidden_states
    assert features.shape == (2, spec.tokens, 32)
    torch.testing.assert_close(features, hidden[-2][:, -spec.tokens :], rtol=0, atol=0)


@pytest.mark.parametrize("family", VISION)
def test_smaller_crops_are_encoded_with_interpolated_positions(tmp_path, family):
    spec = make_encoder(tmp_path, family)
    assert load_encoder(spec)(torch.randn(1, 3, 16, 16)).shape == (1, 4, 32)


@pytest.mark.parametrize("family", VISION)
def test_exported_encoder_keeps_all_layers_and_gives_the_same_features(tmp_path, family):
    spec = make_encoder(tmp_path / "published", family)
    encoder = load_encoder(spec)
    encoder.save(tmp_path / "exported")
    again = load_saved_encoder(tmp_path / "exported")
    assert len(again.layers) == len(encoder.layers) == 3
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(encoder(pixels), again(pixels))
    published, exported = (
        load_file(tmp_path / name / "model.safetensors") for name in ("published", "exported")
    )
    assert published.keys() == exported.keys()


def test_missing_weight_is_an_error_and_no_random_init(tmp_path):
    spec = make_encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("encoder.layers.1.mlp.fc1.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(GranvitError, match=r"missing.*encoder\.layers\.1\.mlp\.fc1\.weight"):
        load_encoder(spec)


def test_unexpected_weight_is_an_error(tmp_path):
    spec = make_encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors") | {"encoder.layers.9.mlp.fc1.weight": torch.zeros(1)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(GranvitError, match="unexpected"):
        load_encoder(spec)


def test_missing_folder_is_named_with_what_to_do(tmp_path):
    spec = make_encoder(tmp_path / "there").model_copy(update={"path": str(tmp_path / "nowhere")})
    with pytest.raises(GranvitError, match=r"nowhere.*does not exist.*config/encoders\.yaml"):
        load_encoder(spec)


def test_configured_size_that_contradicts_the_checkpoint_is_refused(tmp_path):
    spec = make_encoder(tmp_path).model_copy(update={"image_size": 64})
    with pytest.raises(GranvitError, match="image_size .* is 32, the configuration says 64"):
        load_encoder(spec)


def test_preprocessing_pads_where_boxes_says(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path))
    image = Image.new("RGB", (64, 31), "black")
    box = [16, 4, 48, 28]
    image.paste("white", tuple(box))
    pixels = encoder.preprocess(image)
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
    x1, y1, x2, y2 = (round(value) for value in to_canvas(box, 64, 31, 32))
    assert int(pixels[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min()) > 200
    assert pixels[:, 0, 0].tolist() == [128, 102, 76]  # padding in the mean colour
