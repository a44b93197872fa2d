"""A trained model as a model of VLMEvalKit, asked with this project's prompts and answer lengths.

``python -m granvit.evaluation.toolkits.vlmevalkit MODEL_FOLDER --name granvit --data MMStar ...`` runs the
toolkit's own `run.py` on it: what follows the name goes to the toolkit. Importing VLMEvalKit turns off the
verification of TLS certificates for urllib in its process, so that this module is imported only by those who
drive the toolkit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from vlmeval.vlm.base import BaseModel

from granvit.config.steps import ROOT
from granvit.evaluation.benchmarks import Benchmark, load_benchmarks
from granvit.evaluation.prompts import model_text
from granvit.evaluation.toolkits import DEFAULT_NEW_TOKENS, Answerer


def benchmarks_by_dataset() -> dict[str, Benchmark]:
    """The toolkit's name of each data set -> a benchmark that asks it."""
    return {Path(b.tsv).stem: b for b in load_benchmarks(ROOT / "config" / "benchmarks.tsv")}


class GranViT(BaseModel):
    """``model_path``: the model folder of a finished run."""

    INTERLEAVE = True
    allowed_types = ["text", "image"]

    def __init__(self, model_path: str, device: str = "auto", **_: Any) -> None:
        super().__init__()
        self.answerer, self.benchmarks = Answerer(model_path, device), benchmarks_by_dataset()

    def use_custom_prompt(self, dataset: str) -> bool:
        """This project's prompts are the toolkit's default ones, but for where the images stand."""
        return dataset in self.benchmarks

    def build_prompt(self, line: Mapping[str, Any], dataset: str) -> list[dict[str, str]]:
        """All images of a row, then its text."""
        cells = {key: str(value) for key, value in dict(line).items() if _is_there(key, value)}
        paths = self.dump_image(line, dataset)
        paths = [paths] if isinstance(paths, str) else list(paths)
        text = model_text(cells, self.benchmarks[dataset].prompt, len(paths))
        images = [{"type": "image", "value": path} for path in paths]
        return [*images, {"type": "text", "value": text}]

    def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
        """The answer to one message; its images are seen before its texts."""
        images = [Image.open(part["value"]) for part in message if part["type"] == "image"]
        text = "\n".join(part["value"] for part in message if part["type"] == "text")
        known = self.benchmarks.get(str(dataset))
        length = known.max_new_tokens if known else DEFAULT_NEW_TOKENS
        return self.answerer.answer([images], [text], length)[0]


def _is_there(key: str, value: Any) -> bool:
    return key not in ("image", "image_path") and value is not None and value == value  # nan is not itself


def register(name: str, model_path: str, device: str = "auto") -> None:
    """Make a model folder known to the toolkit under a name."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = partial(GranViT, model_path=model_path, device=device)


def main(arguments: list[str]) -> None:
    """Register a model and hand over to the toolkit's `run.py`."""
    parser = argparse.ArgumentParser(prog="granvit.evaluation.toolkits.vlmevalkit")
    parser.add_argument("model_folder")
    parser.add_argument("--name", default="granvit")
    parser.add_argument("--device", default="auto")
    own, others = parser.parse_known_args(arguments)
    register(own.name, own.model_folder, own.device)
    from vlmeval import run

    sys.argv = ["run.py", "--model", own.name, *others]
    run.main()


if __name__ == "__main__":
    main(sys.argv[1:])
