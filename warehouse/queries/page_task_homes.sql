-- One row per experiment or source with a task, or with traces of it.
SELECT experiment, split FROM experiment_tasks WHERE task = :task
UNION
SELECT DISTINCT t.experiment, NULL
FROM traces AS t
WHERE t.task = :task
    AND t.experiment NOT IN (SELECT experiment FROM experiment_tasks WHERE task = :task)
ORDER BY ALL
