-- One row per experiment and solved task: the shortest valid plan so far; ties go to the lowest id.
WITH ranked AS (
    SELECT
        experiment,
        task,
        -- Structs compare field by field: plan_length first, then trace.
        min(struct_pack(plan_length := plan_length, trace := trace)) AS best
    FROM stg_verdicts
    WHERE outcome = 'VALID' AND trace NOT IN (SELECT f.trace FROM forgotten AS f)
    GROUP BY ALL
)

SELECT
    r.experiment,
    r.task,
    k.domain,
    k.size,
    e.horizon,
    r.best.plan_length AS plan_length,
    t.generation,
    t.purpose,
    t.trace AS trace_id,
    t.text
FROM ranked AS r
JOIN traces AS t ON t.trace = r.best.trace
JOIN tasks AS k ON k.task = r.task
LEFT JOIN experiment_tasks AS e ON e.experiment = r.experiment AND e.task = r.task
