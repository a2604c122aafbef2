-- One row per figure of the audit of an experiment.
SELECT generation, question, name, measure, value, note
FROM audits
WHERE experiment = :experiment
ORDER BY ALL
