-- One row per experiment, trained generation and trace of its pool: the decision that stood then.
SELECT
    m.experiment,
    m.generation,
    s.trace,
    s.kept,
    s.weight,
    s.reason,
    s.task,
    s.from_generation,
    s.plan_length,
    s.reasoning_tokens,
    s.accepted
FROM {{ source('warehouse', 'marks') }} AS m
JOIN {{ source('warehouse', 'selections') }} AS s
    ON s.experiment = m.experiment
    AND s.since <= m.generation
    AND coalesce(s.until, m.generation) >= m.generation
WHERE m.stage = 'curate'
