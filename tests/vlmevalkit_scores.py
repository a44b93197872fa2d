"""Run by VLMEvalKit's own interpreter: scores of exported predictions, as one JSON object on the last line.

    LMUData=DATA PRED_FORMAT=tsv python vlmevalkit_scores.py EXPORTED MODEL

No judge is asked: matching is exact, and for MathVista a judge is played that gives back the answer as it is.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from vlmeval.dataset import image_vqa
from vlmeval.dataset.image_base import ImageBaseDataset
from vlmeval.dataset.image_mcq import ImageMCQDataset, MMMUDataset
from vlmeval.dataset.image_yorn import ImageYORNDataset
from vlmeval.dataset.refcoco import RefCOCODataset
from vlmeval.smp import file

CLASSES = [RefCOCODataset, MMMUDataset, ImageYORNDataset, ImageMCQDataset, image_vqa.OCRBench,
           image_vqa.MathVista, image_vqa.ImageVQADataset]  # fmt: skip


class Echo:
    """A judge that copies the answer that it is shown."""

    def __init__(self, **_: object) -> None:
        pass

    def working(self) -> bool:
        return True

    def generate(self, prompt: str, **_: object) -> str:
        return prompt.rpartition("Model respone: ")[2].removesuffix("Extracted answer:")


def score(dataset: str, exported: Path, folder: Path, model: str) -> object:
    kind = next(kind for kind in CLASSES if dataset in kind.supported_datasets())
    kind.DATASET_MD5 = {}  # else another file than the official one is fetched anew, or deleted
    copy = Path(shutil.copy(exported, folder / exported.name))
    made = kind(dataset)
    if complete := getattr(file, "is_prediction_complete", None):  # since August 2026
        assert complete(str(copy), list(made.data["index"])), f"{dataset}: taken for unfinished"
    judge = {"model": "echo" if kind is image_vqa.MathVista else "exact_matching", "nproc": 1}
    found = made.evaluate(str(copy), **judge)
    return found if isinstance(found, dict) else found.to_dict("records")


def main(exported: Path, model: str) -> None:
    assert issubclass(RefCOCODataset, ImageBaseDataset)
    image_vqa.build_judge = Echo
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(exported.glob(f"{model}_*.tsv")):
            dataset = path.stem.removeprefix(f"{model}_")
            if dataset != "MMVet":  # only a judge can mark it
                results[dataset] = score(dataset, path, Path(folder), model)
    print(json.dumps(results, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
