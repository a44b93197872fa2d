"""Stage 1 at mini size: an image's question-answer pairs packed behind one copy of the image, against one
sample a pair (Sec. 4.1 asks about each region).

Both sides are the run of `stage1-granvit` at mini scale (stand-in encoder and LLM, batches of 8 images, two
distilled regions an image, crops of 128 px): the project's own Trainer does forward, backward, clipping,
AdamW and the teacher's step. They see the same rendered scenes, at 4.5 and at 6.2 regions an image and one
global caption each, already decoded. The baseline gives every pair a row of its own with its own copy of the
image through encoder and LLM; a distilled region belongs to its pair's row. One optimizer step ends the same
8 images. The baseline is cut as the project cuts (`compute.tokens_per_batch`: one micro-batch here), and once
more into micro-batches of at most the packed batch's positions, sorted by length, the cut that was found to
be its fastest. Copies of the same model take turns step by step in one process, and before anything is timed
all have to give the same losses and gradient norm.

Prints a line a setting, then one JSON line (ours, baseline and ratio: at 6.2 regions, the same settings on
both sides; ratio_to_fastest: against the second cut). Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from stage_work import make_trainer, pair, write_mixture

from granvit.boxes import format_box
from granvit.config.compute import RunCompute
from granvit.config.loading import load_config
from granvit.config.recipes import resolve_recipe
from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question
from granvit.device import seed_everything
from granvit.miniature.world.rendering import BACKGROUNDS, CANVAS, rng_for
from granvit.miniature.world.scenes import Scene, SceneObject, render_scene
from granvit.miniature.world.words import COLOURS, SHAPES, TEXTURES
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector
from granvit.training.loop import Trainer

REGIONS = {4.5: (4, 5), 6.2: (6, 6, 6, 6, 7)}  # average -> image after image
SIDE = 128  # px of an object: two cells of the scenes' grid
TOLERANCE = 1e-4
SAME = ("loss", "loss_caption", "loss_distill")


def make_scene(number: int, regions: int) -> Scene:
    """A scene with as many objects as asked; the miniature's own hold four at most."""
    rng = rng_for("bench_packing", number, regions)
    slots = sorted(rng.permutation((CANVAS // SIDE) ** 2)[:regions].tolist())
    objects = []
    for slot in slots:
        y, x = (SIDE * place for place in divmod(slot, CANVAS // SIDE))
        shape, colour, texture = (str(rng.choice(list(words))) for words in (SHAPES, COLOURS, TEXTURES))
        objects.append(SceneObject(shape, colour, texture, "small", (x, y, x + SIDE, y + SIDE)))
    key = f"bench-{number:06d}"
    return Scene(key, tuple(objects), str(rng.choice(BACKGROUNDS)), int(rng.integers(2**31)))


def pairs_of(scene: Scene) -> list[dict]:
    """The global caption and Bbox2Caption of each object."""
    caption = ", ".join(f"{thing.caption()} at the {thing.place}" for thing in scene.objects)
    pairs = [pair("global_caption", GLOBAL_CAPTION_QUESTION, caption)]
    for thing in scene.objects:
        question = bbox2caption_question(format_box(thing.box, CANVAS, CANVAS))
        pairs.append(pair("bbox2caption", question, thing.caption(), [float(side) for side in thing.box]))
    return pairs


def load_model(config) -> MLLM:
    encoder, llm_spec = load_encoder(config.encoders["SigLIP2"]), config.llms["Qwen2.5-1.5B"]
    llm = load_llm(llm_spec, torch.float32)
    projector = Projector(feature_width(encoder, 0), llm.config.hidden_size)
    return MLLM(encoder, projector, llm, load_tokenizer(llm_spec))


def check_same_work(packed: Trainer, *baselines: Trainer) -> None:
    """One step of each: the losses and the gradient norm have to agree, or different things would be
    timed."""
    ours = packed.step(0)
    for theirs in (baseline.step(0) for baseline in baselines):
        apart = {name: abs(ours[name] - theirs[name]) for name in SAME}
        apart["grad_norm"] = abs(ours["grad_norm"] / theirs["grad_norm"] - 1)
        if not max(apart.values()) < TOLERANCE:
            sys.exit(
                f"error: packed and unpacked differ by {apart} (expected < {TOLERANCE}): not the same work"
            )


def measure(trainers: list[Trainer], seconds: float, batch_size: int, a_round: int) -> list[float]:
    """Images per second of each, a step of one and the same step of the other in turn, in whole rounds
    of so many steps."""
    spent, steps = [0.0] * len(trainers), 0
    for trainer in trainers:
        trainer.step(1)  # warm-up; the losses' check was step 0
    while steps % a_round or sum(spent) < seconds or not steps:
        for number, trainer in enumerate(trainers):
            begin = time.perf_counter()
            trainer.step(steps)
            spent[number] += time.perf_counter() - begin
        steps += 1
    return [steps * batch_size / time_spent for time_spent in spent]


def compare(regions: float, images: int, seconds: float, threads: int) -> list[float]:
    """Images per second packed, one sample a pair in the project's own cut, and in the fastest one."""
    torch.set_num_threads(threads)
    seed_everything(0)
    config = load_config("mini")
    recipe, model, cpu = resolve_recipe(config, "stage1-granvit"), load_model(config), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        counts = REGIONS[regions]
        scenes = [make_scene(number, counts[number % len(counts)]) for number in range(images)]
        mixture = write_mixture(Path(folder), ((render_scene(scene), pairs_of(scene)) for scene in scenes))
        layouts = ((True, None), (False, config.compute.tokens_per_batch), (False, None))
        trainers = [
            make_trainer(copy.deepcopy(model), recipe, mixture, cpu, RunCompute(), packed, True, budget)
            for packed, budget in layouts
        ]
        check_same_work(*trainers)
        return measure(trainers, seconds, recipe.batch_size, images // recipe.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=40, help="in batches of 8; the average number of regions is exact in 40"
    )
    parser.add_argument("--seconds", type=float, default=30, help="of training at each number of regions")
    parser.add_argument("--threads", type=int, default=1, help="of the process (default: 1, as mini runs)")
    arguments = parser.parse_args()
    found = {}
    for regions in REGIONS:
        rates = compare(regions, arguments.images, arguments.seconds, arguments.threads)
        ours, baseline, fastest = found[regions] = rates
        print(
            f"{regions} regions an image: {ours:.1f} images/s packed, {baseline:.1f} one sample a pair, "
            f"{fastest:.1f} in its fastest cut"
        )
    few, many = ([round(rate, 2) for rate in found[regions]] for regions in (4.5, 6.2))
    result = {"benchmark": "packing", "ours": many[0], "baseline": many[1], "unit": "images/s"}
    result |= {"ratio": round(many[0] / many[1], 2), "ratio_to_fastest": round(many[0] / many[2], 2)}
    result |= {
        "ratio_at_4.5": round(few[0] / few[1], 2),
        "ratio_to_fastest_at_4.5": round(few[0] / few[2], 2),
    }
    print(json.dumps({**result, "threads": arguments.threads}))


if __name__ == "__main__":
    main()
