"""Who may judge answers that no rule can: the section `evaluation.judge` of the configuration."""

from __future__ import annotations

from pydantic import model_validator

from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Strict, Url


class JudgeSettings(Strict):
    """`evaluation.judge` of the configuration. Without `url` no judge is asked."""

    url: Url | None = None  # up to and with `/v1`
    model: str | None = None
    choices: bool = False  # ask about choices and yes/no too, where the rules read nothing
    concurrency: PositiveInt = 8
    timeout: Positive = 60.0  # seconds a reply may take
    retries: NonNegativeInt = 5  # after a failure that may pass
    max_wait: NonNegative = 60.0  # longest pause before a retry, seconds
    give_up_after: PositiveInt = 10  # questions in a row without a reply: the judge is down
    cache: str = "state/judge.jsonl"

    @model_validator(mode="after")
    def _complete(self) -> JudgeSettings:
        if self.url is not None and not self.model:
            raise ValueError("a judge with a url needs a model; set evaluation.judge.model")
        return self
