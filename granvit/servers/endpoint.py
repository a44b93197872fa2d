"""Questions to a model behind any endpoint that speaks OpenAI's chat format, with a cache on disk.

The server may be down, slow or overloaded: what passes is tried again, what does not is an `Unanswered` that
the caller counts. The key comes from an environment variable that the caller names; whatever a server sends
back, it stands in no message.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3

from granvit.servers.replies import Unanswered, read_completion, refusal_reason, retry_after
from granvit.servers.reply_cache import Cache, Reply

LARGEST_REPLY = 1 << 20  # bytes; an answer of some hundred words needs none of it
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
HOPELESS = {401, 402, 403, 404, 405, 410}  # the next question would get the same


class EndpointSettings(Protocol):
    """Who is asked, and how patiently (`JudgeSettings`, `CaptionerSettings`)."""

    url: str | None  # up to and with `/v1`
    model: str | None
    timeout: float  # seconds a reply may take
    retries: int  # after a failure that may pass
    max_wait: float  # longest pause before a retry, seconds
    give_up_after: int  # questions in a row without a reply: the endpoint is down


class NotAsked(Unanswered):
    """The endpoint has been given up, so this question says nothing about itself."""


class Refused(Unanswered):
    """The endpoint will not take this very question (HTTP 400, 413, 422, ...); ``detail``: its own words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.detail = status, detail


