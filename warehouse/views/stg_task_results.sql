-- One row a task of a generation's evaluation: samples, how many were valid, the shortest and longest valid plan.
WITH sampled AS (
    SELECT experiment, generation, task, count(*) AS samples
    FROM traces
    WHERE purpose = 'evaluate'
    GROUP BY ALL
),

solved AS (
    SELECT
        experiment,
        generation,
        task,
        count(*) AS valid,
        min(plan_length) AS shortest,
        max(plan_length) AS longest
    FROM stg_verdicts
    WHERE purpose = 'evaluate' AND outcome = 'VALID'
    GROUP BY ALL
)

SELECT
    s.experiment,
    s.generation,
    e.split,
    k.domain,
    k.size,
    k.horizon,
    s.task,
    s.samples,
    coalesce(v.valid, 0) AS valid,
    v.shortest,
    v.longest
FROM sampled AS s
JOIN tasks AS k ON k.task = s.task
JOIN experiment_tasks AS e ON e.experiment = s.experiment AND e.task = s.task
LEFT JOIN solved AS v
    ON v.experiment = s.experiment AND v.generation = s.generation AND v.task = s.task
