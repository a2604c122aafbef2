-- One row per evaluated generation and task: judged samples, valid ones, shortest and longest plan.
SELECT
    experiment,
    generation,
    task,
    count(*) AS samples,
    count(*) FILTER (WHERE outcome = 'VALID') AS valid,
    min(plan_length) FILTER (WHERE outcome = 'VALID') AS shortest,
    max(plan_length) FILTER (WHERE outcome = 'VALID') AS longest
FROM {{ ref('stg_verdicts') }}
WHERE purpose = 'evaluate'
GROUP BY ALL
