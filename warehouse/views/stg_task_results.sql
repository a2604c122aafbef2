-- One row a task of a generation's evaluation: samples, how many were valid, the shortest valid plan.
SELECT
    experiment,
    generation,
    split,
    domain,
    size,
    horizon,
    task,
    count(*) AS samples,
    count(*) FILTER (WHERE valid) AS valid,
    min(plan_length) FILTER (WHERE valid) AS shortest
FROM stg_evaluations
GROUP BY ALL
