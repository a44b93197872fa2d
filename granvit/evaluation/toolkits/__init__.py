"""A trained model inside other toolkits: VLMEvalKit and lmms-eval drive it through these adapters.

Nothing here imports a toolkit: `vlmevalkit.py` and `lmms_eval.py` do, and are imported by those who have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEFAULT_NEW_TOKENS = 128  # for data sets that config/benchmarks.tsv does not list


class Answerer:
    """Greedy answers of one model folder (``results/{scale}/sft/{recipe}/seed{N}/model``)."""

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        from granvit.device import pick_device
        from granvit.models.mllm import MLLM

        self.model = MLLM.load(Path(folder), pick_device(device))

    def answer(
        self, images: Sequence[Sequence[Any]], questions: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        """Answers to questions on as many images each (PIL images, in the order that the model sees them)."""
        import torch

        with torch.inference_mode():
            pictures = [self.model.preprocess(image.convert("RGB")) for row in images for image in row]
            embedded = self.model.encode_images(torch.stack(pictures))
            rows = embedded.view(len(questions), -1, embedded.shape[-1])
            return self.model.answer(rows, list(questions), max_new_tokens)


def lmms_eval_models() -> Any:
    """What the entry point group `lmms_eval.models` asks for: `--model granvit`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="granvit", simple_class_path=f"{__name__}.lmms_eval.GranViT")
