-- One row per experiment and generation: the spread of its evaluation completions in tokens.
SELECT experiment, generation,
    min(reasoning_tokens + plan_tokens) AS whislo,
    quantile_cont(reasoning_tokens + plan_tokens, 0.25) AS q1,
    median(reasoning_tokens + plan_tokens) AS med,
    quantile_cont(reasoning_tokens + plan_tokens, 0.75) AS q3,
    max(reasoning_tokens + plan_tokens) AS whishi
FROM traces
WHERE purpose = 'evaluate'
GROUP BY ALL
ORDER BY ALL
