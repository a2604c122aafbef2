-- One row per session that told of a candidate or its parent, since the candidate answers: its first
-- word, in the order in which users spoke. Answers without a session always come from the parent,
-- and those of a generation that was asked for by its number are from who chose it: they say nothing.
WITH told AS (
    SELECT
        t.generation,
        r.session_hash AS session,
        r.received_at,
        coalesce(f.first_accepted, f.accepted) AS accepted,
        coalesce(f.first_given_at, f.given_at, r.received_at) AS given_at,
        t.trace
    FROM traces AS t
    JOIN requests AS r ON r.trace = t.trace
    JOIN feedback AS f ON f.trace = t.trace
    WHERE t.experiment = :experiment
        AND t.purpose = 'request'
        AND t.generation IN (:candidate, :parent)
        AND r.session_hash IS NOT NULL
        AND json_extract(r.settings, '$.chosen') IS NULL
),
since AS (
    SELECT min(r.received_at) AS begun
    FROM traces AS t
    JOIN requests AS r ON r.trace = t.trace
    WHERE t.experiment = :experiment AND t.purpose = 'request' AND t.generation = :candidate
)
SELECT generation, session, first(accepted ORDER BY given_at, trace) AS accepted
FROM told
WHERE received_at >= (SELECT begun FROM since)
GROUP BY generation, session
ORDER BY min(given_at), min(trace)
