-- One row per generation of an experiment that traces were decided on for.
SELECT generation FROM marks WHERE experiment = :experiment AND stage = 'curate' ORDER BY generation
