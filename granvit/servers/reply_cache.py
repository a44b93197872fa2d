"""Replies of a model, kept on disk as they come, so that nothing is asked twice."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from granvit.errors import GranvitError


@dataclass(frozen=True)
class Reply:
    """The model's words; ``cut_off``: they end where the limit on tokens was reached."""

    text: str
    cut_off: bool = False


class Cache:
    """Replies by key, in an append-only JSONL file that several processes may share.

    ``remedy``: what to do where the file cannot be written, for the error that says so.
    """

    def __init__(self, path: str | Path, remedy: str) -> None:
        self.path, self.remedy = Path(path), remedy
        self.replies: dict[str, Reply] = {}
        self.lock = threading.Lock()
        if self.path.is_file():
            with open(self.path, "rb") as file:
                for line in file:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self.replies[row["key"]] = Reply(row["reply"], row.get("cut_off", False))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # cut off by a kill: asked again

    def get(self, key: str) -> Reply | None:
        """The reply under a key, if there is one."""
        return self.replies.get(key)

    def put(self, key: str, model: str, reply: Reply) -> None:
        """Append one reply. The line break in front closes a line that a kill may have cut off."""
        row = {"key": key, "model": model, "reply": reply.text}
        if reply.cut_off:
            row["cut_off"] = True
        try:
            with self.lock:
                self._append(f"\n{json.dumps(row)}\n".encode())
                self.replies[key] = reply
        except OSError as error:
            raise GranvitError(
                f"{self.path}: a reply cannot be kept there ({error.strerror}); {self.remedy}"
            ) from None

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)  # one write: lines of two processes never mix
        finally:
            os.close(descriptor)
