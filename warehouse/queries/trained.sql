-- One row per generation that was trained on something.
SELECT DISTINCT experiment, generation FROM selections WHERE kept ORDER BY ALL
