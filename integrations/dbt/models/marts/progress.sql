-- One row per experiment and generation: the figures that tell whether the loop works, of tasks with a
-- judged sample, and of their judged samples.
WITH results AS MATERIALIZED (
    SELECT s.experiment, s.generation, e.split, s.task, s.samples, s.valid, s.longest
    FROM {{ ref('stg_task_samples') }} AS s
    JOIN {{ source('warehouse', 'experiment_tasks') }} AS e ON e.experiment = s.experiment AND e.task = s.task
),

-- Training tasks counted at the generation that solved them first.
fresh AS (
    SELECT experiment, generation, count(*) AS new_solved
    FROM (
        SELECT experiment, task, min(generation) AS generation
        FROM results
        WHERE split = 'train' AND valid > 0
        GROUP BY ALL
    )
    GROUP BY ALL
)

SELECT
    r.experiment,
    r.generation,
    count(*) FILTER (WHERE r.split = 'train') AS tasks,
    avg((r.valid > 0)::INT) FILTER (WHERE r.split = 'train') AS coverage,
    avg((r.valid = r.samples)::INT) FILTER (WHERE r.split = 'train') AS unanimous,
    avg((r.valid > 0)::INT) FILTER (WHERE r.split = 'heldout') AS heldout,
    avg((r.valid > 0)::INT) FILTER (WHERE r.split = 'larger') AS larger,
    coalesce(max(r.longest), 0) AS longest,
    coalesce(any_value(f.new_solved), 0) AS new_solved
FROM results AS r
LEFT JOIN fresh AS f ON f.experiment = r.experiment AND f.generation = r.generation
GROUP BY r.experiment, r.generation
ORDER BY r.experiment, r.generation
