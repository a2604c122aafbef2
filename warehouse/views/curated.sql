-- One row per experiment, generation trained and trace that teaches it: of most curators, one a task.
SELECT
    experiment,
    generation,
    task,
    trace AS trace_id,
    from_generation,
    plan_length,
    reasoning_tokens,
    weight
FROM selections
WHERE kept
