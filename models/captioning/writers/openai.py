"""A language model behind an OpenAI-compatible endpoint: a hosted one, or vLLM, llama.cpp, Ollama on one's own machine.

The terms of a hosted service may forbid to train other models on what it writes: read them first.
"""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from data_catalog.outage import EndpointFailed
from models.captioning.row_memory import Said
from models.captioning.writers.writer import Writer

if TYPE_CHECKING:
    import httpx

LONGEST_PAUSE = 120.0  # seconds, whatever the endpoint asks for
QUEUED = 64  # questions waiting per connection


class OpenAI(Writer):
    """`POST {base_url}/chat/completions` at temperature 0, several questions at once."""

    kind: Literal["openai"] = "openai"
    base_url: str = Field(pattern=r"^https?://")  # with the version, e.g. https://host/v1
    model: str = Field(min_length=1)  # as the endpoint calls it: a dated name, since others move
    revision: str | None = None  # what else tells the model apart, e.g. the quantisation that a server of yours loaded
    key_variable: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")  # environment variable with the key
    max_new_tokens: int = Field(80, ge=1)  # of one answer
    concurrency: int = Field(8, ge=1, le=256)  # per dataset; several may be captioned at once
    retries: int = Field(5, ge=0)  # of one question: on 408, 409, 429, 5xx and broken connections
    pause_seconds: float = Field(1.0, gt=0)  # before the first retry, doubled for each further one
    timeout_seconds: float = Field(60.0, gt=0)  # of one question
    price_in: float | None = Field(None, ge=0)  # per million tokens
    price_out: float | None = Field(None, ge=0)  # per million tokens

    @field_validator("base_url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        if "@" in url or "?" in url:
            raise ValueError("holds credentials or a query; name the environment variable of a key in `key_variable`")
        return url.rstrip("/")

    def model_identity(self) -> str:
        """The model as the endpoint calls it; where it is served says nothing about the texts."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """The price in the currency of `price_in` and `price_out`."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def answers(self, questions: Sequence[str]) -> Iterator[list[tuple[int, Said]]]:
        """One answer at a time, as they arrive; raises EndpointFailed after those that were under way."""
        import httpx

        limits = httpx.Limits(max_connections=self.concurrency)
        with (
            httpx.Client(headers=self._headers(), timeout=self.timeout_seconds, limits=limits) as client,
            ThreadPoolExecutor(self.concurrency, thread_name_prefix="ask") as pool,
        ):
            for start in range(0, len(questions), QUEUED * self.concurrency):
                queue = questions[start : start + QUEUED * self.concurrency]
                yield from self._in_parallel(client, pool, queue, start)

    def _in_parallel(
        self, client: "httpx.Client", pool: ThreadPoolExecutor, questions: Sequence[str], start: int
    ) -> Iterator[list[tuple[int, Said]]]:
        given_up, failure = threading.Event(), None
        places = {pool.submit(self._ask, client, text, given_up): i for i, text in enumerate(questions, start)}
        try:
            for answer in as_completed(places):
                try:
                    said = answer.result()
                except EndpointFailed as error:
                    failure = failure or error  # the others end early; what they were answered meanwhile is paid for
                else:
                    if said is not None:
                        yield [(places[answer], said)]
        finally:
            given_up.set()
        if failure:
            raise failure

    def _headers(self) -> dict[str, str]:
        if self.key_variable is None:
            return {}
        key = os.environ.get(self.key_variable)
        if not key:
            raise ValueError(
                f"the environment variable {self.key_variable} is not set; put the key of {self.base_url} in it"
            )
        return {"Authorization": f"Bearer {key}"}

    def _ask(self, client: "httpx.Client", question: str, given_up: threading.Event) -> Said | None:
        body = {"model": self.model, "temperature": 0, "max_tokens": self.max_new_tokens,
                "messages": [{"role": "user", "content": question}]}  # fmt: skip
        try:
            return self._persistently(client, body, given_up)
        except EndpointFailed:
            given_up.set()
            raise

    def _persistently(self, client: "httpx.Client", body: dict, given_up: threading.Event) -> Said | None:
        """The answer; None if another question has failed meanwhile."""
        trouble = ""
        for attempt in range(self.retries + 1):
            if given_up.is_set():
                return None
            answer = self._attempt(client, body)
            if isinstance(answer, Said):
                return answer
            trouble, asked_to_wait = answer
            pause = self.pause_seconds * 2**attempt * random.uniform(0.5, 1)  # apart from others that failed now
            if attempt < self.retries:
                given_up.wait(min(max(pause, asked_to_wait), LONGEST_PAUSE))
        raise EndpointFailed(
            f"{self.base_url} did not answer in {self.retries + 1} attempts, last: {trouble}; its earlier answers are "
            "kept: run again later, or lower `concurrency`"
        )

    def _attempt(self, client: "httpx.Client", body: dict) -> "Said | tuple[str, float]":
        """The answer, or what went wrong and how many seconds the endpoint wants to be left alone."""
        import httpx

        try:
            response = client.post(f"{self.base_url}/chat/completions", json=body)
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}", 0.0
        if not _is_passing(response.status_code):
            return self._read(response)
        return f"status {response.status_code}: {response.text[:200]}", _wait(response.headers.get("Retry-After"))

    def _read(self, response: "httpx.Response") -> Said:
        """The text of an answer; none if the endpoint refused to give one, or it was cut short."""
        if response.status_code == 400 and "content_filter" in response.text:
            return Said(())
        if response.status_code != 200:
            raise EndpointFailed(
                f"{self.base_url} refuses the request with status {response.status_code}: {response.text[:300]}; check "
                "`base_url`, `model` and `key_variable`"
            )
        try:
            answer = response.json()
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            text = choice["message"].get("content")
            tokens = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EndpointFailed(
                f"{self.base_url} gave something else than a chat completion: {response.text[:300]}; check `base_url`"
            ) from error
        is_whole = text and choice.get("finish_reason") != "length"
        return Said((text,) if is_whole else (), *tokens)


def _is_passing(status: int) -> bool:
    """Whether asking again later may help."""
    return status in (408, 409, 429) or status >= 500


def _wait(header: str | None) -> float:
    """Seconds that Retry-After asks for, given as such or as a date; 0 if it is absent or unreadable."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
