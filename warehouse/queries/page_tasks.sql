-- One row per task of an experiment: the generation that solved it first, and the newest evaluation.
WITH results AS (
    SELECT generation, task, samples, valid, longest
    FROM stg_task_samples
    WHERE experiment = :experiment
)

SELECT
    e.split,
    k.domain,
    k.size,
    e.horizon,
    min(r.generation) FILTER (WHERE r.valid > 0) AS solved_since,
    arg_max(r.valid, r.generation) AS valid,
    arg_max(r.samples, r.generation) AS samples,
    max(r.longest) AS longest,
    e.task
FROM experiment_tasks AS e
JOIN tasks AS k ON k.task = e.task
LEFT JOIN results AS r ON r.task = e.task
WHERE e.experiment = :experiment
GROUP BY e.split, e.position, k.domain, k.size, e.horizon, e.task
ORDER BY e.split, e.position
