-- One row per generation and task of an experiment: traces of one purpose.
SELECT generation, task, count(*) AS traces
FROM traces
WHERE experiment = :experiment AND purpose = :purpose
GROUP BY ALL
