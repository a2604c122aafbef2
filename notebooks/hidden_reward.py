# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # What is it really being rewarded for?
#
# After `posterity audit`. Nobody wrote a reward; the curation implies one. `docs/audit.md` says
# what each figure means and what it does not.

# %%
import os

from warehouse import Warehouse

file = os.environ.get("POSTERITY_WAREHOUSE", "posterity.duckdb.snapshot")
warehouse = Warehouse(file, read_only=True)
rewards = warehouse.frame("SELECT * FROM implicit_reward")
assert len(rewards), "run `posterity audit` first"
experiment = rewards["experiment"].iloc[-1]  # or another one that was audited
rewards = rewards[rewards["experiment"] == experiment]
experiment

# %% [markdown]
# What a trace stands for is the reward of the curator's choice (best-of-N for `shortest`). A trace
# of an older generation weighs as much as a fresh one, but the policy that learns it would write it
# more or less often: its reward is also divided by its importance.

# %%
rewards.groupby("generation")[["weight", "importance", "effective_reward"]].describe().T

# %% [markdown]
# What selection changed, and what training did (the Price equation): traits on which curation
# pulls, and whether the next generation followed.

# %%
changes = warehouse.frame(
    "FROM selection_differential WHERE experiment = :experiment", experiment=experiment
)
changes.pivot(index="trait", columns="generation", values=["selection", "transmission"]).round(3)

# %% [markdown]
# Which traces another curator would have kept instead:

# %%
warehouse.frame(
    """
    SELECT generation, curator, kept, count(*) AS traces
    FROM alternatives WHERE experiment = :experiment GROUP BY ALL ORDER BY ALL
    """,
    experiment=experiment,
)
