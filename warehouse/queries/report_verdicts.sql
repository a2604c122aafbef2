-- One row per experiment, generation and outcome.
SELECT experiment, generation, outcome, traces FROM verdicts ORDER BY ALL
