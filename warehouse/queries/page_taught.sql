-- One row per generation of an experiment and generation whose traces it learned.
SELECT generation, from_generation, count(*) AS traces
FROM curated
WHERE experiment = :experiment
GROUP BY ALL
ORDER BY ALL
