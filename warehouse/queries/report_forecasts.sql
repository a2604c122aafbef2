-- One row per generation and trait that was forecast and came: what was said of it before training.
SELECT experiment, generation, trait, predicted, low, high, persistence, actual, inside
FROM forecasts
WHERE actual IS NOT NULL
ORDER BY experiment, trait, generation
