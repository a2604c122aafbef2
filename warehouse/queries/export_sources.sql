-- One row per experiment or source, and model that wrote its traces: how many, and how many are valid;
-- of the exported traces, so that they need not be joined with their verdicts again.
SELECT
    experiment,
    policy,
    count(*) AS traces,
    count(*) FILTER (WHERE outcome = 'VALID') AS valid,
    count(*) FILTER (WHERE purpose IN ('request', 'correction')) AS requests
FROM read_parquet($file)
GROUP BY ALL
ORDER BY ALL
