"""Small real things for tests: models of random weights, tokenizers with real chat templates, mixtures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MLCDVisionConfig,
    MLCDVisionModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from granvit.boxes import format_box
from granvit.config.recipes import Recipe
from granvit.config.schema import EncoderSpec, LLMSpec
from granvit.training.job import Job

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% if loop.index0 == 0 %}<|begin_of_text|>{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = {
    "qwen2": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "llama": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|endoftext|>"],
}
WORDS = ["red square", "blue ring", "green cross", "small face", "large striped triangle", "bread", "milk 12"]
VISION = {
    "siglip": (SiglipVisionModel, SiglipVisionConfig),
    "clip": (CLIPVisionModel, CLIPVisionConfig),
    "aimv2": (Aimv2VisionModel, Aimv2VisionConfig),
    "internvl": (InternVLVisionModel, InternVLVisionConfig),
    "mlcd": (MLCDVisionModel, MLCDVisionConfig),
    "dinov3": (DINOv3ViTModel, DINOv3ViTConfig),
}
EXTRA = {"dinov3": {"num_register_tokens": 4}}  # as published


def make_encoder(
    folder: Path, family: str = "siglip", size: int = 32, patch: int = 8, width: int = 32, layers: int = 3
):
    """Save a random encoder of ``family``; returns its EncoderSpec."""
    torch.manual_seed(int.from_bytes(hashlib.sha256(family.encode()).digest()[:4], "big"))
    model_class, config_class = VISION[family]
    square = (lambda value: [value, value]) if family == "internvl" else (lambda value: value)
    config = config_class(
        hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=layers, num_attention_heads=width // 16,
        image_size=square(size), patch_size=square(patch), **EXTRA.get(family, {}),
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    return EncoderSpec(
        path=str(folder), image_size=size, patch_size=patch, mean=[0.5, 0.4, 0.3], std=[0.5, 0.5, 0.5]
    )


def make_tokenizer(family: str = "qwen2") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ChatML's or LLaMA3's template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = SPECIAL[family]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [f"Describe the {word} at [0.1, 0.25, 0.5, 0.75]" for word in WORDS], trainer
    )
    end = "<|im_end|>" if family == "qwen2" else "<|eot_id|>"
    template = CHATML if family == "qwen2" else LLAMA3
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token="<|endoftext|>", chat_template=template,
        additional_special_tokens=special[:-1],
    )  # fmt: skip


def make_llm(folder: Path, family: str = "qwen2", width: int = 32, layers: int = 2) -> LLMSpec:
    """Save a random language model with its tokenizer; returns its LLMSpec."""
    torch.manual_seed(7)
    tokenizer = make_tokenizer(family)
    config_class, model_class = (
        (Qwen2Config, Qwen2ForCausalLM) if family == "qwen2" else (LlamaConfig, LlamaForCausalLM)
    )
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=width // 16, num_key_value_heads=1, max_position_embeddings=4096,
        tie_word_embeddings=family == "qwen2",
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LLMSpec(path=str(folder))


def make_mixture(
    path: Path,
    images: int = 10,
    tasks: tuple[str, ...] = ("global_caption", "bbox2caption"),
    regions: int = 3,
) -> Path:
    """Write a mixture of random drawings (JPEG and PNG, two shapes) and the file that holds their bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shard = path.with_suffix(".tar")
    rows, data = [], b""
    for number in range(images):
        width, height = (160, 120) if number % 2 else (128, 128)
        digest = hashlib.sha256(f"{path.name}/{number}".encode()).digest()
        image = Image.new("RGB", (width, height), tuple(digest[:3]))
        boxes, qa = [], []
        for region in range(regions):
            x, y, word = (
                digest[3 + region] % (width - 48),
                digest[9 + region] % (height - 48),
                WORDS[digest[region] % len(WORDS)],
            )
            box = [float(x), float(y), float(x + 40), float(y + 30 + region)]
            ImageDraw.Draw(image).rectangle(box, fill=tuple(digest[region : region + 3]))
            boxes.append((box, word))
        text = [format_box(box, width, height) for box, _ in boxes]
        for task in tasks:
            if task in ("global_caption", "instruction"):
                qa.append(
                    {
                        "task": task,
                        "question": "Describe the image.",
                        "answer": " and ".join(w for _, w in boxes),
                        "box": None,
                    }
                )
            for region, ((box, word), box_text) in enumerate(zip(boxes, text, strict=True)):
                if task == "bbox2caption":
                    qa.append({"task": task, "question": f"Describe {box_text}", "answer": word, "box": box})
                if task == "caption2bbox":
                    qa.append(
                        {
                            "task": task,
                            "question": f"Where is the {word} {number}-{region}?",
                            "answer": box_text,
                            "box": box,
                        }
                    )
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if number % 3 else "JPEG")
        rows.append(
            {
                "key": f"{path.stem}-{number}", "shard": str(shard),
                "offset": len(data), "size": buffer.tell(),
                "width": width, "height": height, "qa": qa,
            }
        )  # fmt: skip
        data += buffer.getvalue()
    shard.write_bytes(data)
    qa_type = pa.struct(
        [
            ("task", pa.string()),
            ("question", pa.string()),
            ("answer", pa.string()),
            ("box", pa.list_(pa.float64())),
        ]
    )
    schema = pa.schema(
        [("key", pa.string()), ("shard", pa.string()), ("offset", pa.int64()), ("size", pa.int64()),
         ("width", pa.int32()), ("height", pa.int32()), ("qa", pa.list_(qa_type))]
    )  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


