-- One row per experiment, trained generation and learned trace: its reward, by `posterity audit`.
WITH ratios AS (
    SELECT
        r.experiment,
        r.generation,
        r.trace,
        s.weight,
        r.logprob,
        t.sampling_logprob AS behaviour_logprob,
        -- pi / beta; clipped, since exp() overflows beyond 709. NULL where one of them is not known,
        -- which least() alone would take for 700.
        CASE
            WHEN r.logprob - t.sampling_logprob IS NOT NULL
                THEN exp(greatest(least(r.logprob - t.sampling_logprob, 700), -700))
        END AS importance,
        r.valid_ratio,
        r.reward
    FROM rewards AS r
    JOIN traces AS t ON t.trace = r.trace
    JOIN stg_decisions AS s
        ON s.experiment = r.experiment AND s.generation = r.generation AND s.trace = r.trace
)

SELECT
    experiment,
    generation,
    trace AS trace_id,
    weight,
    logprob,
    behaviour_logprob,
    importance,
    -- R (Z_pi / Z_beta) / (pi / beta), as in curation/rewards.py.
    reward * valid_ratio / importance AS effective_reward
FROM ratios
