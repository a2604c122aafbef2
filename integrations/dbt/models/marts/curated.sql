-- One row per experiment, trained generation and trace it learned; most curators keep one per task.
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
