-- One row per experiment or source with a task, or with traces of it.
SELECT experiment FROM experiment_tasks WHERE task = :task
UNION
SELECT experiment FROM traces WHERE task = :task
ORDER BY ALL
