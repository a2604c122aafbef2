-- One row per experiment, generation and purpose with traces of several turns: how often the model
-- asked validate, how often its plan was valid, and how often it was after another that was not.
SELECT
    t.experiment,
    t.generation,
    t.purpose,
    count(*) AS traces,
    sum(t.calls)::BIGINT AS calls,
    sum(t.right_calls)::BIGINT AS valid_calls,
    count(*) FILTER (WHERE t.wrong_calls > 0) AS refused,
    count(*) FILTER (WHERE t.wrong_calls > 0 AND v.outcome = 'VALID') AS recovered
FROM (
    SELECT
        experiment,
        generation,
        purpose,
        trace,
        count(*) AS calls,
        count(*) FILTER (WHERE split_part(text, chr(10), 3) = 'valid') AS right_calls,
        count(*) FILTER (WHERE split_part(text, chr(10), 3) = 'invalid') AS wrong_calls
    FROM {{ ref('turns') }}
    WHERE role = 'tool'
    GROUP BY ALL
) AS t
LEFT JOIN {{ ref('stg_verdicts') }} AS v ON v.trace = t.trace
GROUP BY ALL
