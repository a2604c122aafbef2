-- One row per experiment, trained generation and trace of its pool: kept or dropped, and why.
SELECT
    experiment,
    generation,
    trace AS trace_id,
    kept,
    weight,
    reason,
    task,
    from_generation,
    plan_length,
    reasoning_tokens
FROM stg_decisions
