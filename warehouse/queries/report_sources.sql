-- One row per experiment, trained generation and source generation: the traces it learned from it.
SELECT experiment, generation, from_generation, count(*) AS traces
FROM curated
GROUP BY ALL
ORDER BY ALL
