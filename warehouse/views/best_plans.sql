-- One row per experiment and task solved: the shortest valid plan so far, of equals the one with the least id.
WITH ranked AS (
    SELECT
        experiment,
        task,
        min(struct_pack(plan_length := plan_length, trace := trace)) AS best
    FROM stg_verdicts
    WHERE outcome = 'VALID'
    GROUP BY ALL
)

SELECT
    r.experiment,
    r.task,
    k.domain,
    k.size,
    k.horizon,
    r.best.plan_length AS plan_length,
    t.generation,
    t.purpose,
    t.trace AS trace_id,
    t.text
FROM ranked AS r
JOIN traces AS t ON t.trace = r.best.trace
JOIN tasks AS k ON k.task = r.task
