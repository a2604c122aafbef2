-- One row: a source's traces, how many are valid, and how many their users accepted or rejected.
SELECT
    count(*) AS traces,
    count(*) FILTER (WHERE outcome = 'VALID') AS valid,
    count(*) FILTER (WHERE accepted) AS accepted,
    count(*) FILTER (WHERE NOT accepted) AS rejected
FROM stg_verdicts
LEFT JOIN feedback USING (trace)
WHERE experiment = :source
