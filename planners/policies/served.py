"""A policy behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`.

Requests go to the server with the fewest of our requests in progress. Where one fails, or has too
much to do (429), another is asked; where all do, they are asked again with exponential backoff. Any
other 4xx is our mistake and raised at once.

Servers have sampling settings of their own: vLLM those of the model's generation_config.json,
llama.cpp a top_k and a min_p. Requests therefore name neutral values, or the tokens would be drawn
from another distribution than their log-probabilities tell.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure, InvalidInput
from planners.models.chat import encode_prompts, reasoning_tokens
from planners.policies.answers import (
    BROKEN,
    NEUTRAL,
    as_drawn,
    ended,
    first_alike,
    json_of,
    key_in,
    models_in,
    processed,
    said,
    until_end,
    ways_with,
)
from planners.policies.decoding import GREEDY
from planners.policies.servers import OVERLOADED, Servers, Unavailable, client_with, refusal
from planners.policies.streamed import ASKED, answer_of
from planners.records import Completion, Heard, Policy, Prompt, Sampling

if TYPE_CHECKING:
    import httpx
    from transformers import PreTrainedTokenizerFast

API_KEY = "POSTERITY_API_KEY"
"""Environment variable with the server's API key, if it needs one."""
SLOWEST = 8.0
"""Seconds between two attempts, at most."""
PROBED = 5.0
"""Seconds that a server may fail at a way of asking before the next one is tried."""
QUIETLY = 5.0
"""Seconds of waiting for a server before a line says so."""
SEEDS = 2**31 - 1  # servers accept those below
LOG = logging.getLogger(__name__)


