-- One row per judged trace: what the newest judge says of it.
SELECT
    trace,
    experiment,
    generation,
    purpose,
    task,
    checker,
    checker_version,
    outcome,
    step,
    detail,
    plan_length,
    cost,
    redundant,
    plan
FROM judgements
WHERE superseded IS NOT TRUE
