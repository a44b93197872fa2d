"""An exported encoder is a plain transformers folder: whoever gets it needs nothing of this project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_models_published import ENCODERS, tiny_encoder

from granvit.models.encoders import load_encoder, load_saved_encoder

SNIPPET = Path(__file__).parent / "export_snippet.py"
RUN_EACH = """
import runpy, sys
snippet, picture, *folders = sys.argv[1:]
for folder in folders:
    sys.argv = [snippet, folder, picture, folder + "/features.pt"]
    runpy.run_path(snippet)
assert not any(name.split(".")[0] == "granvit" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """All encoders exported, and what the documentation's snippet makes of picture.png with each: one
    process without this project on its path."""
    root = tmp_path_factory.mktemp("exports")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "picture.png")
    for name in ENCODERS:
        load_encoder(tiny_encoder(name, root / "published" / name)).save(root / name)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", RUN_EACH, SNIPPET, root / "picture.png"]
    subprocess.run([*command, *(root / name for name in ENCODERS)], cwd=root, env=environment, check=True)
    return root


@pytest.mark.parametrize("name", ENCODERS)
def test_transformers_alone_gives_our_features_bit_for_bit(exports, name):
    encoder = load_saved_encoder(exports / name)
    image = Image.open(exports / "picture.png")
    with torch.no_grad():
        expected = encoder(encoder.normalise(encoder.preprocess(image))[None])
    features = torch.load(exports / name / "features.pt")
    class_tokens = encoder.class_tokens
    assert features.shape == (1, class_tokens + 16, 32)
    assert torch.equal(features[:, class_tokens:], expected)
