-- One row per task, with its domain, for export; none whose text was erased.
SELECT k.*, d.pddl AS domain_pddl
FROM tasks AS k
JOIN domains AS d ON d.domain_hash = k.domain_hash
WHERE k.pddl <> ''
