"""How likely each token of a trace was under the weights that wrote it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from flows.audit.known import experiments
from flows.generations.checkpoints import checkpoint_of, loaded, use_machine
from planners.errors import InvalidInput
from planners.models.likelihood import own_tokens, token_logprobs
from planners.policies.local import LocalPolicy
from planners.prompts.formats import READABLE
from warehouse.records import Request, Trace
from warehouse.store import Warehouse

ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Token:
    """A token's text, and its log-probability in nats given the prompt and the tokens before."""

    text: str
    logprob: float


def tokens_of(warehouse: Warehouse, trace: Trace) -> list[Token]:
    """The tokens of a trace that its model wrote, measured with the weights of its generation.
    Raises InvalidInput where they are not known: for traces made elsewhere, and experiments of
    another version.
    """
    known = {one.id: one for one in experiments(warehouse)[0]}
    if trace.generation < 0 or trace.experiment not in known or not trace.token_ids:
        raise InvalidInput(
            f"the tokens of trace {trace.id} cannot be measured: it was made elsewhere, or by "
            "another version of Posterity"
        )
    experiment, task = known[trace.experiment], warehouse.task(trace.task)
    assert task is not None
    asked = warehouse.every(Request, trace=trace.id)
    if asked and trace.prompt_format not in READABLE:
        prompt = asked[0].prompt
    elif trace.prompt_format in READABLE:
        prompt = READABLE[trace.prompt_format].write(task.parsed)
    else:
        raise InvalidInput(f"the prompt format {trace.prompt_format!r} is not known here")
    with ONE_AT_A_TIME:
        use_machine(experiment)
        checkpoint = checkpoint_of(warehouse, experiment, trace.generation)
        model, tokenizer = loaded(checkpoint)
        [head] = LocalPolicy(model, tokenizer).encode([prompt], 0)
        row = own_tokens(trace.token_ids, trace.turn_tokens)
        found = token_logprobs(model, (head, row))
    texts = [tokenizer.decode([token]) for token in row if token >= 0]
    return [Token(text, logprob) for text, logprob in zip(texts, found, strict=True)]
