"""Everything that wants an accelerator, checked and measured in a few minutes (started by on_device.sh).

Steps are done in the order of their worth, each within its own time limit in a worker process that is killed
and replaced when it overruns or crashes; what no longer fits into `--minutes` is skipped. Every step prints
one JSON line; at the end follows a table, also in DIR/table.md. On a CPU the same steps run at tiny size and
say only that this script works.

The first measures are variants of one stage (`compute.attention`, `compute.compile`, `compute.frozen_bf16`);
the other stages are then measured with the fastest of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("torch", "transformers", "accelerate", "numpy", "pyarrow", "pydantic", "yaml", "PIL")
LEAST = 8  # seconds under which no step is begun
PLAIN = {"attention": "sdpa", "compile": False, "frozen_bf16": False, "deterministic": "warn"}
FAST = {"attention": "flex", "frozen_bf16": True, "compile": True}
VARIANTS = {
    "plain": {},
    "flex": {"attention": "flex"},
    "flex, frozen bf16": {"attention": "flex", "frozen_bf16": True},
    "flex, frozen bf16, compiled": FAST,
    "sdpa, frozen bf16, compiled": {**FAST, "attention": "sdpa"},
}
# What else might pay, measured where time is left.
MORE = {
    "twice the images": {**FAST, "more": 2},
    "strictly deterministic": {**FAST, "deterministic": "strict"},
    "not deterministic": {**FAST, "deterministic": "no"},
}
ON_CPU = ("plain",)  # what a CPU has: FlexAttention has no backward there, compiling takes it minutes
TRIED = "stage1"  # its case with large crops


@dataclass(frozen=True)
class Step:
    """``kind``: check or measure; ``function``: of device_steps; ``limit``: seconds."""

    name: str
    kind: str
    function: str
    limit: int
    arguments: dict = field(default_factory=dict)


def list_steps(on_cpu: bool, chosen: list[str] | None = None) -> list[Step]:
    """In the order of their worth, or those ``chosen``. Stages take the fastest variant."""
    variants = [
        Step(f"stage1: {name}", "variant", "stage", 110, {"case": TRIED, "variant": variant})
        for name, variant in VARIANTS.items()
        if not on_cpu or name in ON_CPU
    ]
    stages = [
        Step(f"measure {case}", "measure", "stage", limit, {"case": case})
        for case, limit in (("stage2", 100), ("sft", 100), ("stage1 small crops", 100),
                            ("stage1 apart", 150), ("projector", 60))
    ]  # fmt: skip
    more = [
        Step(f"stage1: {name}", "variant", "stage", 80, {"case": TRIED, "variant": variant})
        for name, variant in MORE.items()
        if not on_cpu
    ]
    steps = [
        Step("machine", "measure", "machine", 60),
        Step("packed batch", "check", "packed_batch", 100),
        *variants,
        Step("ROIAlign", "check", "region_features", 30),
        *stages,
        Step("kill and resume", "check", "resume", 60),
        Step("kernels", "measure", "kernels", 60, {"case": TRIED}),
        Step("prediction", "measure", "prediction", 40),
        Step("answers", "check", "answers", 40),
        *more,
    ]
    if not chosen:
        return steps
    by_name = {step.name: step for step in steps}
    if unknown := [name for name in chosen if name not in by_name]:
        sys.exit(f"error: --steps: unknown {', '.join(unknown)}; expected some of {', '.join(by_name)}")
    return [by_name[name] for name in chosen]


def work(pipe, settings: dict) -> None:
    """The worker: does steps as they are named, until it is told None."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import device_steps
    from accelerate.state import AcceleratorState

    steps = device_steps.Steps(**settings)
    while (step := pipe.recv()) is not None:
        function, arguments = step
        # Accelerate keeps the first device of a process, and some steps compare the accelerator with the CPU.
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            pipe.send(getattr(steps, function)(**arguments))
        except Exception as error:  # the next step may well work
            lines = str(error).strip().splitlines() or [""]
            pipe.send({"ok": False, "error": f"{type(error).__name__}: {lines[0][:300]}"})


