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

import duckdb

file = os.environ.get("POSTERITY_WAREHOUSE", "posterity.duckdb.snapshot")
warehouse = duckdb.connect(file, read_only=True)
found = warehouse.sql("SELECT DISTINCT experiment FROM coverage ORDER BY 1 LIMIT 2")
names = [name for (name,) in found.fetchall()]
names

# %% [markdown]
# What differs in their settings:

# %%
CONFIG = "SELECT config FROM experiments WHERE experiment = ?"
settings = [warehouse.execute(CONFIG, [name]).fetchone()[0] for name in names]
warehouse.execute(
    """
    SELECT a.fullkey, a.value AS first, b.value AS second
    FROM json_tree(?) AS a JOIN json_tree(?) AS b USING (fullkey)
    WHERE a.atom IS DISTINCT FROM b.atom
    """,
    [settings[0], settings[-1]],
).df()

# %% [markdown]
# The same tasks, side by side: solved by both, by one, by neither, at their last generations.

# %%
warehouse.execute(
    """
    WITH solved AS (
        SELECT experiment, task, bool_or(outcome = 'VALID') AS solved
        FROM stg_verdicts
        WHERE purpose = 'evaluate'
            AND generation = (SELECT max(generation) FROM stg_verdicts WHERE purpose = 'evaluate')
        GROUP BY ALL
    )
    SELECT a.solved AS by_first, b.solved AS by_second, count(*) AS tasks
    FROM solved AS a JOIN solved AS b USING (task)
    WHERE a.experiment = ? AND b.experiment = ? GROUP BY ALL ORDER BY ALL
    """,
    [names[0], names[-1]],
).df()
