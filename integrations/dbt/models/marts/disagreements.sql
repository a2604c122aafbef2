-- One row per trace and referee that contradicts the checker's verdict on its plan.
SELECT
    t.experiment,
    t.generation,
    t.task,
    t.trace AS trace_id,
    j.outcome,
    j.detail,
    o.referee,
    o.valid AS referee_valid,
    t.text
FROM {{ source('warehouse', 'opinions') }} AS o
JOIN {{ ref('stg_verdicts') }} AS j ON j.trace = o.trace
JOIN {{ source('warehouse', 'traces') }} AS t ON t.trace = o.trace
WHERE o.valid IS NOT NULL AND o.valid != (j.outcome = 'VALID')
