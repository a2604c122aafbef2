-- One row per task with its domain, as they are exported.
SELECT k.*, d.pddl AS domain_pddl
FROM tasks AS k
JOIN domains AS d ON d.domain_hash = k.domain_hash
