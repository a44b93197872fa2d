"""Questions that a captioner's back end leaves unanswered: a few are counted, too many stop the job."""

from __future__ import annotations

import math
from collections import Counter

from granvit.errors import GranvitError
from granvit.servers.endpoint import Refused, Unanswered
from granvit.servers.reply_cache import Reply

# So few images say nothing about a back end, even where a job that goes on after a kill sees no others.
_FEW = 2
_EXAMPLES = 3


class FailureLimit:
    """Counts, over the images of a job, what was asked and what stayed without an answer, or a word in it.

    A back end that answers a plain question may still fail the real ones, all of them (its context is too
    short, say): that must not cost a source its captions. ``max_share``: of the questions that may fail.
    """

    def __init__(self, model: str, max_share: float) -> None:
        self.model, self.max_share = model, max_share
        self._images = self._asked = self._failed = self._images_failed = 0
        self._reasons: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, key: str, answers: list[Reply | Unanswered]) -> None:
        """Enter the answers to all questions about the image with this key."""
        failed = list(filter(None, map(_reason, answers)))
        self._images += bool(answers)
        self._asked += len(answers)
        self._images_failed += bool(failed)
        self._failed += len(failed)
        self._reasons.update(failed)
        if failed and len(self._examples) < _EXAMPLES:
            self._examples.append(key)

    def check(self) -> None:
        """Raise GranvitError where too many failed; two standard deviations of chance are allowed for, since
        what befalls one question about an image befalls its others."""
        if self._images_failed <= _FEW:
            return
        allowed = self.max_share + 2 * math.sqrt(self.max_share / self._images)
        if self._failed <= allowed * self._asked:
            return
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self._reasons.most_common(_EXAMPLES))
        raise GranvitError(
            f"the captioner {self.model} answers a plain question, but left {self._failed} of {self._asked} "
            f"unanswered ({reasons}), such as about {', '.join(self._examples)}; data.max_reject_share is "
            f"{self.max_share}. Mend the server (the log has its own words), or raise data.max_reject_share; "
            "then run the same command again: it goes on from the answers kept"
        )


def _reason(answer: Reply | Unanswered) -> str | None:
    if isinstance(answer, Reply):
        return None if answer.text else "an empty answer"
    return f"HTTP {answer.status}" if isinstance(answer, Refused) else str(answer)
