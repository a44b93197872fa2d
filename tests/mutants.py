"""Planted faults: does a test fail when one expression is wrong? ``make mutants``, docs/testing.md.

A mutant is a module with one change: a comparison, an operator, a constant, a condition, a result. pytest
collects a module's tests once; each mutant is a fork of that process, in which the changed code takes the
place of the module's own, and only the tests that reach the changed lines run, up to the first that fails.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from _pytest.runner import runtestprotocol
from mutations import Mutant, find_mutants

ROOT = Path(__file__).resolve().parent.parent
SCORING = "evaluation_scoring evaluation_rules_choices evaluation_rules_texts evaluation_scores"
TESTS = {
    "granvit/boxes.py": "boxes boxes_properties",
    "granvit/models/roi_align.py": "models_roi_align boxes_properties",
    "granvit/models/packing.py": "models_packing models_chained models_templates training_layout",
    "granvit/training/distillation.py": "training_parts training_regions training_contracts controls",
    "granvit/training/contrast.py": "controls",
    "granvit/training/batches.py": "training_parts training_regions training_layout training_run controls",
    "granvit/data/records/filters.py": "data_filters data_reports",
    "granvit/data/mixtures/budget.py": "data_mixture",
    "granvit/data/mixtures/mixture.py": "data_mixture data_mixture_controls data_contamination",
    "granvit/data/mixtures/mixture_file.py": "data_mixture",
    "granvit/evaluation/scoring/aggregates.py": SCORING,
    "granvit/evaluation/scoring/choices.py": SCORING,
    "granvit/evaluation/scoring/grounding.py": SCORING,
    "granvit/evaluation/scoring/texts.py": SCORING,
}


def plant(module: ModuleType, tree: ast.AST, in_function: bool) -> None:
    """Give a module's living functions the code of ``tree``, and its constants if one was changed."""
    fresh = ModuleType(module.__name__)
    fresh.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), fresh.__dict__)
    for name, new in vars(fresh).items():
        old = vars(module).get(name)
        _graft(old, new, module.__file__)
        if (
            not in_function
            and not name.startswith("__")
            and not isinstance(new, type | FunctionType | ModuleType)
        ):
            for other in list(sys.modules.values()):
                if vars(other).get(name, other) is old:
                    setattr(other, name, new)
        if not in_function and isinstance(new, type) and new.__module__ == module.__name__:
            for attribute, value in vars(new).items():
                if attribute == "__init__" or not (attribute.startswith("_") or callable(value)):
                    setattr(old, attribute, value)


def _graft(old: object, new: object, file: str) -> None:
    old, new = (
        getattr(o, "fget", None) or getattr(o, "func", None) or getattr(o, "__func__", o) for o in (old, new)
    )
    if (
        isinstance(new, type)
        and isinstance(old, type)
        and new.__module__ == old.__module__
        and new is not old
    ):
        for name, value in vars(new).items():
            _graft(vars(old).get(name), value, file)
        return
    old, new = (inspect.unwrap(o) if callable(o) else o for o in (old, new))
    if isinstance(new, FunctionType) and isinstance(old, FunctionType) and new.__code__.co_filename == file:
        old.__code__, old.__defaults__, old.__kwdefaults__ = (
            new.__code__,
            new.__defaults__,
            new.__kwdefaults__,
        )


class Session:
    """A pytest plugin: instead of running the collected tests it tries the mutants of one module on them."""

    def __init__(self, path: str, share: float, jobs: int) -> None:
        self.path, self.share, self.jobs, self.survived = path, share, jobs, []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        file = str(ROOT / self.path)
        tree = ast.parse(Path(file).read_text())
        module = sys.modules[self.path.removesuffix(".py").replace("/", ".")]
        tests = self._reach(session.items, file)
        mutants = [m for m in find_mutants(self.path, tree) if _chosen(m.text, self.share)]
        self.counts, running, waiting = Counter(mutants=len(mutants)), {}, mutants[::-1]
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant = waiting.pop()
                chosen = [(item, took) for item, took, lines in tests if lines & {*mutant.lines}]
                if not chosen and mutant.in_function:
                    self._ended(mutant, "no test reaches it")
                    continue
                mutant.put(mutant.new)
                items = [item for item, *_ in chosen] or session.items
                limit = 20 + 10 * sum(took for _, took in chosen)
                pid, folder = _fork(items, lambda m=mutant: plant(module, tree, m.in_function))
                running[pid] = (mutant, folder, time.monotonic() + limit)
                mutant.put(mutant.old)
            for pid, (mutant, folder, deadline) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended and time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)
                    ended, status = os.waitpid(pid, 0)
                if ended:
                    del running[pid]
                    shutil.rmtree(folder, ignore_errors=True)
                    self._ended(mutant, "" if status else "its tests pass")
            time.sleep(0.005)
        return True

    def _ended(self, mutant: Mutant, survived: str) -> None:
        self.counts["survived" if survived else "killed"] += 1
        if survived:
            self.survived.append(f"{mutant.text}  ({survived})")
            print(f"survived  {self.survived[-1]}", flush=True)

    def _reach(self, items: list[pytest.Item], file: str) -> list[tuple[pytest.Item, float, set[int]]]:
        """Each test with its seconds and the lines of ``file`` that it runs; quick files first.

        What a fixture runs counts for all tests of its file.
        """
        pid, folder = _fork(items, lambda: None, trace=file)
        status = os.waitpid(pid, 0)[1]
        seen = [json.loads(line) for line in (Path(folder) / "reach").read_text().splitlines()]
        shutil.rmtree(folder, ignore_errors=True)
        if status or len(seen) != len(items):
            sys.exit(f"{self.path}: its tests fail without any mutant, after {len(seen)} of {len(items)}")
        seconds, shared = Counter(), defaultdict(set)
        for item, (took, fixtures, _) in zip(items, seen, strict=True):
            seconds[item.path] += took
            shared[item.path].update(fixtures)
        reach = [
            (i, took, shared[i.path] | {*lines}) for i, (took, _, lines) in zip(items, seen, strict=True)
        ]
        return sorted(reach, key=lambda one: seconds[one[0].path])


