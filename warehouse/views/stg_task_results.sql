-- One row per task of a generation's evaluation, as stg_task_samples has it, with its split and grades.
SELECT
    s.experiment,
    s.generation,
    e.split,
    k.domain,
    k.size,
    k.horizon,
    s.task,
    s.samples,
    s.valid,
    s.shortest,
    s.longest
FROM stg_task_samples AS s
JOIN tasks AS k ON k.task = s.task
JOIN experiment_tasks AS e ON e.experiment = s.experiment AND e.task = s.task
