-- One row an experiment, generation, domain and outcome; the outcome of traces not judged is NULL.
SELECT
    t.experiment,
    t.generation,
    k.domain,
    j.outcome,
    count(*) AS traces,
    count(*) FILTER (WHERE t.purpose = 'deploy') AS deployed,
    count(*) FILTER (WHERE t.purpose = 'evaluate') AS evaluated
FROM traces AS t
JOIN tasks AS k ON k.task = t.task
LEFT JOIN judgements AS j ON j.trace = t.trace AND j.superseded IS NOT TRUE
GROUP BY ALL
ORDER BY ALL
