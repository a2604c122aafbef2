-- One row per generation of an experiment that learned from traces that were forgotten since.
SELECT generation, forgotten FROM tainted WHERE experiment = :experiment
