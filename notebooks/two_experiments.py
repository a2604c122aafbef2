# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Comparing two experiments
#
# Any number of experiments share a warehouse; the views have a column `experiment`. Here the
# first two of it, for example the quickstart and its control.

# %%
import os

from warehouse import Warehouse

file = os.environ.get("POSTERITY_WAREHOUSE", "posterity.duckdb.snapshot")
warehouse = Warehouse(file, read_only=True)
names = warehouse.frame("SELECT DISTINCT experiment FROM coverage ORDER BY 1 LIMIT 2")["experiment"]
first, second = names.iloc[0], names.iloc[-1]
first, second

# %% [markdown]
# What differs in their settings:

# %%
warehouse.frame(
    """
    WITH leaves AS (
        SELECT e.experiment, t.fullkey, t.value, t.atom
        FROM experiments AS e, json_tree(e.config) AS t
    )
    SELECT fullkey, a.value AS first, b.value AS second
    FROM (FROM leaves WHERE experiment = :first) AS a
    FULL JOIN (FROM leaves WHERE experiment = :second) AS b USING (fullkey)
    WHERE a.atom IS DISTINCT FROM b.atom
    """,
    first=first,
    second=second,
)

# %% [markdown]
# The same tasks, side by side: solved by both, by one, by neither, at their last generations.

# %%
warehouse.frame(
    """
    WITH solved AS (
        SELECT experiment, task, generation, bool_or(outcome = 'VALID') AS solved
        FROM stg_verdicts
        WHERE purpose = 'evaluate'
        GROUP BY experiment, task, generation
        QUALIFY generation = max(generation) OVER (PARTITION BY experiment)
    )
    SELECT a.solved AS by_first, b.solved AS by_second, count(*) AS tasks
    FROM solved AS a JOIN solved AS b USING (task)
    WHERE a.experiment = :first AND b.experiment = :second GROUP BY ALL ORDER BY ALL
    """,
    first=first,
    second=second,
)
