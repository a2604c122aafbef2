-- One row per experiment and generation: its longest valid plan.
SELECT v.experiment, v.generation, v.plan_length, k.domain, k.size, e.horizon, t.text
FROM stg_verdicts AS v
JOIN traces AS t ON t.trace = v.trace
JOIN tasks AS k ON k.task = v.task
LEFT JOIN experiment_tasks AS e ON e.experiment = v.experiment AND e.task = v.task
WHERE v.purpose = 'evaluate' AND v.outcome = 'VALID'
QUALIFY row_number() OVER (
    PARTITION BY v.experiment, v.generation ORDER BY v.plan_length DESC, v.trace
) = 1
ORDER BY ALL