STAGE_TASKS = {
    "projector": ("global_caption",),
    "stage1": ("global_caption", "bbox2caption"),
    "stage2": ("global_caption", "caption2bbox"),
    "sft": ("instruction",),
    "continued": ("instruction",),
}


def make_heldout(folder: Path, **images: int) -> Path:
    """A mixture with both region tasks, of so many ``images`` of each source."""
    parts = [
        parquet.read_table(
            make_mixture(folder / source / f"{source}.parquet", number, ("bbox2caption", "caption2bbox"))
        )
        for source, number in images.items()
    ]
    parquet.write_table(pa.concat_tables(parts), folder / "heldout.parquet")
    return folder / "heldout.parquet"


def make_mixtures(folder: Path, images: int = 10) -> dict[str, Path]:
    """A mixture for each stage."""
    return {
        stage: make_mixture(folder / f"{stage}.parquet", images, tasks)
        for stage, tasks in STAGE_TASKS.items()
    }


def make_recipe(stage: str = "stage1", **changes) -> Recipe:
    """A recipe of ``stage`` with the paper's parts and settings small enough for a test."""
    trains = {
        "projector": (False, True, False), "stage1": (True, True, False), "stage2": (False, True, True),
        "sft": (True, True, True), "continued": (True, True, True),
    }[stage]  # fmt: skip
    distillation = {
        "weight": 1.0, "ema_decay": 0.9, "crop_size": 16,  # not the image's side, as at paper scale
        "regions_per_image": 2, "context": 0.0, "pool": "grid", "normalise": False,
    }  # fmt: skip
    settings = {
        "name": f"{stage}-test", "stage": stage, "scale": "smoke", "parent": None, "encoder_from": None,
        "encoder": "SigLIP2", "llm": "Qwen2.5-1.5B", "tiles": 0, "mixture": "test",
        "trains": dict(zip(("encoder", "projector", "llm"), trains, strict=True)),
        "learning_rate": {"encoder": 1e-3, "projector": 1e-3, "llm": 1e-3},
        "batch_size": 4, "epochs": 1.0, "warmup_ratio": 0.03, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "precision": "fp32", "distillation": distillation if stage == "stage1" else None,
        "eval_every": 0, "eval_images": 2, "save_every": 2, "step_version": 1,
        "parent_hash": None, "encoder_from_hash": None,
    }  # fmt: skip
    return Recipe(**(settings | changes))


def make_world(folder: Path, vision: str = "siglip", language: str = "qwen2") -> SimpleNamespace:
    """Encoder, LLM and mixtures in ``folder``: what ``train`` needs besides a recipe."""
    return SimpleNamespace(
        encoder=make_encoder(folder / "encoder", vision),
        llm=make_llm(folder / "llm", language),
        mixture=make_mixture(folder / "mixture.parquet"),
        heldout=make_mixture(folder / "heldout.parquet", images=4, tasks=("bbox2caption", "caption2bbox")),
    )


def make_job(world: SimpleNamespace, recipe: Recipe, folder: Path, **changes) -> Job:
    """A run of ``recipe`` in ``world`` that writes into ``folder``/run, on the CPU and without held-out
    images unless ``changes`` say otherwise."""
    settings = {
        "recipe": recipe, "seed": 0, "encoder": world.encoder, "llm": world.llm, "mixture": world.mixture,
        "out_dir": folder / "run", "state_dir": folder / "state", "log": folder / "log.txt", "device": "cpu",
    }  # fmt: skip
    return Job(**(settings | changes))
