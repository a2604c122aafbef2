-- One row per trace of an experiment on one task: what every generation answered.
SELECT t.trace, t.generation, t.purpose, t.sample, v.outcome, v.step, v.plan_length AS actions
FROM (
    SELECT trace, generation, purpose, sample
    FROM traces
    WHERE task = :task AND experiment = :experiment
) AS t
LEFT JOIN (SELECT * FROM stg_verdicts WHERE task = :task) AS v ON v.trace = t.trace
ORDER BY t.generation, t.purpose DESC, t.sample
