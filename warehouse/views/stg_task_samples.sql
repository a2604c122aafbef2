-- One row per evaluated generation and task: samples, valid ones, shortest and longest valid plan.
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
    s.task,
    s.samples,
    coalesce(v.valid, 0) AS valid,
    v.shortest,
    v.longest
FROM sampled AS s
LEFT JOIN solved AS v
    ON v.experiment = s.experiment AND v.generation = s.generation AND v.task = s.task
