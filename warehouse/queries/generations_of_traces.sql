-- One row per experiment or source and generation that wrote traces: how many.
SELECT experiment, generation, count(*) AS traces FROM traces GROUP BY ALL ORDER BY ALL
