-- One row per figure of an audit.
SELECT experiment, generation, question, name, measure, value, note
FROM audits
ORDER BY ALL
