-- One row per experiment, trained generation and trait: does it go with being kept, among the valid
-- traces of a task? By `posterity audit`.
SELECT
    experiment,
    generation,
    name AS trait,
    max(value) FILTER (WHERE measure = 'odds_ratio') AS odds_ratio,
    max(value) FILTER (WHERE measure = 'low') AS low,
    max(value) FILTER (WHERE measure = 'high') AS high,
    max(value) FILTER (WHERE measure = 'q') AS q,
    max(value) FILTER (WHERE measure = 'chance') AS chance,
    max(value) FILTER (WHERE measure = 'traces')::BIGINT AS traces,
    max(value) FILTER (WHERE measure = 'named') = 1 AS named,
    max(value) FILTER (WHERE measure = 'declared') = 1 AS declared,
    max(note) AS note
FROM {{ source('warehouse', 'audits') }}
WHERE question = 'preferences'
GROUP BY ALL
ORDER BY ALL
