"""Console progress of long jobs: one plain line now and then, because several jobs share a terminal.

A line looks like ``stage1-granvit seed0 | step 120/600 | loss 1.23 | 61 images/s | 0:02:10 left`` and
goes to standard error and to the job's own log file.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def write_log(log: str | Path | None, line: str) -> None:
    """Append one line to the log file, where there is one."""
    if log:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def say(log: str | Path | None, line: str) -> None:
    """Print one line to standard error, and append it to the log file."""
    print(line, file=sys.stderr, flush=True)
    write_log(log, line)


class Progress:
    """Prints where a job is, at most every ``every_seconds``, and once more at its end.

    ``total``: steps of the whole job; ``unit``: what ``step`` counts in the rate (``images``, ``questions``);
    ``per_step``: how many units one step stands for; ``log``: path of a log file, or None;
    ``start``: the step that a resumed job starts from, so that the rate and the time left are right;
    ``quiet``: say nothing (one of several ranks speaks for all).
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str = "steps",
        log: str | Path | None = None,
        every_seconds: float = 10.0,
        per_step: float = 1.0,
        start: int = 0,
        quiet: bool = False,
    ) -> None:
        self.total, self.label, self.unit, self.log = total, label, unit, log
        self.every_seconds, self.per_step, self.start = every_seconds, per_step, start
        self.quiet = quiet
        self.began = time.monotonic()
        self.printed = self.began

    def update(self, step: int, **metrics: float | str) -> None:
        """Say that ``step`` steps are done; ``metrics`` are printed in the order given."""
        now = time.monotonic()
        if step < self.total and now - self.printed < self.every_seconds:
            return
        self.printed = now
        rate = (step - self.start) / max(now - self.began, 1e-9)
        parts = [self.label, f"step {step}/{self.total}"]
        parts += [f"{name} {_short(value)}" for name, value in metrics.items()]
        parts.append(f"{_short(rate * self.per_step)} {self.unit}/s")
        seconds = now - self.began if step >= self.total else (self.total - step) / max(rate, 1e-9)
        parts.append(f"{_clock(seconds)} {'in all' if step >= self.total else 'left'}")
        self.say(" | ".join(parts))

    def say(self, line: str) -> None:
        """Print a line of its own (to standard error and the log)."""
        if not self.quiet:
            say(self.log, line)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
