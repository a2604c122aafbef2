-- Schema 1: first of Posterity's warehouses.
CREATE TABLE canaries(canary VARCHAR, experiment VARCHAR NOT NULL, generation BIGINT NOT NULL, task VARCHAR NOT NULL, kind VARCHAR NOT NULL, "text" VARCHAR NOT NULL, outcome VARCHAR NOT NULL, PRIMARY KEY(canary));
CREATE TABLE domains(domain_hash VARCHAR, "name" VARCHAR NOT NULL, pddl VARCHAR NOT NULL, PRIMARY KEY(domain_hash));
CREATE TABLE experiment_tasks(experiment VARCHAR, task VARCHAR, split VARCHAR NOT NULL, "position" BIGINT NOT NULL, PRIMARY KEY(experiment, task));
CREATE TABLE experiments(experiment VARCHAR, hash VARCHAR NOT NULL, "name" VARCHAR NOT NULL, seed BIGINT NOT NULL, config VARCHAR NOT NULL, code_version VARCHAR NOT NULL, PRIMARY KEY(experiment));
CREATE TABLE generations(experiment VARCHAR, generation BIGINT, parent BIGINT, "start" VARCHAR NOT NULL, "checkpoint" VARCHAR NOT NULL, weights_hash VARCHAR NOT NULL, training_set_hash VARCHAR, training VARCHAR, PRIMARY KEY(experiment, generation));
CREATE TABLE judgements(trace VARCHAR, checker VARCHAR, checker_version VARCHAR, extraction_version VARCHAR NOT NULL, outcome VARCHAR NOT NULL, step BIGINT, detail VARCHAR NOT NULL, plan_length BIGINT, "cost" DOUBLE, PRIMARY KEY(trace, checker, checker_version));
CREATE TABLE marks(experiment VARCHAR, generation BIGINT, stage VARCHAR, part BIGINT, PRIMARY KEY(experiment, generation, stage, part));
CREATE TABLE opinions(trace VARCHAR, referee VARCHAR, "valid" BOOLEAN, note VARCHAR NOT NULL, PRIMARY KEY(trace, referee));
CREATE TABLE schema_version("version" BIGINT, PRIMARY KEY("version"));
CREATE TABLE selections(experiment VARCHAR, generation BIGINT, trace VARCHAR, kept BOOLEAN NOT NULL, weight DOUBLE NOT NULL, reason VARCHAR NOT NULL, PRIMARY KEY(experiment, generation, trace));
CREATE TABLE tasks(task VARCHAR, domain_hash VARCHAR NOT NULL, "domain" VARCHAR NOT NULL, size BIGINT NOT NULL, horizon BIGINT, pddl VARCHAR NOT NULL, PRIMARY KEY(task));
CREATE TABLE traces(trace VARCHAR, experiment VARCHAR NOT NULL, generation BIGINT NOT NULL, purpose VARCHAR NOT NULL, task VARCHAR NOT NULL, "sample" BIGINT NOT NULL, seed BIGINT NOT NULL, prompt_format VARCHAR NOT NULL, prompt_hash VARCHAR NOT NULL, "text" VARCHAR NOT NULL, token_ids BIGINT[] NOT NULL, reasoning_tokens BIGINT NOT NULL, plan_tokens BIGINT NOT NULL, finish_reason VARCHAR NOT NULL, logprob DOUBLE, sampling_logprob DOUBLE, "policy" VARCHAR NOT NULL, code_version VARCHAR NOT NULL, PRIMARY KEY(trace));
INSERT INTO schema_version VALUES (1);
INSERT INTO traces VALUES ('t', 'e', 0, 'deploy', 'k', 0, 1, 'compact-1', 'p', '(a b)', [1, 2], 0, 2, 'stop', -1.5, NULL, 'local', '0.1.0');
INSERT INTO judgements VALUES ('t', 'posterity', '1', '1', 'VALID', NULL, '', 1, 1.0);
INSERT INTO selections VALUES ('e', 1, 't', true, 1.0, 'r');
