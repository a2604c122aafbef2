-- One row an experiment, generation trained and task: the trace that teaches it.
SELECT
    s.experiment,
    s.generation,
    t.task,
    t.trace AS trace_id,
    t.generation AS from_generation,
    j.plan_length,
    t.reasoning_tokens,
    s.weight
FROM selections AS s
JOIN traces AS t ON t.trace = s.trace
LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
WHERE s.kept
