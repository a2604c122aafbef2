-- One row per experiment, generation and validity: mean tokens of reasoning.
SELECT t.experiment, t.generation, v.outcome = 'VALID' AS valid,
    avg(t.reasoning_tokens) AS tokens
FROM traces AS t
JOIN stg_verdicts AS v ON v.trace = t.trace
WHERE t.purpose = 'evaluate'
GROUP BY ALL
ORDER BY ALL
