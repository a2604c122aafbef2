-- What came from a source: traces, valid ones, and what their users say.
SELECT
    count(*) AS traces,
    count(*) FILTER (WHERE outcome = 'VALID') AS valid,
    count(*) FILTER (WHERE accepted) AS accepted,
    count(*) FILTER (WHERE NOT accepted) AS rejected
FROM stg_verdicts
LEFT JOIN feedback USING (trace)
WHERE experiment = :source
