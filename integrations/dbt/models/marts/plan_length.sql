-- One row per experiment, generation, split and domain: actions in valid evaluation plans.
WITH valid AS (
    SELECT experiment, generation, task, plan_length
    FROM {{ ref('stg_verdicts') }}
    WHERE purpose = 'evaluate' AND outcome = 'VALID'
),

first_solved AS (
    SELECT DISTINCT experiment, task FROM valid WHERE generation = 0
)

SELECT
    v.experiment,
    v.generation,
    e.split,
    k.domain,
    count(*) AS plans,
    avg(v.plan_length) AS mean,
    median(v.plan_length) AS median,
    max(v.plan_length) AS longest,
    -- Only tasks that generation 0 solved too, so that generations can be compared.
    avg(v.plan_length) FILTER (WHERE f.task IS NOT NULL) AS mean_common
FROM valid AS v
JOIN {{ source('warehouse', 'tasks') }} AS k ON k.task = v.task
JOIN {{ source('warehouse', 'experiment_tasks') }} AS e ON e.experiment = v.experiment AND e.task = v.task
LEFT JOIN first_solved AS f ON f.experiment = v.experiment AND f.task = v.task
GROUP BY ALL
ORDER BY ALL
