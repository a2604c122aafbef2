-- One row per decision on whether a generation is deployed.
SELECT experiment, position, generation, promoted, decided_by, reason
FROM promotions
ORDER BY ALL
