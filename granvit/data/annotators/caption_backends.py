"""Who answers a captioner's questions: a server, or a model in this process.

Both keep each answer in the cache as it comes and ask nothing that is in there. All questions about one image
are asked by one worker: the image is decoded once, and a server with a prefix cache (vLLM) reads it once.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from granvit.config.data import CaptionerSettings
from granvit.data.annotators.caption_pictures import Picture, Window
from granvit.data.records.records import Record, readable_key
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError
from granvit.progress import write_log
from granvit.servers.endpoint import Endpoint, NotAsked, Refused, Unanswered, shown
from granvit.servers.reply_cache import Cache, Reply

KEY_VARIABLE = "GRANVIT_CAPTIONER_KEY"


@dataclass(frozen=True)
class Question:
    """What is asked about an image; ``window``: the part of it that is shown too, if one is."""

    text: str
    window: Window | None
    max_tokens: int

    def views(self) -> list[Window | None]:
        """What is shown, in order: the whole image first, so that all its questions begin alike."""
        return [None] if self.window is None else [None, self.window]

    def key(self, backend: str, model: str, version: str, image: str) -> str:
        """What the answer depends on, as a hash; ``image``: the hash of the image's bytes."""
        parts = [backend, model, version, image, self.text, self.window, self.max_tokens]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Backend(Protocol):
    """Answers questions. ``parallel``: how many images may be asked about at the same time."""

    parallel: int

    def ask(self, picture: Picture, questions: dict[str, Question]) -> dict[str, Reply | Unanswered]:
        """The answer to each question by its key, or why there is none (NotAsked: for the others' sake)."""
        ...

    def check(self) -> None:
        """Raise GranvitError if it is the back end, and not a question, that is at fault; otherwise questions
        are asked again, whatever came before."""

    def close(self) -> None:
        """Let go of what is held."""


class ServerBackend(Backend):
    """Any server that speaks OpenAI's chat format with images in it: vLLM, vLLM-Ascend, `transformers
    serve`."""

    def __init__(self, settings: CaptionerSettings, cache: Cache, log: str | Path | None = None) -> None:
        if not settings.url:
            raise GranvitError(
                "data.captioner.url is not set; give the server's address up to and with /v1, or set "
                "data.captioner.backend: transformers"
            )
        self.settings, self.log, self.parallel = settings, log, settings.concurrency
        self.endpoint = Endpoint(settings, cache, KEY_VARIABLE, refusals_count=False, keep_empty=False)

    def ask(self, picture: Picture, questions: dict[str, Question]) -> dict[str, Reply | Unanswered]:
        """One after the other; concurrency is over images."""
        return {key: self._one(picture, key, question) for key, question in questions.items()}

    def _one(self, picture: Picture, key: str, question: Question) -> Reply | Unanswered:
        def content() -> list[dict]:
            return _turn([picture.data_uri(view) for view in question.views()], question.text)

        try:
            return self.endpoint.answer(key, content, 0.0, question.max_tokens)
        except NotAsked as error:
            return error  # asked later, unless the job stops
        except Unanswered as error:
            name = readable_key(picture.record.key)
            write_log(self.log, f"{name}: a question had no answer ({_reason(error)})")
            return error

    def check(self) -> None:
        """Find out who is at fault, by a plain question that any captioner can answer.

        No answer: it is the server (it may take one image a question only), and going on would cost every
        caption of the source. Raises GranvitError. An answer: it is the image that was asked about, and the
        source goes on.
        """
        self.endpoint.ask_again()
        plain = Picture(_plain_sample())
        parts = _turn([plain.data_uri(None), plain.data_uri((0, 0, 56, 56))], "Describe the second image.")
        try:
            self.endpoint.ask(parts, 0.0, 8)
        except Unanswered as error:
            raise GranvitError(
                f"data.captioner.url {shown(str(self.settings.url))}: the captioner does not answer a plain "
                f"question with two images ({_reason(error)}). Start a server of {self.settings.model} "
                "there, or name another one; then run the same command again: it goes on from the answers "
                f"kept in {self.endpoint.cache.path}"
            ) from None


def _reason(error: Unanswered) -> str:
    return f"{error}: {error.detail}" if isinstance(error, Refused) else str(error)


def _turn(images: Sequence[str], text: str) -> list[dict]:
    shown_first = [{"type": "image_url", "image_url": {"url": address}} for address in images]
    return [*shown_first, {"type": "text", "text": text}]