class _Passing(Exception):
    """A failure that may pass; `after`: seconds that the endpoint asked to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _Key(requests.auth.AuthBase):
    """The key as a header; as `auth`, so that requests does not take another one from ~/.netrc."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Endpoint:
    """Replies of one model at one address; safe to use from several threads.

    ``key_variable``: the environment variable that holds the key, if the endpoint wants one.
    ``refusals_count``: whether refused questions count towards ``give_up_after`` too; they need not where the
    caller finds out by other means whether the endpoint or the question is at fault. ``keep_empty``: whether
    a reply without a word is kept; it is not where it is taken for a fault that may be fixed.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        cache: Cache,
        key_variable: str,
        refusals_count: bool = True,
        keep_empty: bool = True,
    ) -> None:
        self.settings, self.cache, self.key_variable = settings, cache, key_variable
        self.refusals_count, self.keep_empty = refusals_count, keep_empty
        self.address = f"{str(settings.url).rstrip('/')}/chat/completions"
        self.down: str | None = None  # why it is not asked any more
        self.hopeless = False  # and never will be: it said that any other question would fare alike
        self._silent, self._lock = 0, threading.Lock()
        self._asking: dict[str, threading.Lock] = {}

    def reply(
        self,
        prompt: str,
        attempt: int = 0,
        max_tokens: int = 128,
        usable: Callable[[Reply], bool] = lambda reply: True,
    ) -> Reply:
        """The model's reply to a prompt, from the cache or asked for.

        ``attempt``: how often this prompt was asked before; as in VLMEvalKit, the first has temperature 0 and
        each further one 0.5 more. ``usable``: as in `answer`. Raises Unanswered.
        """
        key = cache_key(str(self.settings.model), prompt, attempt)
        return self.answer(key, lambda: prompt, 0.5 * attempt, max_tokens, usable)

    def answer(
        self,
        key: str,
        content: Callable[[], str | list[dict]],
        temperature: float,
        max_tokens: int,
        usable: Callable[[Reply], bool] = lambda reply: True,
    ) -> Reply:
        """The reply under ``key``, from the cache or asked for.

        ``content`` makes the user's turn (a text, or OpenAI's list of parts), and is called only if it has to
        be sent. A reply that is not ``usable`` is given back and not kept, nor taken from the cache: a model
        that was set right would never be heard. Raises Unanswered.
        """
        with self._lock:
            same_question = self._asking.setdefault(key, threading.Lock())
        try:
            with same_question:  # whoever asks the same meanwhile waits for the first one's reply
                known = self.cache.get(key)
                if known is None or not usable(known):
                    self._fail_if_down()  # before the content is made, which may take images
                    known = self.ask(content(), temperature, max_tokens)
                    if (known.text or self.keep_empty) and usable(known):
                        self.cache.put(key, str(self.settings.model), known)
                return known
        finally:
            with self._lock:
                self._asking.pop(key, None)

    def ask(self, content: str | list[dict], temperature: float, max_tokens: int) -> Reply:
        """Ask, whatever the cache holds, and keep nothing. Raises Unanswered."""
        body = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        try:
            reply = self._ask(body)
        except NotAsked:
            raise
        except Refused as error:
            if self.refusals_count:
                self._note_silence(str(error))
            raise
        except (_Passing, Unanswered) as error:
            self._note_silence(str(error))
            raise Unanswered(str(error)) from None
        with self._lock:
            self._silent = 0
        return reply

    def ask_again(self) -> None:
        """Forget that questions had no reply, for a caller that wants to know whether they still have none.
        An endpoint that is hopeless stays down."""
        with self._lock:
            self._silent = 0
            if not self.hopeless:
                self.down = None

    def _note_silence(self, reason: str) -> None:
        with self._lock:
            self._silent += 1
            if self._silent >= self.settings.give_up_after and not self.down:
                self.down = f"not asked, {self._silent} questions in a row had no reply ({reason})"

    def _hopeless(self, reason: str) -> Unanswered:
        with self._lock:
            self.down, self.hopeless = reason, True
        return Unanswered(reason)

    def _fail_if_down(self) -> None:
        if reason := self.down:
            raise NotAsked(reason)

    def _ask(self, body: dict) -> Reply:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.settings.retries + 1),
            wait=self._pause,
            reraise=True,
        )
        return retrying(self._ask_once, body)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Twice as long each time, with a random share so that questions asked together do not come back
        together; at least as long as the endpoint asked for, whose date may be over by our clock."""
        after = getattr(state.outcome.exception(), "after", None) or 0.0
        return max(after, tenacity.wait_random_exponential(0.5, self.settings.max_wait)(state))

    def _ask_once(self, body: dict) -> Reply:
        self._fail_if_down()
        key = self._key()
        if not (key.isascii() and key.isprintable()):
            # Looked at before it is sent: the error that sending it gives spells it out.
            raise self._hopeless(
                f"${self.key_variable} holds characters that no header can: set it to the key alone"
            )
        try:
            status, headers, text = self._post(body, key)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise _Passing(f"no reply within {self.settings.timeout:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            # ValueError: a redirect to no address
            raise _Passing(f"no connection ({type(error).__name__})") from None
        if status in PASSING:
            after = retry_after(headers.get("Retry-After"))
            if after is not None and after > self.settings.max_wait:
                raise Unanswered(
                    f"HTTP {status}, asks to wait {after:g} s, above max_wait {self.settings.max_wait:g} s"
                )
            raise _Passing(f"HTTP {status}", after)
        if status in HOPELESS:
            raise self._hopeless(
                f"HTTP {status} from {shown(self.address)}: check url, model and ${self.key_variable}"
            )
        if status != 200:
            raise Refused(status, refusal_reason(self._without_key(text)))
        try:
            return read_completion(text)
        except ValueError as error:
            start = self._without_key(text)[:80]  # masked before it is cut, lest half the key stays
            raise _Passing(f"{error}: {start!r}") from None

    def _key(self) -> str:
        """The key without blanks around it (a file it was read from ends with a line break); empty: none."""
        return os.environ.get(self.key_variable, "").strip()

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key else text

    def _post(self, body: dict, key: str) -> tuple[int, requests.structures.CaseInsensitiveDict, str]:
        """Status, headers and text, of which no more than LARGEST_REPLY and a piece is held.

        A body that drips in ends at the time limit, and one that falls silent at most as long again after.
        Only a head that drips escapes it. Raises what requests and urllib3 raise, and TimeoutError.
        """
        deadline = time.monotonic() + self.settings.timeout
        with requests.post(
            self.address, json=body, auth=_Key(key), timeout=self.settings.timeout, stream=True,
            allow_redirects=False,
        ) as response:  # fmt: skip
            text = b""
            # read1 gives what is there; iter_content waits for all that a Content-Length announces.
            while piece := response.raw.read1(1 << 16, decode_content=True):
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
