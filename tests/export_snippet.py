"""The ten lines of the documentation that use an exported encoder; nothing of this project is imported."""

import sys

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

folder, picture, output = sys.argv[1:]
encoder = AutoModel.from_pretrained(folder).eval()
processor = AutoImageProcessor.from_pretrained(folder)
pixels = processor(Image.open(picture).convert("RGB"), return_tensors="pt")
with torch.no_grad():
    features = encoder(**pixels, output_hidden_states=True).hidden_states[-2]

torch.save(features, output)
