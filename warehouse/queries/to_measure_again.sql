-- A few traces of each generation of an experiment that a model in this process wrote, those with the
-- lowest ids.
SELECT generation, trace, task, logprob, token_ids, coalesce(turn_tokens, []) AS turn_tokens
FROM (
    SELECT *, row_number() OVER (PARTITION BY generation ORDER BY trace) AS place
    FROM traces
    WHERE
        experiment = :experiment
        AND purpose IN ('deploy', 'evaluate')
        AND logprob IS NOT NULL
        AND len(token_ids) > 0
        AND prompt_format = :prompt_format
)
WHERE place <= :count
ORDER BY generation, trace
