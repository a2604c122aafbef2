-- One row: a source's traces, how many are valid, and how many their users accepted or rejected.
SELECT
    count(*) AS traces,
    count(*) FILTER (WHERE outcome = 'VALID') AS valid,
    count(*) FILTER (WHERE accepted) AS accepted,
    count(*) FILTER (WHERE NOT accepted) AS rejected
FROM traces AS t
LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
LEFT JOIN feedback AS f ON f.trace = t.trace
WHERE t.experiment = :source
