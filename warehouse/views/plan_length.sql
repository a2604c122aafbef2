-- One row an experiment, generation, split and domain: lengths (in actions) of valid evaluation plans.
WITH first_solved AS (
    SELECT experiment, task FROM stg_task_results WHERE generation = 0 AND valid > 0
)
SELECT
    s.experiment,
    s.generation,
    s.split,
    s.domain,
    count(*) AS plans,
    avg(s.plan_length) AS mean,
    median(s.plan_length) AS median,
    max(s.plan_length) AS longest,
    avg(s.plan_length) FILTER (WHERE f.task IS NOT NULL) AS mean_common
FROM stg_evaluations AS s
LEFT JOIN first_solved AS f ON f.experiment = s.experiment AND f.task = s.task
WHERE s.valid
GROUP BY ALL
ORDER BY ALL
