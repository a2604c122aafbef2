-- One row per experiment, trained generation and trace it learned; most curators keep one per task.
-- `from_generation` is that of the run that wrote it, which may be one that this one is crossed with.
SELECT
    experiment,
    generation,
    task,
    trace AS trace_id,
    from_generation,
    plan_length,
    reasoning_tokens,
    weight
FROM {{ ref('stg_decisions') }}
WHERE kept
