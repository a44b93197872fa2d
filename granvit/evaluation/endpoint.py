"""One question to a judge: any endpoint that speaks OpenAI's chat format, with a cache on disk.

A judge may be down, slow or overloaded: what passes is tried again, what does not is an `Unanswered` that the
caller counts. The key comes from the environment variable `GRANVIT_JUDGE_KEY` and stands in no message and no
file.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
import tenacity

from granvit.errors import GranvitError
from granvit.judging import JudgeSettings

KEY_VARIABLE = "GRANVIT_JUDGE_KEY"
LARGEST_REPLY = 1 << 20  # bytes; an answer of a few words needs none of it
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
HOPELESS = {401, 402, 403, 404, 405, 410}  # the next question would get the same


class Unanswered(Exception):
    """The judge gave no reply; the message says why, in one line."""


class _Passing(Exception):
    """A failure that may pass; `after`: seconds that the judge asked to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Cache:
    """Replies by key, in an append-only JSONL file that several processes may share."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.replies, self.lock = Path(path), {}, threading.Lock()
        if self.path.is_file():
            for line in self.path.read_bytes().split(b"\n"):
                try:
                    row = json.loads(line)
                    self.replies[row["key"]] = row["reply"]
                except (ValueError, KeyError, TypeError):
                    continue  # cut off by a kill: asked again

    def get(self, key: str) -> str | None:
        """The reply under a key, if there is one."""
        return self.replies.get(key)

    def put(self, key: str, model: str, reply: str) -> None:
        """Append one reply. The line break in front closes a line that a kill may have cut off."""
        line = json.dumps({"key": key, "model": model, "reply": reply})
        try:
            with self.lock:
                self._append(f"\n{line}\n".encode())
                self.replies[key] = reply
        except OSError as error:
            raise GranvitError(
                f"{self.path}: a judge's reply cannot be kept there ({error.strerror}); set "
                "evaluation.judge.cache to a file that can be written"
            ) from None

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)  # one write: lines of two processes never mix
        finally:
            os.close(descriptor)


class _Key(requests.auth.AuthBase):
    """The key as a header; as `auth`, so that requests does not take another one from ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key := os.environ.get(KEY_VARIABLE):
            request.headers["Authorization"] = f"Bearer {key}"
        return request


class Endpoint:
    """Replies of one model at one address; safe to use from several threads."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings, self.cache = settings, Cache(settings.cache)
        self.address = f"{str(settings.url).rstrip('/')}/chat/completions"
        self.down: str | None = None  # why it is not asked any more
        self._silent, self._lock = 0, threading.Lock()
        self._asking: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def reply(self, prompt: str, attempt: int = 0, max_tokens: int = 128) -> str:
        """The model's reply to a prompt, from the cache or asked for.

        ``attempt``: how often this prompt was asked before; as in VLMEvalKit, the first has temperature 0 and
        each further one 0.5 more. Raises Unanswered.
        """
        key = cache_key(str(self.settings.model), prompt, attempt)
        with self._lock:
            same_prompt = self._asking[key]
        with same_prompt:  # two questions with the same words: the second waits for the first one's reply
            known = self.cache.get(key)
            if known is not None:
                return known
            reply = self._ask_anew(prompt, attempt, max_tokens)
            self.cache.put(key, str(self.settings.model), reply)
            return reply

    def _ask_anew(self, prompt: str, attempt: int, max_tokens: int) -> str:
        if self.down:
            raise Unanswered(self.down)
        body = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.5 * attempt,
            "max_tokens": max_tokens,
        }
        try:
            reply = self._ask(body)
        except (_Passing, Unanswered) as error:
            self._note_silence(str(error))
            raise Unanswered(str(error)) from None
        with self._lock:
            self._silent = 0
        return reply

    def _note_silence(self, reason: str) -> None:
        with self._lock:
            self._silent += 1
            if self._silent >= self.settings.give_up_after and not self.down:
                self.down = f"not asked, {self._silent} questions in a row had no reply ({reason})"

    def _ask(self, body: dict) -> str:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.settings.retries + 1),
            wait=self._pause,
            reraise=True,
        )
        return retrying(self._ask_once, body)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """As long as the judge asked for, else twice as long each time, with a random share so that questions
        asked together do not come back together."""
        after = getattr(state.outcome.exception(), "after", None)
        longest = self.settings.max_wait
        return after if after is not None else tenacity.wait_random_exponential(0.5, longest)(state)

    def _ask_once(self, body: dict) -> str:
        if self.down:
            raise Unanswered(self.down)
        try:
            status, headers, text = self._post(body)
        except (requests.Timeout, TimeoutError):
            raise _Passing(f"no reply within {self.settings.timeout:g} s") from None
        except requests.RequestException as error:
            raise _Passing(f"no connection ({type(error).__name__})") from None
        if status in PASSING:
            after = retry_after(headers.get("Retry-After"))
            if after is not None and after > self.settings.max_wait:
                raise Unanswered(
                    f"HTTP {status}, asks to wait {after:g} s, above max_wait {self.settings.max_wait:g} s"
                )
            raise _Passing(f"HTTP {status}", after)
        if status in HOPELESS:
            self.down = f"HTTP {status} from {shown(self.address)}: check url, model and ${KEY_VARIABLE}"
            raise Unanswered(self.down)
        if status != 200:
            raise Unanswered(f"HTTP {status}")
        return _content(text)

    def _post(self, body: dict) -> tuple[int, requests.structures.CaseInsensitiveDict, str]:
        """Status, headers and text; the whole exchange within the time limit, however slowly it drips in."""
        deadline = time.monotonic() + self.settings.timeout
        with requests.post(
            self.address, json=body, auth=_Key(), timeout=self.settings.timeout, stream=True,
            allow_redirects=False,
        ) as response:  # fmt: skip
            text = b""
            for piece in response.iter_content(None):
                text += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(text) > LARGEST_REPLY:
                    break
            return response.status_code, response.headers, text.decode("utf-8", errors="replace")


def cache_key(model: str, prompt: str, attempt: int) -> str:
    """What a reply depends on, as a hash."""
    return hashlib.sha256(json.dumps([model, prompt, attempt]).encode()).hexdigest()


def shown(address: str) -> str:
    """An address without user, password or query, which may hold secrets."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header: a number, or a date."""
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


def _content(text: str) -> str:
    """The reply inside a chat completion; what is none is tried again, since proxies answer for the judge."""
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise _Passing(f"not a chat completion: {text[:80]!r}") from None
    if not isinstance(content, str):
        raise _Passing("a chat completion without text")
    return content.strip()
