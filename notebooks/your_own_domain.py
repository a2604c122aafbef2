# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Your own domain
#
# A folder with `domain.pddl` and problems is all it takes. Here: a gardener walks between beds and
# waters them; the can holds enough for one bed and is filled at a tap. First the domain:

# %%
import json
import random
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.experiments.reading import load_experiment
from flows.iterate import iterate
from flows.loop.ingest import ingest
from flows.progress import Watch
from planners.checking.checker import checker_for
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from planners.records import Plan
from warehouse.store import Warehouse

scratch = TemporaryDirectory()
folder = Path(scratch.name) / "garden"
folder.mkdir()
domain = """\
(define (domain garden)
  (:requirements :strips :typing :negative-preconditions)
  (:types place)
  (:predicates (at ?p - place) (path ?a ?b - place) (tap ?p - place) (full) (watered ?p - place))
  (:action walk :parameters (?a ?b - place)
    :precondition (and (at ?a) (path ?a ?b))
    :effect (and (at ?b) (not (at ?a))))
  (:action fill :parameters (?p - place)
    :precondition (and (at ?p) (tap ?p) (not (full)))
    :effect (full))
  (:action water :parameters (?p - place)
    :precondition (and (at ?p) (full))
    :effect (and (watered ?p) (not (full)))))
"""
(folder / "domain.pddl").write_text(domain)

# %% [markdown]
# Problems: gardens whose paths form a random tree, so that every bed can be reached.


# %%
def problem(places: int, beds: int, seed: int) -> str:
    rng = random.Random(seed)
    names = [f"p{i}" for i in range(places)]
    paths = [(names[i], names[rng.randrange(i)]) for i in range(1, places)]
    facts = [f"(path {a} {b}) (path {b} {a})" for a, b in paths]
    facts += [f"(at {rng.choice(names)})", f"(tap {rng.choice(names)})"]
    goals = " ".join(f"(watered {bed})" for bed in rng.sample(names, beds))
    return (
        f"(define (problem garden-{seed}) (:domain garden)\n  (:objects {' '.join(names)} - place)"
        f"\n  (:init {' '.join(facts)})\n  (:goal (and {goals})))\n"
    )


for split, places, count in (("train", 4, 5), ("heldout", 4, 2), ("larger", 6, 1)):
    (folder / split).mkdir()
    for seed in range(count):
        text = problem(places, 1 + seed % 2, 1000 * places + 100 * len(split) + seed)
        (folder / split / f"p{seed:02d}.pddl").write_text(text)

# %% [markdown]
# The checker judges any plan; what it says of a wrong one names the first step that fails:

# %%
checker = checker_for(domain, (folder / "train" / "p00.pddl").read_text())
verdict = checker.check(Plan((("water", "p0"),)))
print(verdict.outcome.name, verdict.step, verdict.detail)

# %% [markdown]
# What may a model hope for? A classical planner as the policy says (`posterity[reference]`). The
# tasks are read, checked for leaks between the splits, even under other names, and judged like any
# others. (The command line does the same: `posterity run garden.toml`.)

# %%
experiment = Path(scratch.name) / "garden.toml"
experiment.write_text(f"""
generations = 0
tasks = {{ folder = "{folder}" }}
model = {{ policy = "planner", prompt = "task", seconds = 10 }}
deploy = {{ samples = 1 }}
evaluate = {{ samples = 1 }}
""")
warehouse = Warehouse(Path(scratch.name) / "garden.duckdb")
iterate(warehouse, load_experiment(str(experiment)), Watch(quiet=True))
solved = warehouse.frame("SELECT split, tasks, solved FROM coverage ORDER BY ALL")
assert (solved["tasks"] == solved["solved"]).all()
solved

# %% [markdown]
# The shortest plan of each task, and how long they are:

# %%
plans = warehouse.frame("SELECT task, plan_length, text FROM best_plans ORDER BY plan_length DESC")
print(plans["text"][0])
plans["plan_length"].describe()

# %% [markdown]
# A language model is asked in PDDL with instructions. This is what it would read; `natural` says it
# in words, and `obfuscated` takes the meaning out of the names:

# %%
task = read_task(domain, (folder / "train" / "p00.pddl").read_text())
print(PROMPTS["pddl"].write(task))

# %% [markdown]
# To let a model learn it, replace the planner: three generations of a small model of the hub, which
# begins with plans it is given, since it may not be able to begin by itself. `posterity plan` says
# what that takes on this machine, before anything starts.
#
# ```toml
# generations = 3
# tasks = { folder = "garden" }
# model = { base = "HuggingFaceTB/SmolLM2-135M-Instruct", prompt = "pddl" }
# deploy = { samples = 4, temperature = 1.0, max_new_tokens = 96 }
# evaluate = { samples = 3, temperature = 0.6, max_new_tokens = 96 }
# curation = { sources = ["planner"] }
# training = { steps = 60, lora = { rank = 16 } }
# ```
#
# The plans it begins with are JSON Lines, which `posterity ingest planner.jsonl --source planner`
# judges and takes. Here the planner's own, of the training tasks:

# %%
trained = warehouse.tasks(load_experiment(str(experiment)).id, "train")
pddl = {task.key: task.pddl for task in trained}
lines = [
    json.dumps({"domain": domain, "problem": pddl[row.task], "completion": row.text})
    for row in plans.itertuples()
    if row.task in pddl
]
print(lines[0][-200:])
taken = ingest(warehouse, BytesIO("\n".join(lines).encode()), "planner")
assert (taken.new, taken.refused) == (len(lines), [])
warehouse.frame("""
    SELECT purpose, outcome, count(*) AS traces FROM stg_verdicts
    GROUP BY ALL ORDER BY ALL
""")
