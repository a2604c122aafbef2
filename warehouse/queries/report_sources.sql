-- One row per experiment, generation trained and generation that it learned from.
SELECT experiment, generation, from_generation, count(*) AS traces
FROM curated
GROUP BY ALL
ORDER BY ALL
