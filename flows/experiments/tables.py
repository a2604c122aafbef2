"""The tables of an experiment's settings: frozen, checked, and explained.

Sampling and fine-tuning declare their settings themselves, in `planners.records` and
`planners.training.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.curators import CURATORS
from planners.checking.checker import PLAN_SECONDS
from planners.checking.referees import REFEREES
from planners.domains import DOMAINS
from planners.domains.folder import SPLITS
from planners.errors import unknown
from planners.models.hardware import Device, Dtype
from planners.policies.validating import room_of
from planners.prompts.formats import PROMPTS
from planners.records import Sampling

Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Range = Annotated[tuple[Positive, Positive], Field(strict=False)]
"""Lowest and highest, both included."""


def _one_of(value: str, known: Any, what: str) -> None:
    if value not in known:
        raise ValueError(unknown(what, value, sorted(known)))


def _require_ordered(name: str, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if low > high:
        raise ValueError(f"{name} runs from {low} to {high}: the first must not exceed the second")


class Table(BaseModel):
    """A table of the configuration: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Split(Table):
    """A set of tasks: how many, and the ranges their sizes and horizons are drawn from."""

    count: Annotated[int, Field(gt=0, le=1_000_000)]
    sizes: Range
    horizons: Range

    @model_validator(mode="after")
    def _ordered(self) -> Split:
        for name in ("sizes", "horizons"):
            _require_ordered(name, getattr(self, name))
        return self


