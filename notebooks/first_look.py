# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A first look
#
# A warehouse is a DuckDB file. While a run writes it, read its snapshot,
# `posterity.duckdb.snapshot`, which is replaced after every generation. Everything below is SQL
# over public views; `docs/schema.md` has them all.

# %%
import os

from warehouse import Warehouse

file = os.environ.get("POSTERITY_WAREHOUSE", "posterity.duckdb.snapshot")
warehouse = Warehouse(file, read_only=True)
progress = warehouse.frame("SELECT * FROM progress")
progress

# %% [markdown]
# One experiment of these, in what follows:

# %%
experiment = progress["experiment"].iloc[0]
own = progress[progress["experiment"] == experiment]
experiment

# %% [markdown]
# Does it learn to plan further, or the same plans better? Coverage by horizon says:

# %%
by_horizon = warehouse.frame(
    """
    SELECT generation, horizon, sum(solved) / sum(tasks) AS coverage
    FROM coverage_by_horizon WHERE split = 'train' AND experiment = :experiment
    GROUP BY ALL ORDER BY ALL
    """,
    experiment=experiment,
)
by_horizon.pivot(index="horizon", columns="generation", values="coverage").style.format("{:.0%}")

# %% [markdown]
# What became of the traces, generation by generation:

# %%
verdicts = warehouse.frame(
    """
    SELECT generation, outcome, sum(traces) AS traces
    FROM verdicts WHERE experiment = :experiment GROUP BY ALL
    """,
    experiment=experiment,
)
verdicts.pivot(index="outcome", columns="generation", values="traces").fillna(0)

# %% [markdown]
# Which traces taught the last generation, and from which generation they came; why the others
# were dropped:

# %%
of = {"experiment": experiment, "last": int(own["generation"].max())}
warehouse.frame(
    """
    SELECT from_generation, count(*) AS traces, avg(plan_length) AS mean_length
    FROM curated WHERE experiment = :experiment AND generation = :last GROUP BY ALL ORDER BY ALL
    """,
    **of,
)

# %%
warehouse.frame(
    """
    SELECT reason, count(*) AS traces FROM decisions
    WHERE experiment = :experiment AND generation = :last GROUP BY ALL ORDER BY traces DESC
    """,
    **of,
)

# %% [markdown]
# The longest plan so far, whole:

# %%
longest = warehouse.frame(
    "FROM best_plans WHERE experiment = :experiment ORDER BY plan_length DESC LIMIT 1",
    experiment=experiment,
)
print(longest["text"][0])
assert longest["plan_length"][0] > 0
