"""What servers of models send back, read: a chat completion, the reason of a refusal, how long to wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from granvit.servers.reply_cache import Reply


class Unanswered(Exception):
    """The endpoint gave no reply; the message says why, in one line."""


def refusal_reason(text: str) -> str:
    """What a server says of a refusal, in one line: the message of an OpenAI error, else the body."""
    try:
        found = json.loads(text)
        error = found.get("error", found)
        text = str(error if isinstance(error, str) else error["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return " ".join(text.split())[:200]


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, a number or a date; 0 for what is over, None for what is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def read_completion(text: str) -> Reply:
    """The reply inside a chat completion. Raises ValueError for what is none; it is worth another try, since
    proxies answer for the model. Raises Unanswered where the model itself ended without a word."""
    try:
        choice = json.loads(text)["choices"][0]
        content, end = choice["message"]["content"], choice.get("finish_reason")
        if isinstance(content, list):  # of parts, as some servers send it
            content = "".join(part["text"] for part in content if part["type"] == "text") or None
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ValueError("not a chat completion") from None
    if content is None and end in ("length", "content_filter"):
        # Reasoning took its tokens, or a filter its words: asked the same, it does the same. It is no empty
        # reply either, since that would be kept, and still stand there when the server has been fixed.
        raise Unanswered(f"a chat completion without text, finish_reason {end}")
    if not isinstance(content, str):
        raise ValueError("a chat completion without text")
    return Reply(content.strip(), end == "length")
