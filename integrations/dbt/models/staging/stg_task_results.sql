-- One row per evaluated generation and task: stg_task_samples with split, domain, size and horizon.
SELECT
    s.experiment,
    s.generation,
    e.split,
    k.domain,
    k.size,
    e.horizon,
    s.task,
    s.samples,
    s.valid,
    s.shortest,
    s.longest
FROM {{ ref('stg_task_samples') }} AS s
JOIN {{ source('warehouse', 'tasks') }} AS k ON k.task = s.task
JOIN {{ source('warehouse', 'experiment_tasks') }} AS e ON e.experiment = s.experiment AND e.task = s.task
