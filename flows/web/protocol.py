"""The bodies of requests and errors, and answers: completions, planning and feedback."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from planners.domains import pddl_of
from planners.errors import InvalidInput
from planners.pddl import read_domain
from planners.records import SEEDS, Completion, Plan, Sampling, Verdict


def _or(default: Any) -> BeforeValidator:
    """Takes null for the default, as OpenAI's API does."""
    return BeforeValidator(lambda value: default if value is None else value)


def _storable(told: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(told, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no text") from None
    return told


LONGEST = 256 * 1024
"""Characters of a prompt."""
Text = Annotated[str, Field(max_length=LONGEST)]
Named = Annotated[str, Field(min_length=1, max_length=256)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=256)]
Fact = Annotated[list[Word], Field(min_length=1, max_length=64)]
Metadata = Annotated[
    dict[Named, str | int | Finite | bool | None], Field(max_length=16), AfterValidator(_storable)
]
Count = Annotated[int, Field(gt=0, strict=True)]


class StreamOptions(BaseModel):
    """How a stream ends: with `include_usage`, by a piece that says how many tokens it took."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    include_usage: bool = False


class Asked(BaseModel):
    """The settings of every request. Clients of OpenAI's API send many; one that is not known here
    is refused rather than ignored, unless it is at its neutral value.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    model: Named
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    n: Annotated[int, _or(1), Field(ge=1, le=64, strict=True)] = 1
    seed: Annotated[int, Field(ge=0, lt=SEEDS, strict=True)] | None = None
    stream: Annotated[bool, _or(False), Field(strict=True)] = False
    stream_options: StreamOptions | None = None
    user: Named | None = None
    session: Named | None = None
    metadata: Metadata | None = None

    def sampling(self, default: Sampling, most: int | None) -> Sampling:
        """How to sample: as asked, else as the experiment deploys."""
        return Sampling(
            temperature=default.temperature if self.temperature is None else self.temperature,
            top_p=default.top_p if self.top_p is None else self.top_p,
            max_new_tokens=most or default.max_new_tokens,
        )

    def require_known(self) -> None:
        """Raise InvalidInput where a setting would change the answer and is not known here."""
        for name, value in (self.model_extra or {}).items():
            if not any(_same(value, one) for one in NEUTRAL.get(name, (None,))):
                raise InvalidInput(f"the setting {name!r} is not supported; leave it out")


def _same(value: Any, other: Any) -> bool:
    """Whether two JSON values are the same: to Python 0 is False."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0), "presence_penalty": (None, 0), "logprobs": (None, False),
    "echo": (None, False), "best_of": (None, 1), "stop": (None, [], ""), "logit_bias": (None, {}),
    "store": (None, False, True), "suffix": (None, ""),
    "response_format": (None, {"type": "text"}), "tools": (None, []),
    "tool_choice": (None, "none", "auto"), "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True, False), "service_tier": (None, "auto", "default"),
}  # fmt: skip
"""Settings of OpenAI's API that are accepted at values which change nothing."""


class Part(BaseModel):
    """A part of a message; only text is known."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=64)]

    @property
    def text(self) -> str:
        """Its text, with all parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class Chat(Asked):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None

    @model_validator(mode="after")
    def no_longer_than_may(self) -> Self:
        """Raise ValueError where all messages together are longer than one may be."""
        if (length := len(self.prompt)) > LONGEST:
            raise ValueError(f"messages of {length} characters, of which {LONGEST} may be")
        return self

    @property
    def prompt(self) -> str:
        """The messages as one prompt: a lone user message as it is, several with their roles."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n\n".join(f"{one.role}: {one.text}" for one in self.messages)

    @property
    def most(self) -> int | None:
        """Tokens of the answer, at most."""
        return self.max_completion_tokens or self.max_tokens


class Completing(Asked):
    """The body of /v1/completions."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    max_tokens: Count | None = None

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class Posed(BaseModel):
    """A problem as JSON: its objects, with their types where the domain has some, and the atoms
    that hold at first and in the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    objects: dict[Word, Word] | list[Word]
    init: list[Fact]
    goal: list[Fact]

    def pddl(self, domain: str) -> str:
        """The same in PDDL, for a domain of this name."""
        typed = self.objects.items() if isinstance(self.objects, dict) else ()
        objects = [f"{name} - {kind}" for name, kind in typed] or list(self.objects)
        init, goal = (" ".join(f"({' '.join(fact)})" for fact in part)
                      for part in (self.init, self.goal))  # fmt: skip
        return (
            f"(define (problem posed) (:domain {domain}) (:objects {' '.join(objects)}) "
            f"(:init {init}) (:goal (and {goal})))"
        )


class Planning(Asked):
    """The body of /v1/plans: a domain (PDDL, or a built-in one's name), and a problem in PDDL or as
    JSON.

    At most `attempts` plans are sampled, until the checker calls one valid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: Text
    problem: Text | Posed
    attempts: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    n: Literal[1] = 1
    stream: Literal[False] = False
    max_tokens: Count | None = None

    @property
    def texts(self) -> tuple[str, str]:
        """The PDDL of domain and problem. Raises InvalidInput if the domain is wrong."""
        domain = pddl_of(self.domain)
        if isinstance(self.problem, str):
            return domain, self.problem
        return domain, self.problem.pddl(read_domain(domain).name)


class Judged(BaseModel):
    """The body of /v1/feedback: what a user says of an answer, by the id of its trace.

    `plan` is the plan that the user would have wanted, which makes a trace of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    feedback: Literal["accept", "reject"]
    score: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = None
    comment: Annotated[str, Field(max_length=8192)] | None = None
    plan: Text | None = None
    user: Named | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """An answer as it was written down."""

    trace: str
    completion: Completion
    generation: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Planned:
    """All answers to a planning request, with plan and verdict of the last one, or why it could not
    be judged.
    """

    given: list[Given]
    plan: Plan | None
    verdict: Verdict | None
    unjudged: str = ""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A user's correction: its trace, and the checker's word on it, or why there is none."""

    trace: str
    verdict: Verdict | None
    unjudged: str = ""


def error_body(message: str, kind: str, code: str | None = None, where: str | None = None) -> Any:
    """An error as OpenAI's API tells it."""
    return {"error": {"message": message, "type": kind, "param": where, "code": code}}


def judged(verdict: Verdict | None, unjudged: str = "") -> Any:
    """A verdict in an answer, or why there is none."""
    if verdict is None:
        return {"valid": None, "outcome": None, "step": None, "explanation": unjudged}
    return {
        "valid": verdict.valid, "outcome": verdict.outcome.value, "step": verdict.step,
        "explanation": verdict.detail,
    }  # fmt: skip
