-- One row per experiment and generation: the spread of the lengths of its valid plans.
SELECT experiment, generation,
    min(plan_length) AS whislo,
    quantile_cont(plan_length, 0.25) AS q1,
    median(plan_length) AS med,
    quantile_cont(plan_length, 0.75) AS q3,
    max(plan_length) AS whishi
FROM stg_verdicts
WHERE purpose = 'evaluate' AND outcome = 'VALID'
GROUP BY ALL
ORDER BY ALL
