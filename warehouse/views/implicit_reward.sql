-- One row per experiment, generation trained and trace learned: the reward it stands for (posterity audit fills it).
WITH ratios AS (
    SELECT
        r.experiment,
        r.generation,
        r.trace,
        s.weight,
        r.logprob,
        t.sampling_logprob AS behaviour_logprob,
        exp(greatest(least(r.logprob - t.sampling_logprob, 700), -700)) AS importance,
        r.valid_ratio
    FROM rewards AS r
    JOIN traces AS t ON t.trace = r.trace
    JOIN selections AS s
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
    weight * valid_ratio / importance AS effective_reward
FROM ratios
