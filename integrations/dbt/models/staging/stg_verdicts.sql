-- One row per judged trace: the verdict of the newest checker version.
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
FROM {{ source('warehouse', 'judgements') }}
WHERE superseded IS NOT TRUE