class Grades(Table):
    """The tasks to generate for one domain. `train` is deployed and learned from; the other splits
    are for measuring only.
    """

    train: Split | None = None
    heldout: Split | None = None
    larger: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that are set, by name."""
        found = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in found.items() if split is not None}

    @model_validator(mode="after")
    def _larger_is_larger(self) -> Grades:
        if self.train and self.larger and self.larger.sizes[0] <= self.train.sizes[1]:
            raise ValueError(
                f"larger.sizes must begin above the largest trained size, {self.train.sizes[1]}"
            )
        return self


class Tasks(Grades):
    """The tasks of a run: of one built-in `domain`, of several (`domains.NAME.train` and so on), or
    of a `folder` with a domain and problems (`planners.domains.folder`). The hash of a folder's
    `contents` is part of the experiment, and `domain` is then the name in its domain file.

    `fresh`: generation 0 is put to work on the training tasks, and each later one on as many new
    ones. All are measured on the training tasks. `curriculum`: half of the new tasks are drawn
    where they teach most: at a horizon with a share p of valid samples, in proportion to p (1 - p).
    """

    domain: str | None = None
    domains: dict[str, Grades] | None = None
    folder: str | None = None
    contents: str | None = None
    fresh: bool = False
    curriculum: bool = False

    @property
    def grades(self) -> dict[str, Grades]:
        """The splits of each domain, by its name: in alphabetical order, as in the hash."""
        return dict(sorted((self.domains or {self.domain or "": self}).items()))

    @model_validator(mode="after")
    def _known(self) -> Tasks:
        if self.curriculum and not self.fresh:
            raise ValueError("curriculum chooses among fresh tasks: set fresh = true")
        if self.fresh and self.folder is not None:
            raise ValueError(
                "fresh tasks come from a domain's generator, and a folder has none: write more "
                "problems into it, or set fresh = false"
            )
        if self.folder is not None:
            return self
        if self.domains and (self.domain is not None or self.splits):
            raise ValueError(
                "tasks are of one domain with its splits, or of domains.NAME, not both"
            )
        for domain, grades in self.grades.items():
            if not domain or grades.train is None:
                raise ValueError(
                    "name a domain and a train split, domains.NAME.train, or a folder with tasks "
                    "of your own"
                )
            _one_of(domain, DOMAINS, "domain")
        return self


class Server(Table):
    """Where a served model answers: at `urls` (of the API, with /v1), or at a server that `command`
    starts for each generation (with its folder for `{checkpoint}` and a port for `{port}`).
    `model`: the base's name there, by default model.base. `adapters`: load each generation's
    adapter into the running servers, as vLLM can. `concurrency`: requests to each at once.

    Seconds: `start_up`, until a server must be ready; `patience`, that one may fail before a stage
    does; `timeout`, for an answer. `remeasured`: completions per stage whose log-probabilities are
    computed again with the generation's own weights before any trace is kept, 0 for none; they may
    differ by `tolerance` nats a token (0.001 where server and training calculate in float32).
    """

    urls: Annotated[tuple[str, ...], Field(strict=False)] = ()
    command: str | None = None
    model: str | None = None
    adapters: bool = False
    concurrency: Positive = 16
    start_up: Annotated[float, Field(gt=0)] = 600.0
    patience: Annotated[float, Field(gt=0)] = 60.0
    timeout: Annotated[float, Field(gt=0)] = 600.0
    remeasured: Annotated[int, Field(ge=0)] = 16
    tolerance: Annotated[float, Field(gt=0)] = 0.02

    @model_validator(mode="after")
    def _somewhere(self) -> Server:
        if bool(self.urls) == bool(self.command):
            raise ValueError(
                "name the running servers (urls = ['http://127.0.0.1:8000/v1']) or the command "
                "that starts one, not both"
            )
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"the URL {url!r} begins with neither http:// nor https://")
            if "@" in url.partition("://")[2].partition("/")[0]:
                raise ValueError(
                    "a server's URL has no user and password; its key is read from "
                    "POSTERITY_API_KEY"
                )
        return self


class Model(Table):
    """The model that plans, its prompt format, and how it is run. `base`: the embedded one, a
    checkpoint folder, a GGUF file, `package:NAME/FILE` for one in a Python package, or a hub id.

    `policy`: "local" is a model in this process, "served" one behind a `server`, which is not part
    of what determines a run. Two learn nothing: "planner" (a classical baseline with `seconds` per
    task) and "scripted" (base is a file of JSON Lines).

    `batch`: completions that are drawn together. `threads`: of the CPU; 0: one per core, 8 at most.
    `device` and `dtype` are of a local model. "auto" is a GPU where there is one, with the type of
    the stored weights; on a CPU it is float32. The dtype "fastest" is bfloat16 on a GPU, and on a
    CPU that has instructions for it.
    """

    base: str = "embedded"
    prompt: str = "compact"
    batch: Positive = 256
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    device: Device = "auto"
    dtype: Dtype = "auto"
    policy: Literal["local", "served", "planner", "scripted"] = "local"
    server: Server | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _known(self) -> Model:
        _one_of(self.prompt, PROMPTS, "prompt")
        if self.server is not None and self.policy != "served":
            raise ValueError("model.server is for policy = 'served'")
        if (self.policy == "planner") != (self.prompt == "task"):
            raise ValueError(
                "policy = 'planner' and prompt = 'task' go together: planners read PDDL alone"
            )
        return self

    @property
    def learns(self) -> bool:
        """Whether there are weights to train."""
        return self.policy in ("local", "served")


class WarmUp(Table):
    """A pretrained language model that samples no valid plan first learns what one looks like:
    generation 0 is the base after `steps` of `batch` generated tasks, each with an optimal plan.

    Tasks have `sizes` between two bounds; `shares` are the relative frequencies of horizons 1, 2
    and so on. `calls`: the share of lessons that first call the tool `validate`, half of them with
    a broken plan, which is read and not learned. None is a task of any split, even with its objects
    renamed. All weights are trained, on prompts without a chat template.
    """

    sizes: Range
    shares: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1, strict=False)]
    steps: Positive
    batch: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    calls: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _drawable(self) -> WarmUp:
        _require_ordered("sizes", self.sizes)
        if not sum(self.shares):
            raise ValueError("shares are all 0: give a horizon a share, for example [0.5, 0.5]")
        return self


@dataclass(frozen=True, kw_only=True)
class Drawing(Sampling):
    """How completions are drawn, and how many per task. `max_tool_calls`: how often each may ask
    the plan checker about a plan before it answers, by the tool `validate`. Each turn then has
    `max_new_tokens`.
    """

    samples: Annotated[int, Field(gt=0, le=100_000)]
    max_tool_calls: Annotated[int, Field(ge=0)] = 0

    @property
    def room(self) -> int:
        """The most tokens that a completion may have, in all its turns."""
        return room_of(self.max_new_tokens, self.max_tool_calls)


class Curation(Table):
    """Which traces are kept. `curator`: a built-in one, or your own function `package.module:name`,
    whose file's hash is then part of the experiment (`code`). `sources`: ingested traces that join
    the pool. `match`: keep as many traces as the same experiment did under that curator.
    `crossing`: the seeds of runs of this experiment that learn each other's traces. `error_rate` is
    for the curator noisy, `taste` (a word) for preference.
    """

    curator: str = "shortest"
    replay: Literal["all", "last"] | Positive = "all"
    sources: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    match: str | None = None
    crossing: Annotated[tuple[Seed, ...], Field(strict=False)] | None = None
    code: str | None = None
    error_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    taste: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _known(self) -> Curation:
        for name in (self.curator, self.match or self.curator):
            if ":" in name:  # a user's function: `reading` looks it up
                continue
            _one_of(name, CURATORS, "curator")
            needs = CURATORS[name].needs
            if needs not in (None, "sources") and getattr(self, needs) is None:
                raise ValueError(f"curator {name!r} needs curation.{needs}")
        return self


class Deployment(Table):
    """The answers that `posterity deploy` gives to users may be learned from, with their feedback.

    `alone`: no tasks of our own are put to work, so that a generation learns from users alone.
    `fewest`: their traces since the last generation, before the next one is made. `candidate`: the
    share of sessions that the newest generation answers while it is not promoted. `patience`: its
    sessions with feedback after which promote = "if-preferred" gives up on it. `shadow`: the share
    of requests that the newest generation answers too while it is not promoted; nobody sees that.
    """

    alone: bool = False
    fewest: Positive = 100
    candidate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Positive = 2000
    shadow: Annotated[float, Field(ge=0, le=1)] = 0.0


class Judging(Table):
    """Judging: a plan gets `timeout` seconds, after which its trace is not judged, rather than
    invalid. Second opinions: which referees see the first `traces` plans of each deployment. Of the
    valid ones as many are replayed naively, and a dispute stops the run.
    """

    timeout: Annotated[float, Field(gt=0)] = PLAN_SECONDS
    referees: tuple[str, ...] = Field(default=(), strict=False)
    traces: Positive = 200

    @model_validator(mode="after")
    def _known(self) -> Judging:
        for name in self.referees:
            _one_of(name, REFEREES, "referee")
        return self


class Workers(Table):
    """Workers that sample and judge instead of this process: `count` of them on this machine, or
    those of the cluster at `address`, about `count`. They need a shared folder.
    """

    runner: Literal["dask", "ray"] = "dask"
    count: Positive = 2
    address: str | None = None


class Audit(Table):
    """Settings of `posterity audit`: more `traits`, each a SQL expression over a trace; how many
    traces a curator's gradient is taken from, at most (`gradient_traces`); and bounds. If one is
    broken, it exits with 1. They are on the odds ratio of a trait that the curator does not declare
    (or its inverse), on the effective sample size as a share of the learned traces, on the change
    of the mean plan in one generation, in actions, on the share of valid plans that a referee
    calls invalid, and on the KL divergence, in nats per trace, between the sampler and the weights
    that are trained.
    """

    traits: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")], str] = {}
    gradient_traces: Positive = 300
    max_undeclared_odds_ratio: Annotated[float, Field(ge=1)] | None = None
    min_ess: Annotated[float, Field(ge=0, le=1)] | None = None
    max_length_drift: Annotated[float, Field(ge=0)] | None = None
    max_disputed: Annotated[float, Field(ge=0, le=1)] | None = None
    max_mismatch: Annotated[float, Field(ge=0)] | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set."""
        return self.model_dump(exclude={"traits", "gradient_traces"}, exclude_none=True)