def _plain_sample() -> Sample:
    buffer = io.BytesIO()
    Image.new("RGB", (112, 112), (128, 160, 200)).save(buffer, "PNG")
    return Sample(Record("plain", "plain", "natural", 112, 112), buffer.getvalue(), "png")


class TransformersBackend(Backend):
    """A model in this process: greedy, left-padded batches of questions about one image.

    A batch is made from all of the image's questions, whether they have been answered or not, so no answer
    depends on what else is in the shard, or on what was answered before a kill: padding to other lengths may
    change a word. An answer that is already kept stays as it is. ``device``: as granvit.device takes it.
    There is nothing to check: the model answers, or its error ends the job.
    """

    parallel = 1

    def __init__(self, settings: CaptionerSettings, cache: Cache, device: str = "auto") -> None:
        self.settings, self.cache, self.device_name = settings, cache, device
        self._loaded = None

    def ask(self, picture: Picture, questions: dict[str, Question]) -> dict[str, Reply | Unanswered]:
        """In batches of ``batch_size`` questions with the same limit of tokens."""
        for limit in dict.fromkeys(question.max_tokens for question in questions.values()):
            alike = [(key, question) for key, question in questions.items() if question.max_tokens == limit]
            for start in range(0, len(alike), self.settings.batch_size):
                batch = alike[start : start + self.settings.batch_size]
                if all(self.cache.get(key) for key, _ in batch):
                    continue
                replies = self._generate(picture, [question for _, question in batch], limit)
                for (key, _), reply in zip(batch, replies, strict=True):
                    if self.cache.get(key) is None:
                        self.cache.put(key, self.settings.model, reply)
        return {key: self.cache.get(key) for key in questions}

    def _generate(self, picture: Picture, questions: list[Question], max_tokens: int) -> list[Reply]:
        import torch

        processor, model, ends = self._loaded or self._load()
        turns = []
        for question in questions:
            images = [{"type": "image", "image": picture.view(view)} for view in question.views()]
            turns.append([{"role": "user", "content": [*images, {"type": "text", "text": question.text}]}])
        inputs = processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(model.device, dtype=model.dtype)  # fmt: skip
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=max_tokens)
        return [
            self._reply(processor, tokens, ends)
            for tokens in made[:, inputs["input_ids"].shape[1] :].tolist()
        ]

    @staticmethod
    def _reply(processor, tokens: list[int], ends: set[int]) -> Reply:
        finished = next((i for i, token in enumerate(tokens) if token in ends), None)
        text = processor.tokenizer.decode(tokens[:finished], skip_special_tokens=True)
        return Reply(text.strip(), cut_off=finished is None)

    def _load(self):
        import torch
        from transformers import AutoModelForImageTextToText

        from granvit.device import is_accelerator, pick_device

        device = pick_device(self.device_name)
        dtype = torch.bfloat16 if is_accelerator(device) else torch.float32
        try:
            processor = load_processor(self.settings.model)
            model = AutoModelForImageTextToText.from_pretrained(self.settings.model, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise GranvitError(
                f"data.captioner.model {self.settings.model}: no vision-language model can be loaded from "
                f"there ({' '.join(str(error).split())[:300]}); give a folder or hub id that "
                "AutoModelForImageTextToText loads"
            ) from error
        settings = model.generation_config
        settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
        settings.pad_token_id = processor.tokenizer.pad_token_id
        ends = settings.eos_token_id
        self._loaded = (
            processor,
            model.to(device).eval(),
            {ends} if isinstance(ends, int) else set(ends or ()),
        )
        return self._loaded

    def close(self) -> None:
        """Let go of the model's memory."""
        self._loaded = None


def load_processor(model: str):
    """The processor of a checkpoint for texts and images alone, with left padding.

    Where the checkpoint's processor takes videos too, that part is left out: it needs torchvision, which the
    captioner has no other use for. Images are prepared with PIL, so that every machine prepares them alike.
    """
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = PROCESSOR_MAPPING_NAMES.get(AutoConfig.from_pretrained(model).model_type)
    whole = getattr(transformers, name) if name else None
    if whole is None or "video_processor" not in whole.get_attributes():
        processor = AutoProcessor.from_pretrained(model, backend="pil")
    else:
        tokenizer = AutoTokenizer.from_pretrained(model)
        images_only = type(
            f"{name}WithoutVideos",
            (whole,),
            {"get_attributes": classmethod(lambda _: ["image_processor", "tokenizer"])},
        )
        processor = images_only(
            AutoImageProcessor.from_pretrained(model, backend="pil"),
            tokenizer,
            chat_template=tokenizer.chat_template,
        )
    processor.tokenizer.padding_side = "left"
    return processor
