-- One row per generation of an experiment that learned from traces that were forgotten since
-- (`forgotten` of them), or descends from one that did (0).
SELECT generation, forgotten FROM tainted WHERE experiment = :experiment
