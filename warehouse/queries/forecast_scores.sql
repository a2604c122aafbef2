-- One row per trait of an experiment: how good its forecasts were, and those of persistence.
SELECT
    trait,
    count(*) AS told,
    avg(error) AS error,
    avg(error_of_persistence) AS persistence,
    avg(CAST(inside AS INTEGER)) AS inside
FROM forecasts
WHERE experiment = :experiment AND actual IS NOT NULL
GROUP BY trait
ORDER BY trait
