-- One row an experiment and generation: the figures that tell whether the loop works.
WITH results AS (
    SELECT
        experiment,
        generation,
        count(*) FILTER (WHERE split = 'train') AS tasks,
        avg((valid > 0)::INT) FILTER (WHERE split = 'train') AS coverage,
        avg((valid = samples)::INT) FILTER (WHERE split = 'train') AS unanimous,
        avg((valid > 0)::INT) FILTER (WHERE split = 'heldout') AS heldout,
        avg((valid > 0)::INT) FILTER (WHERE split = 'larger') AS larger
    FROM stg_task_results
    GROUP BY ALL
),

longest AS (
    SELECT experiment, generation, max(plan_length) AS longest
    FROM stg_evaluations
    WHERE valid
    GROUP BY ALL
),

first_solved AS (
    SELECT experiment, task, min(generation) AS generation
    FROM stg_task_results
    WHERE split = 'train' AND valid > 0
    GROUP BY ALL
),

fresh AS (
    SELECT experiment, generation, count(*) AS new_solved
    FROM first_solved
    GROUP BY ALL
)

SELECT
    r.experiment,
    r.generation,
    r.tasks,
    r.coverage,
    r.unanimous,
    r.heldout,
    r.larger,
    coalesce(l.longest, 0) AS longest,
    coalesce(f.new_solved, 0) AS new_solved
FROM results AS r
LEFT JOIN longest AS l ON l.experiment = r.experiment AND l.generation = r.generation
LEFT JOIN fresh AS f ON f.experiment = r.experiment AND f.generation = r.generation
ORDER BY r.experiment, r.generation