class Worker:
    """A process that does steps, started when it is needed and again after it has been killed."""

    def __init__(self, settings: dict) -> None:
        self.settings, self.process, self.pipe = settings, None, None

    def do(self, step: Step, arguments: dict, seconds: float) -> dict:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=work, args=(theirs, self.settings), daemon=False)
            self.process.start()
            theirs.close()
        self.pipe.send((step.function, arguments))
        try:
            if self.pipe.poll(seconds):
                return self.pipe.recv()
            found = {"ok": False, "error": f"took longer than {seconds:.0f} s"}
        except EOFError:
            found = {"ok": False, "error": "the worker process ended"}
        self.stop()
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def run_steps(settings: argparse.Namespace, out: Path) -> list[dict]:
    """Each step's line, also written to results.jsonl."""
    end = time.monotonic() + 60 * settings.minutes
    worker = Worker({"device": settings.device, "model": settings.model, "images": settings.images})
    on_cpu = settings.device == "cpu"
    lines, best = [], (0.0, {} if on_cpu else FAST)
    with (out / "results.jsonl").open("w", encoding="utf-8") as file:
        for step in list_steps(on_cpu, settings.steps):
            left, begin = end - time.monotonic(), time.monotonic()
            arguments = dict(step.arguments)
            if step.function in ("stage", "kernels"):
                arguments["variant"] = PLAIN | arguments.get("variant", best[1])
            if left < LEAST:
                found = {"skipped": "no time left"}
            else:
                print(f"{step.name} ... ({left:.0f} s left)", file=sys.stderr, flush=True)
                found = worker.do(step, arguments, min(step.limit, left) if not on_cpu else left)
            took = round(time.monotonic() - begin, 1)
            line = {"step": step.name, "kind": step.kind, "seconds": took, **found}
            faster = step.kind == "variant" and found.get("images/s", 0) > best[0]
            if faster and arguments["variant"].keys() == PLAIN.keys() and found["deterministic"] == "warn":
                best = found["images/s"], arguments["variant"]
            lines.append(line)
            for target in (file, sys.stdout):
                print(json.dumps(line), file=target, flush=True)
    worker.stop()
    return lines


def make_table(lines: list[dict]) -> str:
    """Markdown: checks with what they found, then measures."""
    rows = ["| check | result | found |", "|---|---|---|"]
    shown = ("relative distance", "distance", "same bits", "largest distance", "questions", "sure on both",
             "differ", "model", "error", "skipped")  # fmt: skip
    for line in lines:
        if line["kind"] == "check":
            result = "skipped" if "skipped" in line else "passed" if line["ok"] else "FAILED"
            found = {key: line[key] for key in shown if key in line}
            rows.append(f"| {line['step']} | {result} | {_words(found)} |")
    columns = ("images/s", "TFLOP/s", "MFU", "of measured rate", "peak GiB", "estimate GiB", "padding",
               "loss", "images")  # fmt: skip
    rows += ["", f"| measure | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for line in lines:
        if "images/s" in line:
            rows.append(f"| {line['step']} | {' | '.join(_words(line.get(name)) for name in columns)} |")
    parts = ("data", "encoder", "llm", "teacher", "optimizer")
    rows += ["", f"| ms an image | {' | '.join(parts)} | step |", "|---" * (len(parts) + 2) + "|"]
    for line in lines:
        if "split ms/image" in line:
            cells = [_words(line["split ms/image"][part]) for part in parts]
            rows.append(f"| {line['step']} | {' | '.join(cells)} | {_words(line['step ms/image'])} |")
    rows.append("")
    for line in lines:
        if line["kind"] != "check" and "images/s" not in line:
            told = {key: value for key, value in line.items() if key not in ("step", "kind", "seconds")}
            rows.append(f"- {line['step']}: {_words(told)}")
    return "\n".join(rows) + "\n"


def _words(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " to ".join(_words(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "-" if value is None else str(value)


def check_packages() -> None:
    """Stop at once where something is missing, and say how to bring it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: python3 here ({sys.executable}) lacks {', '.join(missing)}. requirements/device.txt "
            "names what to carry and how: download the wheels where there is a network, unpack them here "
            "with `pip install --no-index --no-deps --target DIR *.whl`, and set PYTHONPATH=DIR"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="for all steps together (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("results/on_device"), help="results.jsonl, table.md")
    parser.add_argument("--device", default="auto", help="auto (default), cuda, npu or cpu")
    parser.add_argument("--images", type=int, default=8, help="of a micro-batch (default: 8)")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="these alone, in this order")
    parser.add_argument("--model", help="a trained run's model folder, for the check of answers")
    return parser.parse_args()


def main() -> None:
    check_packages()
    settings = parse()
    sys.path.insert(0, str(HERE.parent))
    from granvit.device import pick_device
    from granvit.errors import GranvitError

    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    try:
        settings.device = str(pick_device(settings.device))
    except GranvitError as error:
        sys.exit(f"error: {error}")
    settings.out.mkdir(parents=True, exist_ok=True)
    lines = run_steps(settings, settings.out)
    table = make_table(lines)
    (settings.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    failed = [line["step"] for line in lines if line.get("ok") is False]
    sys.exit(f"error: {', '.join(failed)} failed; see {settings.out}/results.jsonl" if failed else 0)


if __name__ == "__main__":
    main()
