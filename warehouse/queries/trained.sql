-- One row per generation that was trained on something.
SELECT DISTINCT experiment, generation FROM stg_decisions WHERE kept ORDER BY ALL
