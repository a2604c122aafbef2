-- One row per generation: its parent, what it learned, and the facts of its training as JSON.
SELECT l.experiment, l.generation, l.parent, l.start, l.weights_hash, l.traces, l.tainted,
    g.training
FROM lineage AS l
JOIN generations AS g ON g.experiment = l.experiment AND g.generation = l.generation
ORDER BY ALL
