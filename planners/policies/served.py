"""A policy behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`.

Requests go to the server with the fewest of our requests in progress. Failures of the server are
retried with exponential backoff, as is status 429; any other 4xx is our mistake and raised at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure, InvalidInput
from planners.prompts.extraction import THINK_END, THINK_START
from planners.records import Completion, Policy, Sampling

if TYPE_CHECKING:
    import httpx

API_KEY = "POSTERITY_API_KEY"
"""Environment variable with the server's API key, if it needs one."""
TRIES = 6
"""Attempts per request before giving up on the server."""
TOO_BUSY = 429
SERVERS_FAULT = 500
SEEDS = 2**31 - 1
"""Servers accept seeds below this."""


class ServedPolicy(Policy):
    """Samples from `model` on one or more servers, with `concurrency` requests to each.

    `urls` are those of the API, for example `http://127.0.0.1:8000/v1`. `pause`: seconds before the
    first retry, doubled before each further one. Completions are reproducible as far as the servers
    honour seeds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        name: str = "served",
        concurrency: int = 16,
        timeout: float = 600.0,
        pause: float = 0.5,
    ) -> None:
        import httpx

        key = os.environ.get(API_KEY)
        self.model, self.name, self.pause = model, name, pause
        self.workers = concurrency * len(urls)
        self.client = httpx.Client(
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=self.workers),
        )
        self._busy = {url.rstrip("/"): 0 for url in urls}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def require_ready(self) -> None:
        """Check that each server answers and has the model. Raises ComponentFailure."""
        for url in self._busy:
            if self.model not in (listed := self._listed(url)):
                raise ComponentFailure(
                    f"the server {url} does not serve {self.model!r}, only {', '.join(listed)}; "
                    "name what it serves with model.server.model, or start it with that model"
                )

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Accept any prompt: the server itself refuses those that it cannot take."""

    def stream(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
    ) -> Iterator[dict[int, Completion]]:
        """Yield each completion as it is answered.

        Raises InvalidInput if a server refuses a request, and ComponentFailure if it is unreachable
        or answers with something other than a completion.
        """

        with ThreadPoolExecutor(self.workers) as pool:
            rows = {
                pool.submit(self._complete, prompts[row], sampling, seeds[row]): row
                for row in range(len(prompts))
                if row not in known
            }
            try:
                for future in as_completed(rows):
                    yield {rows[future]: future.result()}
            except BaseException:
                # Otherwise leaving the pool would first complete every queued request.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Return None for each pair: these servers have no common interface that scores a text."""
        return [None] * len(pairs)

    def load_adapter(self, name: str, folder: str) -> None:
        """Load a LoRA adapter into each running server, as vLLM does, and use it from now on.

        The previous adapter stays loaded, to go back to. Raises ComponentFailure.
        """
        for url in self._busy:
            if name not in self._listed(url):
                self._post(url, "/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        self.model = name
        self.require_ready()

    def prove(self, prompt: str) -> None:
        """Sample a few tokens, to prove the model works. Raises ComponentFailure, InvalidInput."""
        self._complete(prompt, Sampling(max_new_tokens=4), 0)

    def _complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed % SEEDS,
            "logprobs": True,
        }
        with self._least_busy() as url:
            answer = self._post(url, "/chat/completions", body)
        return self._read(answer, sampling, url)

    def _read(self, answer: dict[str, Any], sampling: Sampling, url: str) -> Completion:
        """Parse an answer. Raises ComponentFailure unless it is a completion by `self.model`."""
        answering = str(answer.get("model"))
        if self.model not in (answering, answering.rpartition("@")[0]):  # may be name@revision
            raise ComponentFailure(
                f"the server {url} answered as model {answering!r}, asked was "
                f"{self.model!r}; its completions would be recorded under the wrong name"
            )
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
            text = message["content"] or ""
            finish = {"length": "length"}.get(choice["finish_reason"], "stop")
            told = (choice.get("logprobs") or {}).get("content") or []
            each = [float(token["logprob"]) for token in told]
            ids = [int(token["id"]) for token in told if "id" in token]
            written = int((answer.get("usage") or {}).get("completion_tokens", len(each)))
            if not isinstance(text, str) or not isinstance(reasoning, str):
                raise TypeError("its content is no text")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ComponentFailure(
                f"the server {url} answered what is no chat completion ({error!r}): "
                f"{str(answer)[:200]}"
            ) from error
        if reasoning:
            text = f"{THINK_START}{reasoning}{THINK_END}{text}"
        # A sum over only some of the tokens would be wrong, so it is None.
        logprob = sum(each) if each and len(each) == written else None
        as_drawn = sampling.temperature == 1 and sampling.top_p == 1
        return Completion(
            text,
            finish,
            tuple(ids) if len(ids) == written else (),
            logprob,
            logprob if as_drawn else None,
            tokens=written,
            reasoning_tokens=_until_end([str(token.get("token", "")) for token in told]),
        )

    def _listed(self, url: str) -> list[str]:
        """The models that a server lists."""
        return [str(model.get("id")) for model in self._get(url, "/models").get("data", [])]

    @contextmanager
    def _least_busy(self) -> Iterator[str]:
        with self._lock:
            url = min(self._busy, key=lambda one: self._busy[one])
            self._busy[url] += 1
        try:
            yield url
        finally:
            with self._lock:
                self._busy[url] -= 1

    def _get(self, url: str, path: str) -> dict[str, Any]:
        return self._ask(lambda: self.client.get(url + path), url)

    def _post(self, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask(lambda: self.client.post(url + path, json=body), url)

    def _ask(self, request: Callable[[], httpx.Response], url: str) -> dict[str, Any]:
        """The answer to a request, retried with backoff if the server fails."""
        import httpx

        wrong = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                answer = request()
            except httpx.TransportError as error:
                wrong = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code >= SERVERS_FAULT or answer.status_code == TOO_BUSY:
                wrong = f"status {answer.status_code}: {answer.text[:200]}"
                continue
            if answer.is_error:
                raise InvalidInput(
                    f"the server {url} refused a request, status {answer.status_code}: "
                    f"{answer.text[:500]}"
                )
            return _json(answer, url)
        raise ComponentFailure(
            f"the server {url} failed {TRIES} times, last with {wrong}; see that it runs, then run "
            "the same command again"
        )


def _json(answer: httpx.Response, url: str) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if "json" not in answer.headers.get("content-type", ""):
        return {"text": answer.text}  # how vLLM confirms that an adapter is loaded
    raise ComponentFailure(
        f"the server {url} answered what is no JSON object: {answer.text[:200]!r}"
    )


def _until_end(tokens: Sequence[str]) -> int:
    """Tokens up to and including the last end-of-reasoning mark; 0 if none."""
    ends = [number for number, token in enumerate(tokens, 1) if THINK_END in token]
    return ends[-1] if ends else 0
