"""A trained model as a model of lmms-eval: ``--model granvit --model_args pretrained=MODEL_FOLDER``.

Prompts, answer lengths and stop texts are the tasks' own, which are not VLMEvalKit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from lmms_eval.api.model import lmms
from PIL.Image import Image

from granvit.errors import GranvitError
from granvit.evaluation.toolkits import DEFAULT_NEW_TOKENS, Answerer

IMAGE_MARK = "<image>"  # some tasks write it where their image belongs; the model sees images first


class GranViT(lmms):
    """``pretrained``: the model folder of a finished run."""

    is_simple = True

    def __init__(self, pretrained: str, device: str = "auto", batch_size: int | str = 8, **_: Any) -> None:
        super().__init__()
        from accelerate import Accelerator

        accelerator = Accelerator()
        self._rank, self._world_size = accelerator.local_process_index, accelerator.num_processes
        if accelerator.num_processes > 1:
            self.accelerator, device = accelerator, str(accelerator.device)
        self.answerer, self.batch_size = Answerer(pretrained, device), int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers, in the order of the requests."""
        asked = []
        for number, request in enumerate(requests):
            context, options, to_visual, doc_id, task, split = request.args
            images = to_visual(self.task_dict[task][split][doc_id])
            asked.append((number, context, dict(options), _images(images, task)))

        def alike(item: tuple[int, str, dict[str, Any], list[Image]]) -> tuple[int, int]:
            return len(item[3]), int(item[2].get("max_new_tokens", DEFAULT_NEW_TOKENS))

        answers: dict[int, str] = {}
        for (_, max_new_tokens), members in groupby(sorted(asked, key=alike), key=alike):
            group = list(members)
            for start in range(0, len(group), self.batch_size):
                batch = group[start : start + self.batch_size]
                texts = [context.replace(IMAGE_MARK, "").strip() for _, context, _, _ in batch]
                said = self.answerer.answer([images for *_, images in batch], texts, max_new_tokens)
                for (number, _, options, _), text in zip(batch, said, strict=True):
                    answers[number] = _cut(text, options.get("until"))
        return [answers[number] for number in range(len(asked))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered (raises GranvitError): the benchmarks here are answered in words."""
        raise GranvitError("lmms-eval: granvit answers in words only; choose a task with generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered (raises GranvitError)."""
        raise GranvitError("lmms-eval: granvit answers one question at a time; choose a task of one round")


def _images(visuals: Any, task: str) -> list[Image]:
    images = list(visuals) if isinstance(visuals, (list, tuple)) else [visuals]
    if not images or not all(isinstance(image, Image) for image in images):
        raise GranvitError(f"lmms-eval: task {task}: granvit needs one image or several a question")
    return images


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """The answer up to the first stop text."""
    for stop in [until] if isinstance(until, str) else until or ():
        text = text.partition(stop)[0] if stop else text
    return text
