-- The training tasks by which a generation's coverage was measured.
SELECT coalesce(sum(tasks), 0) AS tasks
FROM coverage
WHERE experiment = :experiment AND generation = :generation AND split = 'train'