class ServedPolicy(Policy):
    """Samples from `model` on one or more servers, with `concurrency` requests to each.

    `urls` are those of the API, for example `http://127.0.0.1:8000/v1`. `timeout`: seconds that an
    answer may take. `patience`: seconds that all servers may fail or be unreachable, with retries
    after `pause` seconds, doubled each time. With a `tokenizer`, prompts are sent as the token ids
    that training reads, where the servers take them, so that no chat template of theirs comes
    between. Completions are reproducible as far as the servers honour seeds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        name: str = "served",
        concurrency: int = 16,
        timeout: float = 600.0,
        pause: float = 0.5,
        patience: float = 60.0,
        tokenizer: PreTrainedTokenizerFast | None = None,
    ) -> None:
        self._key = key = key_in(API_KEY)
        self.model, self.name, self.pause, self.patience = model, name, pause, patience
        self._adapter, self._loading = "", threading.Lock()
        self._tokenizer = tokenizer
        self._ways = ways_with(tokenizer)
        self._processed: bool | None = None
        self.workers = concurrency * len(urls)
        self.client = client_with(key, timeout, self.workers)
        self._servers = Servers(urls)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def require_ready(self, start_up: float = 0.0) -> None:
        """Check that each server has the model, waiting up to `start_up` seconds for one that is
        not up yet. Raises ComponentFailure.
        """
        for url in self._servers.urls:
            if self.model not in (listed := self._listed(url, max(start_up, self.patience))):
                raise ComponentFailure(
                    f"the server {url} does not serve {self.model!r}, only {', '.join(listed)}; "
                    "name what it serves with model.server.model, or start it with that model"
                )

    def stream(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
        heard: Sequence[Heard] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield each completion as it is answered. `heard[i]` is told each token of row i as it
        arrives, where the servers take token ids.

        Raises InvalidInput if a server refuses a request, and ComponentFailure if it is unreachable
        or answers with something other than a completion.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            rows = {
                pool.submit(self._complete, prompts[row], sampling, seeds[row], None, listener): row
                for row, listener in enumerate(heard or [None] * len(prompts))
                if row not in known
            }
            try:
                for future in as_completed(rows):
                    yield {rows[future]: future.result()}
            except BaseException:
                # Otherwise leaving the pool would first complete every queued request.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def load_adapter(self, name: str, folder: str) -> None:
        """Load a LoRA adapter into each running server, as vLLM does, and use it from now on.

        The name must tell the weights: one that is listed already is taken for loaded. The
        previous adapter stays loaded, to go back to; a server that was started again gets it anew.
        Raises InvalidInput if a server refuses it, and ComponentFailure.
        """
        for url in self._servers.urls:
            self._load(url, name, folder)
        self.model, self._adapter = name, folder
        self.require_ready()

    def _load(self, url: str, name: str, folder: str) -> None:
        with self._loading:
            if name not in self._listed(url):
                # vLLM answers 500 to an adapter that it cannot take; asking again changes nothing.
                wanted = {"lora_name": name, "lora_path": folder}
                self._post(url, "/load_lora_adapter", wanted, refused=True)

    def prove(self, prompt: str, sampling: Sampling | None = None) -> None:
        """Sample a few tokens, to prove the model works and to learn the servers' ways: what they
        accept beyond OpenAI's interface, and of which distribution they tell log-probabilities at
        this `sampling`. Raises ComponentFailure, InvalidInput.
        """
        few, refused = Sampling(max_new_tokens=4), Exception("")
        patience = min(self.patience, PROBED)
        while len(self._ways) > 1:
            try:
                self._complete(prompt, few, 0, patience)
                break
            except Unavailable:  # which says nothing against this way
                if patience == self.patience:
                    raise
                patience = self.patience
            except (InvalidInput, ComponentFailure) as error:
                self._ways, refused = self._ways[1:], error
        else:
            self._complete(prompt, few, 0)
        if self._tokenizer is not None and self._ways[0].prompt == "chat":
            LOG.warning("prompts go to the server as chats, not as token ids: %s", refused)
        if sampling is not None and not as_drawn(sampling):
            self._processed = self._tells_processed(prompt, sampling)

    def _tells_processed(self, prompt: str, sampling: Sampling) -> bool | None:
        """Whether log-probabilities are told after `sampling`'s temperature and top_p were applied;
        None where that cannot be seen.
        """

        def ask(how: Sampling, url: str) -> dict[str, float]:
            answer = self._post(url, self._path, self._body(prompt, how, 0, alike=5))
            return first_alike(answer["choices"][0]["logprobs"])

        try:
            found = {processed(partial(ask, url=url), sampling) for url in self._servers.urls}
        except BROKEN:
            return None
        return found.pop() if len(found) == 1 else None

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """Encodes prompts, where the servers take token ids; otherwise None."""
        return self._tokenizer if self._ways[0].prompt == "ids" else None

    @property
    def _path(self) -> str:
        return "/chat/completions" if self._ways[0].prompt == "chat" else "/completions"

    def _complete(
        self, prompt: Prompt, sampling: Sampling, seed: int, patience: float | None = None,
        heard: Heard | None = None,
    ) -> Completion:  # fmt: skip
        body = self._body(prompt, sampling, seed)
        listener = heard if self.tokenizer is not None else None

        def ask(url: str) -> httpx.Response:
            if listener is not None:
                return self._streamed(url, body, listener)
            return self.client.post(url + self._path, json=body)

        def ask_anew(url: str) -> httpx.Response:
            if (answer := ask(url)).status_code == HTTPStatus.NOT_FOUND and self._adapter:
                self._load(url, self.model, self._adapter)
                return ask(url)
            return answer

        return self._read(*self._ask(ask_anew, None, patience), sampling)

    def _body(
        self, prompt: Prompt, sampling: Sampling, seed: int, alike: int = 0
    ) -> dict[str, Any]:
        """A request; `alike`: how many other tokens are told for each one."""
        body = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed % SEEDS,
            **(NEUTRAL if self._ways[0].neutral else {}),
        }
        if self._ways[0].prompt != "chat":
            if self.tokenizer is not None and isinstance(prompt, str):
                [prompt] = map(tuple, encode_prompts(self.tokenizer, [prompt]))
            return {**body, "prompt": prompt, "logprobs": max(1, alike)}
        more = {"top_logprobs": alike} if alike else {}
        messages = [{"role": "user", "content": prompt}]
        return {**body, "messages": messages, "logprobs": True, **more}

    def _read(self, answer: dict[str, Any], url: str, sampling: Sampling) -> Completion:
        """Parse an answer. Raises ComponentFailure unless it is a completion by `self.model`."""
        answering = str(answer.get("model"))
        if self.model not in (answering, answering.rpartition("@")[0]):  # may be name@revision
            raise ComponentFailure(
                f"the server {url} answered as model {answering!r}, asked was "
                f"{self.model!r}; its completions would be recorded under the wrong name"
            )
        try:
            choice = answer["choices"][0]
            answered = said(choice)
            known = None if self.tokenizer is None else len(self.tokenizer)
            finish, written, ids = ended(answer, choice, answered, sampling.max_new_tokens, known)
            if self._ways[0].prompt == "ids" and not ids:
                raise TypeError("it has no token ids")
        except BROKEN as error:
            raise ComponentFailure(
                f"the server {url} answered what is no completion ({error!r}): "
                f"{self._without_key(str(answer)[:200])}"
            ) from error
        text, reasoning = answered.text, until_end(answered.tokens)
        if self.tokenizer is not None:
            text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
            reasoning = reasoning_tokens(self.tokenizer, ids)
        # A sum over only some of the tokens would be wrong, so it is None.
        each = answered.logprobs
        logprob = sum(each) if each and len(each) == written else None
        # Without the neutral fields, settings of the server's own may change what is drawn.
        exact = as_drawn(sampling) and self._ways[0].neutral
        sampled = logprob if exact or self._processed else None
        if sampling.temperature < GREEDY:  # the likeliest token is certain, whatever is told
            sampled = 0.0 if self._ways[0].neutral else None
        return Completion(
            text,
            finish,
            ids,
            logprob if as_drawn(sampling) or self._processed is False else None,
            sampled,
            tokens=written,
            reasoning_tokens=min(reasoning, written),
        )

    def _listed(self, url: str, patience: float | None = None) -> list[str]:
        return models_in(self._ask(lambda one: self.client.get(one + "/models"), url, patience)[0])

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _streamed(self, url: str, body: dict[str, Any], heard: Heard) -> httpx.Response:
        """A request whose answer is read while it is written; then as if it had come at once."""
        with self.client.stream("POST", url + self._path, json={**body, **ASKED}) as answer:
            if answer.is_error:
                answer.read()
                return answer
            try:
                return answer_of(answer.iter_lines(), url, heard, body["max_tokens"])
            except ComponentFailure as error:
                raise ComponentFailure(self._without_key(str(error))) from error

    def _post(
        self, url: str, path: str, body: dict[str, Any], refused: bool = False
    ) -> dict[str, Any]:
        return self._ask(lambda one: self.client.post(one + path, json=body), url, None, refused)[0]

    def _ask(
        self, request: Callable[[str], httpx.Response], server: str | None,
        patience: float | None = None, refused: bool = False,
    ) -> tuple[dict[str, Any], str]:  # fmt: skip
        """The answer of a server, or of any, and its URL: asked again with backoff while it fails.
        `refused`: whether an error of the server's own is a refusal, which asking again would not
        change.
        """
        import httpx

        patience = self.patience if patience is None else patience
        begun, tries, wait, said = time.monotonic(), 0, self.pause, False
        while True:
            tries += 1
            try:
                with self._servers.turn(server) as url:
                    answer = request(url)
            except httpx.RequestError as error:
                is_away = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                wrong = f"{type(error).__name__}: {error}"
            else:
                is_away = answer.status_code in OVERLOADED
                busy = is_away or (answer.is_server_error and not refused)
                if answer.is_error and not busy:
                    raise refusal(answer.status_code)(
                        f"the server {url} refused a request, status {answer.status_code}: "
                        f"{self._without_key(answer.text[:500])}"
                    )
                if not busy:
                    return json_of(answer, url), url
                wrong = f"status {answer.status_code}: {self._without_key(answer.text[:200])}"
            there_is_another = self._servers.fail(url) and server is None
            waited = time.monotonic() - begun
            if waited >= patience and tries > 1:
                several = server is None and len(self._servers.urls) > 1
                who = "every server, and at last " if several else ""
                raise (Unavailable if is_away else ComponentFailure)(
                    f"{who}the server {url} has failed for {waited:.0f} seconds, last with "
                    f"{wrong}; see that it runs, then run the same command again"
                )
            if waited > QUIETLY and not said:
                said = True
                LOG.warning("waiting up to %.0f s for the server %s: %s", patience, url, wrong)
            if not there_is_another:
                time.sleep(wait)
                wait = min(SLOWEST, 2 * wait)
