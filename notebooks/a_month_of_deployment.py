# %% [markdown]
# # A month of deployment in minutes
#
# A planner is put before users. They send tasks of their own, and accept or reject the plans. Every
# Monday at three a schedule makes the next generation from what they accepted, which answers from
# then on. Nobody writes a reward, and no task of ours is put to work: the preset `deployed` learns
# from users alone.
#
# Users have tastes. Most are careful: they accept a plan if it works. One in three is hasty: any
# short plan will do, and a long one will not. (Set NO_TASTES=1, and all are careful.)
#
# The users here are simulated; the gateway, its API, the client, the schedule and the generations
# are real.

# %%
import atexit
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import httpx
import openai

from flows import load_experiment
from planners.domains.task_sets import fresh_tasks
from planners.pddl.printing import print_problem
from warehouse import Warehouse

few = "A_FEW" in os.environ  # so that a test takes a minute
weeks, tasks, attempts = (1, 40, 2) if few else (5, 1500, 8)
short = 6  # actions of a plan that a hasty user accepts
seed, tastes = int(os.environ.get("SEED", "0")), "NO_TASTES" not in os.environ
easy = [f"tasks.{split}.{what}" for split, what in (
    ("train", "sizes=[3,5]"), ("heldout", "sizes=[3,5]"), ("train", "horizons=[1,2]"),
    ("heldout", "horizons=[1,2]"), ("train", "count=10"), ("heldout", "count=10"),
    ("larger", "count=5"),
)]  # fmt: skip
changes = [f"seed={seed}", f"generations={weeks}"]
changes += ["deployment.fewest=20", "training.steps=10", *easy] if few else []
options = [word for change in changes for word in ("--set", change)]
folder = Path(mkdtemp())
warehouse = folder / "month.duckdb"
os.environ["PREFECT_HOME"] = str(folder / "prefect")


def posterity(*words: str) -> list[str]:
    """The command line of a command of posterity on this warehouse."""
    return [sys.executable, "-m", "flows", *words, "--warehouse", str(warehouse), *options]


def begin(says: str, *words: str) -> tuple[subprocess.Popen, str]:
    """Start a command that stays until it is stopped; gives it, and the address that it says."""
    process = subprocess.Popen(posterity(*words), stdout=subprocess.PIPE, text=True)
    atexit.register(process.terminate)  # also where a cell fails
    return process, next(found[1] for line in process.stdout if (found := re.search(says, line)))


# %% [markdown]
# ## The schedule
#
# `posterity serve` makes a generation at each firing. We do not wait for Monday: a firing is begun
# as the button *Run* of Prefect's pages begins it. The first one measures the base, on tasks of its
# own.

# %%
schedule, pages = begin(r"pages: (\S+)", "serve", "deployed", "--cron", "0 3 * * 1", "--port", "0")


def monday() -> str:
    """What a firing says, once it is over."""
    with httpx.Client(base_url=f"{pages}/api", timeout=60) as prefect:
        while not (schedules := prefect.post("/deployments/filter", json={}).json()):
            time.sleep(1)
        now = {"state": {"type": "SCHEDULED"}}
        path = f"/deployments/{schedules[0]['id']}/create_flow_run"
        firing = prefect.post(path, json=now).raise_for_status().json()
        while firing["state_type"] in ("SCHEDULED", "PENDING", "RUNNING"):
            time.sleep(1)
            firing = prefect.get(f"/flow_runs/{firing['id']}").json()
        return firing["state"]["message"]


print(monday())

# %% [markdown]
# ## Users
#
# Each week they bring new tasks. A user asks for a plan, lets the gateway try a few times, and says
# whether the plan was any good. One in five says nothing. The application around the gateway knows
# its users, and names the group of each in the request's metadata.

# %%
split = load_experiment("deployed", changes).tasks.train
stream = fresh_tasks("blocksworld", split.sizes, split.horizons, Random(f"users {seed}"))


def ask(client: openai.OpenAI, number: int, problem: str) -> bool:
    """Whether a user got a plan that works."""
    user, is_hasty = f"user {number % 50}", tastes and number % 50 % 3 == 0
    body = {
        "model": "deployed", "domain": "blocksworld", "problem": problem, "attempts": attempts,
        "user": user, "session": user, "metadata": {"group": "hasty" if is_hasty else "careful"},
    }  # fmt: skip
    plan = client.post("/plans", body=body, cast_to=object)
    likes = 0 < len(plan["plan"] or ()) <= short if is_hasty else plan["valid"]
    if number % 5:
        said = {"trace": plan["trace"], "feedback": "accept" if likes else "reject"}
        client.post("/feedback", body={**said, "user": user}, cast_to=object)
    return plan["valid"]


def a_week(url: str) -> float:
    """The share of a week's users who got a plan that works."""
    problems = [print_problem(task.problem) for task in islice(stream, tasks)]
    with (
        openai.OpenAI(base_url=url, api_key="not asked for here") as client,
        ThreadPoolExecutor(32) as users,
    ):
        served = list(users.map(lambda pair: ask(client, *pair), enumerate(problems)))
    return sum(served) / len(served)


# %% [markdown]
# ## The weeks
#
# The gateway answers all the time; the generation behind it changes when a new one is promoted.

# %%
gateway, url = begin(r"answers at (\S+)", "deploy", "deployed", "--port", "0")
for week in range(weeks):
    print(f"week {week + 1}: {a_week(url):.1%} of the users got a plan that works")
    print(monday())
print(f"afterwards: {a_week(url):.1%}")
for process in gateway, schedule:
    process.terminate()
    process.wait()

# %% [markdown]
# ## The warehouse afterwards
#
# Every answer is a trace, with the generation and the weights that gave it. Users are hashes.

# %%
with Warehouse(warehouse, read_only=True) as store:
    weekly = store.frame(
        "SELECT generation, sum(requests) AS answers, sum(valid) / sum(judged) AS valid, "
        "sum(accepted) / sum(told) AS acceptance, max(latency_ms_p99) AS latency_ms_p99 "
        "FROM deployments GROUP BY generation ORDER BY generation"
    )
    measured = store.frame("SELECT generation, coverage, heldout, longest FROM progress")
print(weekly.round(3).to_string(index=False))
print(measured.round(3).to_string(index=False))
measured

# %% [markdown]
# ## What users rewarded
#
# The hasty third accepted plans that do not work. The curator `accepted-and-valid` learned none of
# them; `feedback` would have. But a long plan that works is accepted less often than a short one,
# and so learned less often. Nobody decided that.

# %%
done = subprocess.run(posterity("audit", "deployed"), capture_output=True, text=True)
print(done.stdout, done.stderr)
with Warehouse(warehouse, read_only=True) as store:
    tastes = store.frame(
        "SELECT metadata ->> 'group' AS users, outcome = 'VALID' AS works, "
        f"plan_length <= {short} AS short, count(*) AS told, avg(accepted::INT) AS accepted "
        "FROM requests JOIN feedback USING (trace) JOIN stg_verdicts USING (trace) "
        "WHERE plan_length > 0 GROUP BY ALL ORDER BY ALL"
    )
print(tastes.round(3).to_string(index=False))
tastes
