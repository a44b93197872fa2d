"""The captioner: global and region captions of natural images by a vision-language model (Sec. 3, Fig. 2).

The paper's is Qwen2.5-VL-7B; it is asked for one paragraph about an image, in the words of the paper's own
question, and for at most ten words about a region. What does not come out as a caption is left out and
counted.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from granvit.config.data import CaptionerSettings, FilterRules
from granvit.data.annotators.annotate import Annotated
from granvit.data.annotators.caption_answers import CAUSES, clean_caption, clean_region
from granvit.data.annotators.caption_backends import Backend, Question, ServerBackend, TransformersBackend
from granvit.data.annotators.caption_pictures import Picture, stated_box, too_long, window_of
from granvit.data.records.filters import what_passes
from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION
from granvit.data.records.records import Record, Region, Rejected, readable_key, rejecting
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError
from granvit.servers.endpoint import NotAsked, Refused, Unanswered
from granvit.servers.reply_cache import Cache, Reply

VERSION = "caption-1"  # of the questions' words and of what is shown; part of every answer's key in the cache
TOO_THIN, UNANSWERED = "caption_image_too_thin", "caption_unanswered"
TRIES = 2  # of a question, each with the retries of the settings
# So few images say nothing about a back end, even where a job that goes on after a kill sees no others.
_FEW = 2
_EXAMPLES = 3

REGION_QUESTION = (
    "The first image is {width} x {height} pixels. The second image is the part of it inside the box {box}. "
    "Describe the content of this box in no more than {words} words. Reply with the description alone and do "
    "not mention the images or the box."
)


@dataclass(frozen=True)
class _Work:
    """What is asked about one sample: questions by their key, and the keys of its caption and its regions
    (None: not asked)."""

    sample: Sample
    questions: dict[str, Question]
    caption: str | None
    regions: list[str | None]


class Captioner:
    """Writes ``record.caption`` (if ``captions``) and the text of each region (if ``regions``); an Annotator.

    What the source said in their place is replaced, as the paper regenerates UMG-41M's captions. A caption
    that cannot be had is None, and a region without one is left out: each is a Reject. ``cache``: an
    append-only file of what was answered, outside what the workflow declares, that a killed job goes on from.
    ``device``: of the back end ``transformers``.

    ``filters``: what they drop is not asked about, and no Reject: an image gets no caption, and a region
    stays, behind the others and with text None, for the filters to count (None: everything is asked). Of
    COCO's boxes they drop four of five.

    Raises GranvitError where the back end is at fault, and not a question: nothing is rejected for a server
    that is down, nor for one that fails more than ``max_reject_share`` of the questions.
    """

    causes = (*CAUSES, TOO_THIN, UNANSWERED)

    def __init__(
        self,
        settings: CaptionerSettings,
        captions: bool,
        regions: bool,
        cache: str | Path,
        device: str = "auto",
        log: str | Path | None = None,
        filters: FilterRules | None = None,
        max_reject_share: float = 1.0,
    ) -> None:
        self.settings, self.captions, self.regions = settings, captions, regions
        self.filters = filters
        self._limit = FailureLimit(settings.model, max_reject_share)
        answers = Cache(cache, "make its folder one that can be written")
        self.backend: Backend
        if settings.backend == "server":
            self.backend = ServerBackend(settings, answers, log)
            self.batch_size = 4 * settings.concurrency  # enough that few workers wait for the last image
        else:
            self.backend = TransformersBackend(settings, answers, device)
            self.batch_size = settings.batch_size

    def describe(self) -> dict[str, str]:
        """Everything that decides what the captions are."""
        parts = [name for name, on in (("caption", self.captions), ("regions", self.regions)) if on]
        limits = f"{self.settings.region_tokens}/{self.settings.caption_tokens} tokens"
        words = f"{self.settings.max_region_words} words"
        named = [self.settings.model, f"back end {self.settings.backend}", VERSION]
        if self.filters:
            named.append("of what passes " + "/".join(map(str, self.filters.model_dump().values())))
        return {"captioner": ", ".join([*named, "+".join(parts), words, limits])}

    def annotate(self, samples: list[Sample]) -> list[Annotated]:
        """The samples' records with captions, in their order; no result depends on the other samples.

        A question without an answer is asked twice, since a fault may pass meanwhile. One that was not asked,
        because too many others had no answer before it, is asked when the back end proves to be well.
        """
        records = [sample.record for sample in samples]
        passing = [what_passes(record, self.filters) for record in records] if self.filters else records
        asked = [(sample, record) for sample, record in zip(samples, passing, strict=True) if record]
        works = [self._work(replace(sample, record=record)) for sample, record in asked]
        answers: dict[str, Reply | Unanswered] = {}
        failures: Counter[str] = Counter()
        while unanswered := self._ask(works, answers, failures):
            self.backend.check()
            failures.update(key for key in unanswered if not isinstance(answers[key], NotAsked))
            if all(failures[key] >= TRIES for key in unanswered):
                break
        for work in works:
            self._limit.add(work.sample.record.key, [answers[key] for key in work.questions])
        self._limit.check()
        made = (self._write(work, answers) for work in works)
        return [
            self._with_dropped(record, part, next(made) if part else None)
            for record, part in zip(records, passing, strict=True)
        ]

    def close(self) -> None:
        self.backend.close()

    def _ask(
        self, works: list[_Work], answers: dict[str, Reply | Unanswered], failures: Counter[str]
    ) -> list[str]:
        """Ask what has no answer yet and has not failed too often; the keys that are without one then."""

        def ask(work: _Work) -> dict[str, Reply | Unanswered]:
            left = {
                key: question
                for key, question in work.questions.items()
                if not isinstance(answers.get(key), Reply) and failures[key] < TRIES
            }
            return self.backend.ask(Picture(work.sample), left)

        pool = ThreadPoolExecutor(self.backend.parallel)
        try:
            results = list(pool.map(ask, works))
        finally:
            pool.shutdown(cancel_futures=True)
        now: dict[str, Reply | Unanswered] = {}
        for key, answer in (item for of_image in results for item in of_image.items()):
            # An image that is there twice may fare in two ways: what tells more stands.
            if isinstance(answer, Reply) or isinstance(now.get(key), NotAsked | None):
                now[key] = answer
        answers.update(now)
        return [key for key, answer in answers.items() if isinstance(answer, Unanswered)]

    def _work(self, sample: Sample) -> _Work:
        record = sample.record
        if too_long(record.width, record.height):
            return _Work(sample, {}, None, [None] * len(record.regions))
        image = hashlib.sha256(sample.image).hexdigest()
        questions: dict[str, Question] = {}

        def key(question: Question) -> str:
            name = question.key(self.settings.backend, self.settings.model, VERSION, image)
            questions[name] = question  # two regions with one box are one question
            return name

        caption = (
            key(Question(GLOBAL_CAPTION_QUESTION, None, self.settings.caption_tokens))
            if self.captions
            else None
        )
        regions = [key(self._about(region, record)) for region in record.regions] if self.regions else []
        return _Work(sample, questions, caption, regions)

    def _about(self, region: Region, record: Record) -> Question:
        box, (width, height) = stated_box(region.box, record.width, record.height)
        text = REGION_QUESTION.format(
            width=width, height=height, box=box, words=self.settings.max_region_words
        )
        return Question(text, window_of(region.box, record.width, record.height), self.settings.region_tokens)

    def _with_dropped(self, record: Record, passing: Record | None, made: Annotated | None) -> Annotated:
        """What was made of the part of ``record`` that passes, and behind it what the filters drop."""
        if made is None:
            made = Annotated(replace(record, caption=None if self.captions else record.caption, regions=[]))
        kept = [region.box for region in passing.regions] if passing else []
        dropped = [region for region in record.regions if region.box not in kept]
        if self.regions:
            dropped = [replace(region, text=None) for region in dropped]
        return Annotated(replace(made.record, regions=made.record.regions + dropped), made.rejects)

    def _write(self, work: _Work, answers: dict[str, Reply | Unanswered]) -> Annotated:
        record, rejects = work.sample.record, []
        if self.captions:
            record = replace(record, caption=None)
            with rejecting(rejects, "caption"):
                record = replace(record, caption=_text(answers.get(work.caption), clean_caption))
        if self.regions:
            clean = partial(clean_region, max_words=self.settings.max_region_words)
            kept = []
            for region, key in zip(record.regions, work.regions, strict=True):
                with rejecting(rejects, "region", 1):
                    kept.append(replace(region, text=_text(answers.get(key), clean)))
            record = replace(record, regions=kept)
        return Annotated(record, rejects)


def _text(answer: Reply | Unanswered | None, clean: Callable[..., str]) -> str:
    """The caption in what came back; None: nothing was asked. Raises Rejected."""
    if answer is None:
        raise Rejected(TOO_THIN)
    if isinstance(answer, Refused):
        raise Rejected(f"caption_http_{answer.status}")
    if isinstance(answer, Unanswered):
        raise Rejected(UNANSWERED)
    return clean(answer.text, cut_off=answer.cut_off)


class FailureLimit:
    """Counts, over the images of a job, what was asked and what stayed without an answer, or a word in it.

    A back end that answers a plain question may still fail the real ones, all of them (its context is too
    short, say): that must not cost a source its captions. ``max_share``: of the questions that may fail.
    """

    def __init__(self, model: str, max_share: float) -> None:
        self.model, self.max_share = model, max_share
        self._images = self._asked = self._failed = self._images_failed = 0
        self._reasons: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, key: str, answers: list[Reply | Unanswered]) -> None:
        """Enter the answers to all questions about the image with this key."""
        failed = list(filter(None, map(_reason, answers)))
        self._images += bool(answers)
        self._asked += len(answers)
        self._images_failed += bool(failed)
        self._failed += len(failed)
        self._reasons.update(failed)
        if failed and len(self._examples) < _EXAMPLES:
            self._examples.append(readable_key(key))

    def check(self) -> None:
        """Raise GranvitError where too many failed; two standard deviations of chance are allowed for, since
        what befalls one question about an image befalls its others."""
        if self._images_failed <= _FEW:
            return
        allowed = self.max_share + 2 * math.sqrt(self.max_share / self._images)
        if self._failed <= allowed * self._asked:
            return
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self._reasons.most_common(_EXAMPLES))
        raise GranvitError(
            f"the captioner {self.model} answers a plain question, but left {self._failed} of {self._asked} "
            f"unanswered ({reasons}), such as about {', '.join(self._examples)}; data.max_reject_share is "
            f"{self.max_share}. Fix the server (the log has its own words), or raise data.max_reject_share; "
            "then run the same command again: it goes on from the answers kept"
        )


def _reason(answer: Reply | Unanswered) -> str | None:
    if isinstance(answer, Reply):
        return None if answer.text else "an empty answer"
    return f"HTTP {answer.status}" if isinstance(answer, Refused) else str(answer)