def _chosen(text: str, share: float) -> bool:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) < share * 16**8


class Tracer:
    """A pytest plugin: which lines of a file ran, ``fixtures`` up to a test's own call, then ``lines``."""

    def __init__(self, file: str) -> None:
        self.file, self.fixtures, self.lines = file, set(), set()

    def __call__(self, frame, event: str, argument: object):
        if frame.f_code.co_filename != self.file:
            return None
        self.lines.add(frame.f_lineno)
        return self

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self.fixtures, self.lines = self.lines, set()


def _fork(items: list[pytest.Item], prepare, trace: str | None = None) -> tuple[int, str]:
    """Run tests in a copy of this process up to the first that fails: its number and folder. 0 if all pass.

    ``trace``: a file of which each test's lines are written to ``reach`` in the folder.
    """
    folder = tempfile.mkdtemp(prefix="mutant-")
    if pid := os.fork():
        return pid, folder
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        items[0].config._tmp_path_factory._basetemp = Path(folder)
        prepare()
        for item, following in zip(items, [*items[1:], None], strict=True):
            if not all(report.passed or report.skipped for report in _run(item, following, trace, folder)):
                os._exit(1)
        os._exit(0)
    except BaseException:
        os._exit(2)


def _run(item: pytest.Item, following: pytest.Item | None, trace: str | None, folder: str) -> list:
    if not trace:
        return runtestprotocol(item, log=False, nextitem=following)
    began, tracer = time.monotonic(), Tracer(trace)
    item.config.pluginmanager.register(tracer)
    sys.settrace(tracer)
    reports = runtestprotocol(item, log=False, nextitem=following)
    sys.settrace(None)
    item.config.pluginmanager.unregister(tracer)
    with open(Path(folder) / "reach", "a") as file:
        file.write(json.dumps([time.monotonic() - began, [*tracer.fixtures], [*tracer.lines]]) + "\n")
    return reports


def try_module(path: str, share: float, jobs: int) -> dict:
    """The counts of a module's mutants and the survivors, from a process of its own."""
    with tempfile.TemporaryFile("w+") as answer:
        if not (pid := os.fork()):
            session = Session(path, share, jobs)
            tests = [str(ROOT / f"tests/test_{name}.py") for name in TESTS[path].split()]
            options = ["-qq", "-s", "--no-header", "--no-summary", "-W", "ignore", "-p", "no:cacheprovider"]
            options += ["-m", "not slow and not ranks and not graph"]
            try:
                pytest.main([*options, *tests], [session])
                answer.write(json.dumps({**session.counts, "survivors": session.survived}))
                answer.flush()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        answer.seek(0)
        return json.loads(answer.read() or "{}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="parts of module names, e.g. boxes scoring; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants, chosen by their hash")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    import torch  # once for all

    torch.set_num_threads(1)
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    results, total = {}, Counter()
    for path in TESTS:
        if not arguments.modules or any(part in path for part in arguments.modules):
            began = time.monotonic()
            result = try_module(path, arguments.share, arguments.jobs)
            if not result:
                sys.exit(f"{path}: its tests fail, or nothing could be collected")
            results[path] = {key: result.get(key, 0) for key in ("mutants", "killed", "survived")}
            results[path]["seconds"] = round(time.monotonic() - began)
            total.update(results[path])
            print(f"{path}: {result.get('killed', 0)} of {result['mutants']} killed", flush=True)
    print(
        json.dumps(
            {"share_killed": round(total["killed"] / total["mutants"], 4), **total, "modules": results}
        )
    )


if __name__ == "__main__":
    main()
