"""SFT steps at mini size: two 1-thread processes side by side against one 2-thread process, on two cores.

Prints one JSON line. `ratio` above one says that two small jobs get more images through than one larger one,
which is why `config/scales/mini.yaml` sets `compute.train_threads: 1`. Run it from the repository's root on
an idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

BATCH = 4  # of SFT at mini scale
IMAGES = 16


def train(seconds: float, threads: int, warm_up: int) -> float:
    """Images per second of steps in which encoder, projector and LLM learn, on rendered scenes."""
    import torch

    from granvit.config.loading import load_config
    from granvit.miniature.questions.pairs import instruction_qa
    from granvit.miniature.world.scenes import make_scene, render_scene
    from granvit.models.encoders import load_encoder
    from granvit.models.llms import load_llm, load_tokenizer
    from granvit.models.mllm import MLLM, feature_width
    from granvit.models.packing import pack
    from granvit.models.projector import Projector

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = load_config("mini")
    encoder, llm_spec = load_encoder(config.encoders["SigLIP2"]), config.llms["Qwen2.5-1.5B"]
    llm = load_llm(llm_spec, torch.float32)
    projector = Projector(feature_width(encoder, 0), llm.config.hidden_size)
    model = MLLM(encoder, projector, llm, load_tokenizer(llm_spec))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scenes = [make_scene("bench", index) for index in range(IMAGES)]
    pixels = [model.preprocess(render_scene(scene)) for scene in scenes]
    segments = [[model.chat.segment(q, a) for q, a in instruction_qa(scene, 0)] for scene in scenes]

    def step(number: int) -> None:
        rows = [(number * BATCH + i) % IMAGES for i in range(BATCH)]
        packed = pack([segments[row] for row in rows], model.chat, model.image_tokens)
        embeddings = model.encode_images(torch.stack([pixels[row] for row in rows]))
        model.token_losses(embeddings, packed).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for number in range(warm_up):
        step(number)
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        step(done)
        done += 1
    return done * BATCH / (time.perf_counter() - begin)


def side_by_side(jobs: int, threads: int, seconds: float, warm_up: int) -> float:
    """Images per second of ``jobs`` processes together."""
    options = ["--seconds", str(seconds), "--warm-up", str(warm_up), "--worker", str(threads)]
    command = [sys.executable, __file__, *options]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(jobs)]
    printed = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("error: a worker failed; its message is above")
    return sum(float(text.splitlines()[-1]) for text in printed)


def main() -> None:
    """Command line; ``--worker`` is how the processes under comparison are started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=30, help="of training on each side, after warming up"
    )
    parser.add_argument("--warm-up", type=int, default=5, help="steps before that")
    parser.add_argument("--worker", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(train(arguments.seconds, arguments.worker, arguments.warm_up))
        return
    measured = arguments.seconds, arguments.warm_up
    two, one = side_by_side(2, 1, *measured), side_by_side(1, 2, *measured)
    result = {"benchmark": "threads", "ours": round(two, 1), "baseline": round(one, 1), "unit": "images/s"}
    print(json.dumps({**result, "ratio": round(two / one, 2)}))


if __name__ == "__main__":
    main()
