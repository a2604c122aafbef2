"""An experiment: everything that determines a run, frozen, checked and hashed.

Unknown keys and mistyped values are refused with their path.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from curation.curators import CURATORS
from curation.own import code_of
from flows.experiments.tables import (
    Audit,
    Curation,
    Deployment,
    Drawing,
    Judging,
    Model,
    Seed,
    Table,
    Tasks,
    WarmUp,
    Workers,
)
from planners.checking.checker import PLAN_SECONDS
from planners.records import content_hash
from planners.training.settings import Training

BESIDES: Any = {
    "name": True, "generations": True, "audit": True, "promote": True, "workers": True,
    "model": {"server": True, "device": True},
    "deployment": {"fewest": True, "candidate": True, "patience": True, "shadow": True},
    "tracking": True,
}  # fmt: skip
"""Settings that do not determine a run's contents; they are left out of its hash."""
ADDED_LATER: dict[str, dict[str, object]] = {
    "deploy": {"max_tool_calls": 0},
    "evaluate": {"max_tool_calls": 0},
    "model": {"policy": "local", "dtype": "auto"},
    "tasks": {"fresh": False, "curriculum": False},
    "judging": {"timeout": PLAN_SECONDS},
    "training": {"checkpointing": False, "validation": 0.0, "method": "sft", "processes": 1},
}
"""Settings added after the first experiments were begun, each with its default. At its default a
setting is left out of the hash, so that older experiments keep theirs. A new setting belongs here,
or is None when not given.
"""


