"""Tasks of a domain of Posterity, and the checker's verdict on the last reply as the reward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import verifiers.v1 as vf

from planners import Verdict, judge, pose


@lru_cache(maxsize=1024)
def judged(domain: str, problem: str, text: str) -> Verdict:
    """The checker's verdict on a reply, for reward and metric. Raises NotJudged, with which the
    rollout fails: a reward of 0 would teach that the plan is wrong.
    """
    return judge(domain, problem, text)


class PlanningData(vf.TaskData):
    """A planning task in PDDL, and its grade."""

    domain_pddl: str
    problem_pddl: str
    size: int
    horizon: int


class PlanningTask(vf.Task[PlanningData]):
    """Find a plan: reward 1 if the plan in the last reply is valid, else 0."""

    @vf.reward(weight=1.0)
    async def valid(self, trace: vf.Trace) -> float:
        verdict = judged(self.data.domain_pddl, self.data.problem_pddl, trace.last_reply)
        return float(verdict.valid)

    @vf.metric
    async def actions(self, trace: vf.Trace) -> float:
        """Actions of a valid plan at unit cost; -1 without one."""
        verdict = judged(self.data.domain_pddl, self.data.problem_pddl, trace.last_reply)
        return -1.0 if not verdict.valid or verdict.cost is None else float(verdict.cost)


class PlanningConfig(vf.TasksetConfig):
    """Which tasks: what sizes and horizons count is said by `planners.DOMAINS`."""

    domain: str = "blocksworld"
    count: int = 100
    sizes: tuple[int, int] = (3, 6)
    horizons: tuple[int, int] = (2, 8)
    seed: int = 0


class PlanningTaskset(vf.Taskset[PlanningTask, PlanningConfig]):
    """New tasks of one domain, no two alike up to their objects' names."""

    def load(self) -> Iterator[PlanningTask]:
        c = self.config
        for one in pose(c.domain, c.count, c.sizes, c.horizons, c.seed):
            data = PlanningData(
                prompt=one.prompt, domain_pddl=one.domain, problem_pddl=one.problem,
                size=one.size, horizon=one.horizon,
            )  # fmt: skip
            yield PlanningTask(data, c.task)
