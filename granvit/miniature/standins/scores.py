"""What an LLM stand-in answers when it is told perfectly: the check made on every one before it is shipped.

The pictures are of the dev split and are told in symbols with places, so no encoder has a part in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from granvit.boxes import from_relative, iou, parse_box
from granvit.data.records.prompts import bbox2caption_question, caption2bbox_question
from granvit.miniature.questions.asking import pick, pick_balanced
from granvit.miniature.questions.documents import DOCUMENT_FAMILIES
from granvit.miniature.questions.scenes import box_text, region_captions
from granvit.miniature.questions.templates import short_form
from granvit.miniature.standins import told
from granvit.miniature.world.documents import Document, make_document
from granvit.miniature.world.rendering import CANVAS, rng_for
from granvit.miniature.world.scenes import Scene, make_scene
from granvit.miniature.world.words import DOCUMENT_KINDS
from granvit.models.generation import generate
from granvit.models.packing import ChatFormat

NAMESPACE = "dev"
READING = ("line", "all", "title", "value", "label")  # families of questions whose answer is printed
PICTURES = 300  # scenes, and as many documents
BATCH = 50  # pictures
LONGEST = 24  # tokens of an answer


class Probe(NamedTuple):
    """A question, what it belongs to, and whether an answer is right."""

    kind: str
    question: str
    right: Callable[[str], bool]


def _finds(box: tuple[float, ...]) -> Callable[[str], bool]:
    def right(answer: str) -> bool:
        found = parse_box(answer)
        return found is not None and iou(from_relative(found, CANVAS, CANVAS), box) >= 0.5

    return right


def _says(accepted: set[str]) -> Callable[[str], bool]:
    return lambda answer: answer.lower() in {text.lower() for text in accepted}


def _region_probes(truth: Scene | Document, rng: np.random.Generator) -> Iterator[Probe]:
    """One region in both directions, with its own box and with a widened one."""
    if isinstance(truth, Scene):
        accepted = {thing.box: region_captions(truth.objects, thing) for thing in truth.objects}
    else:
        accepted = {box: {text} for text, box in told.regions(truth, rng)}
    text, box = pick(rng, told.regions(truth, rng))
    for kind, shown in (("", box), (", widened", told.widen(box, rng, exact=0))):
        yield Probe(f"caption to box{kind}", caption2bbox_question(text), _finds(shown))
        yield Probe(f"box to caption{kind}", bbox2caption_question(box_text(shown)), _says(accepted[box]))


def _reading_probes(truth: Document, rng: np.random.Generator) -> Iterator[Probe]:
    for family in READING:
        if asked := list(DOCUMENT_FAMILIES[family](truth, rng)):
            chosen = pick_balanced(asked, rng)
            yield Probe(f"reading: {family}", short_form(chosen.question), _says({chosen.answer}))


@cache
def dev_probes(count: int) -> list[tuple[Scene | Document, list[Probe]]]:
    """``count`` scenes and as many documents of the dev split with what is asked of them."""
    probes = []
    for index in range(count):
        scene = make_scene(NAMESPACE, index)
        document = make_document(NAMESPACE, index, DOCUMENT_KINDS[index % len(DOCUMENT_KINDS)])
        rng = rng_for("symbol scores", index)
        probes.append((scene, list(_region_probes(scene, rng))))
        probes.append((document, [*_region_probes(document, rng), *_reading_probes(document, rng)]))
    return probes


@torch.inference_mode()
def symbol_scores(
    llm: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, count: int = PICTURES
) -> dict[str, float]:
    """The share of right answers by kind of question, and by scenes and documents where both are asked.

    A box is right from IoU 0.5; a caption if it is a form of the region's own; a text word for word.
    """
    chat, symbols = ChatFormat(tokenizer), told.Symbols(tokenizer)
    model = SimpleNamespace(llm=llm, chat=chat, end_ids=sorted({chat.end, tokenizer.eos_token_id}))
    weight, hits = llm.get_input_embeddings().weight, defaultdict(list)
    probes = dev_probes(count)
    for start in range(0, len(probes), BATCH):
        batch = probes[start : start + BATCH]
        slots = np.stack([symbols.slots(truth, placed=True) for truth, _ in batch])
        images = told.embed_symbols(weight, torch.from_numpy(slots).long().to(weight.device))
        asked = [(owner, truth, probe) for owner, (truth, some) in enumerate(batch) for probe in some]
        owners, questions = [owner for owner, _, _ in asked], [probe.question for _, _, probe in asked]
        answers = generate(model, images, owners, questions, LONGEST)
        for (_, truth, probe), ids in zip(asked, answers, strict=True):
            right = probe.right(tokenizer.decode(ids, skip_special_tokens=True).strip())
            sort, _, family = probe.kind.partition(": ")
            hits[sort].append(right)
            hits[probe.kind if family else f"{sort}, {_sort(truth)}"].append(right)
    return {kind: round(float(np.mean(rights)), 3) for kind, rights in sorted(hits.items())}


def _sort(truth: Scene | Document) -> str:
    return "scenes" if isinstance(truth, Scene) else "documents"
