-- One row per domain and horizon: the share of valid samples of a generation for training tasks.
SELECT domain, horizon, pass_at_1
FROM coverage_by_horizon
WHERE experiment = :experiment AND generation = :generation AND split = 'train'
ORDER BY ALL