class Experiment(Table):
    """The settings of one run. Without a `name` it has that of its file or preset. `generations`
    says how far it goes, `promote` on what condition, `workers` who does the work, and `tracking`
    which experiment trackers are told its figures: these are no part of its identity.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=100)]
    seed: Seed = 0
    generations: Annotated[int, Field(ge=0, le=10_000)] = 5
    tasks: Tasks
    model: Model = Model()
    warmup: WarmUp | None = None
    deploy: Drawing
    evaluate: Drawing
    judging: Judging = Judging()
    curation: Curation = Curation()
    training: Training = Training()
    audit: Audit = Audit()
    promote: Literal["always", "if-better", "if-audited", "if-preferred"] = "always"
    deployment: Deployment | None = None
    workers: Workers | None = None
    tracking: tuple[Literal["mlflow", "wandb", "trackio", "tensorboard"], ...] = ()

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """An experiment from dictionaries, read as JSON, in which a table is an object."""
        return cls.model_validate_json(json.dumps(obj, default=str), **how)

    @model_validator(mode="after")
    def _promotable(self) -> Experiment:
        if self.promote == "if-better" and self.evaluate.samples < 2:
            raise ValueError(
                "promote = 'if-better' needs evaluate.samples of at least 2: an interval over seeds"
            )
        if self.promote == "if-better" and self.evaluate.temperature == 0:
            raise ValueError(
                "promote = 'if-better' needs evaluate.temperature above 0: at 0 all samples are "
                "equal, and tell nothing of chance"
            )
        heldout = [one.heldout for one in self.tasks.grades.values() if one.heldout is not None]
        if self.promote == "if-better" and not (heldout or self.tasks.folder):
            raise ValueError("promote = 'if-better' needs held-out tasks: set tasks.heldout")
        if self.promote == "if-preferred" and not (self.deployment and self.deployment.candidate):
            raise ValueError(
                "promote = 'if-preferred' needs deployment.candidate above 0: users compare"
            )
        if self.promote == "if-audited" and not self.audit.bounds:
            raise ValueError(
                "promote = 'if-audited' needs a bound, for example audit.max_length_drift = 2"
            )
        return self

    @model_validator(mode="after")
    def _teachable(self) -> Experiment:
        model, training = self.model, self.training
        if not model.learns and self.deploy.max_tool_calls + self.evaluate.max_tool_calls:
            raise ValueError(f"a {model.policy} policy calls no tool: set max_tool_calls = 0")
        if self.generations and not model.learns:
            raise ValueError(f"a {model.policy} policy learns nothing: set generations = 0")
        curator = CURATORS.get(self.curation.curator)
        heard = self.curation.sources or self.deployment
        if curator is not None and curator.needs == "sources" and not heard:
            raise ValueError(
                f"curator {curator.name!r} needs curation.sources or deployment: it learns what "
                "users accepted"
            )
        if self.warmup and (not model.learns or self.tasks.folder or model.policy != "local"):
            raise ValueError(
                "warmup is for a local model (model.policy = 'local') and generated tasks, since "
                "its plans come from the domains' generators"
            )
        server = model.server
        if self.generations and server and not (server.command or server.adapters):
            raise ValueError(
                "a running server holds the base alone: set model.server.adapters where it loads "
                "adapters, model.server.command, or generations = 0"
            )
        if server and server.adapters and training.lora is None:
            raise ValueError(
                "model.server.adapters needs training.lora: the server loads LoRA adapters"
            )
        if (training.method != "sft") != (self.curation.curator == "rollouts"):
            raise ValueError(
                "training.method = 'reinforce' or 'nft' and curation.curator = 'rollouts' go "
                "together: the method weighs traces by the advantage that this curator computes"
            )
        return self

    @model_validator(mode="after")
    def _crossed(self) -> Experiment:
        seeds = self.curation.crossing
        if seeds is None:
            return self
        if len(seeds) < 2 or self.seed not in seeds or sorted({*seeds}) != [*seeds]:
            raise ValueError(
                f"curation.crossing = {[*seeds]}: name two or more seeds, each once, in ascending "
                f"order, this run's own ({self.seed}) among them"
            )
        if self.deployment is not None:
            raise ValueError("curation.crossing is for runs without [deployment]: leave one out")
        return self

    @property
    def hash(self) -> str:
        """Hash of all that determines the run's contents: not its name, nor how far it goes."""
        return content_hash(self.canonical(), length=12)

    @property
    def has_base(self) -> bool:
        """Whether the weights of the base are here. Where nothing is trained, a running server may
        be the only one that has them.
        """
        server = self.model.server
        return server is None or bool(server.command or server.adapters or self.generations)

    @property
    def users_alone(self) -> bool:
        """Whether generations learn from users alone, and no tasks of our own are put to work."""
        return self.deployment is not None and self.deployment.alone

    @property
    def id(self) -> str:
        """Name and hash: what the warehouse calls this experiment."""
        return f"{self.name}-{self.hash}"

    def canonical(self) -> str:
        """The settings as canonical JSON, without those that are in BESIDES, not given, or in
        ADDED_LATER and at their default.
        """
        content = self.model_dump(mode="json", exclude=BESIDES, exclude_none=True)
        for table, defaults in ADDED_LATER.items():
            for name, default in defaults.items():
                if content[table].get(name) == default:
                    del content[table][name]
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def besides(self) -> dict[str, Any]:
        """The settings outside the hash, except the name and those of model and deployment."""
        return self.model_dump(mode="json", include=set(BESIDES) - {"name", "model", "deployment"})

    def crossed(self) -> list[Experiment]:
        """The other runs that learn this one's traces, and whose traces it learns."""
        others = [seed for seed in self.curation.crossing or () if seed != self.seed]
        return [self.model_copy(update={"seed": seed}) for seed in others]

    def matched(self) -> Experiment | None:
        """The experiment whose number of kept traces this one matches; None if it matches none."""
        if self.curation.match is None:
            return None
        name = self.curation.match
        code = code_of(name) if ":" in name else None
        needs = CURATORS[name].needs if name in CURATORS else None
        own = {one: None for one in ("error_rate", "taste") if one != needs}
        curation = self.curation.model_copy(
            update={"curator": name, "match": None, "code": code, **own}
        )
        return self.model_copy(update={"curation": curation})
