-- Migration 2: provenance of captions, duplicates, decisions, and lineage that can be asked in SQL.

ALTER TABLE datasets ADD COLUMN year INTEGER;        -- of publication, as far as known

ALTER TABLE samples ALTER COLUMN hash DROP NOT NULL; -- unknown where the bytes were not read at ingest, as are
ALTER TABLE samples ALTER COLUMN width DROP NOT NULL;
ALTER TABLE samples ALTER COLUMN height DROP NOT NULL;
ALTER TABLE samples ALTER COLUMN format DROP NOT NULL;
ALTER TABLE samples ADD COLUMN phash UBIGINT;        -- perceptual hash of the pixels
ALTER TABLE samples ADD COLUMN attributes VARCHAR;   -- what else the source says of the sample, a JSON object

ALTER TABLE quarantine ADD COLUMN code VARCHAR;      -- the kind of the reason, e.g. truncated

ALTER TABLE captions RENAME TO captions_1;
CREATE TABLE captions (          -- one row per text; versioned: a captioner that runs again adds rows
    sample VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    position INTEGER NOT NULL,   -- of the text among those of the sample, from 0
    kind VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    captioner VARCHAR NOT NULL,
    model VARCHAR,
    prompt VARCHAR,              -- version of the prompt
    settings VARCHAR,            -- JSON: whatever else decided the text
    words INTEGER,
    leak BOOLEAN,                -- whether the text repeats its instruction
    fallback BOOLEAN,            -- whether the captioner failed and something simpler stands in
    version VARCHAR NOT NULL     -- digest of the caption table; of the sample table for texts that came with the data
);
INSERT INTO captions (sample, dataset, position, kind, text, captioner, version)
SELECT sample, dataset, generate_subscripts(texts, 1) - 1, kind, unnest(texts), captioner, version FROM captions_1;
DROP TABLE captions_1;

CREATE TABLE caption_scores (    -- how well a checkpoint finds that text and image belong together
    sample VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    clip_score FLOAT,            -- cosine similarity; NULL where the image was left out
    captions VARCHAR NOT NULL,   -- version of the captions that were scored
    checkpoint VARCHAR NOT NULL, -- digest
    version VARCHAR NOT NULL     -- digest of the score table
);

CREATE TABLE duplicates (        -- samples that show the same image, in groups of two or more
    sample VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    grp BIGINT NOT NULL,         -- number of the group, within one version
    kind VARCHAR NOT NULL,       -- how the sample was found
    distance DOUBLE,             -- to the sample that it was found by
    version VARCHAR NOT NULL     -- digest of the table of groups
);

CREATE TABLE decisions (         -- a copy of the ledger `decisions` of the store
    number INTEGER NOT NULL,
    decided_at VARCHAR NOT NULL, -- ISO 8601, UTC
    kind VARCHAR NOT NULL,       -- release, forget, withdraw_release, withdraw_forget
    rule VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);
CREATE TABLE decided_samples (
    decision INTEGER NOT NULL,
    sample VARCHAR NOT NULL
);

CREATE TABLE exclusions (        -- what a stream was planned without ('drop') or with a mark ('mark')
    stream VARCHAR NOT NULL,
    effect VARCHAR NOT NULL,
    cause VARCHAR NOT NULL,
    sample VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

ALTER TABLE steps ADD COLUMN deployed VARCHAR;       -- digest of the weights after the merge

CREATE TABLE checkpoint_parents ( -- which weights others were made from
    checkpoint VARCHAR NOT NULL,
    parent VARCHAR NOT NULL,
    role VARCHAR NOT NULL        -- init: an update began there; base, pick: of a merge
);

CREATE TABLE checkpoint_ancestors ( -- the same to the very beginning; every checkpoint is its own at distance 0
    checkpoint VARCHAR NOT NULL,
    ancestor VARCHAR NOT NULL,
    distance INTEGER NOT NULL    -- by the shortest way
);
INSERT INTO checkpoint_ancestors         -- the others come when the stream is recorded again
SELECT DISTINCT checkpoint, checkpoint, 0 FROM steps;

ALTER TABLE step_draws ADD COLUMN text VARCHAR;      -- the caption that was drawn with the image
ALTER TABLE step_draws ADD COLUMN caption_kind VARCHAR;
ALTER TABLE step_draws ADD COLUMN captioner VARCHAR;
ALTER TABLE step_draws ADD COLUMN marked BOOLEAN;    -- whether an exclusion marked the sample

-- Captions with the scores that they were given.
CREATE VIEW scored_captions AS
SELECT c.*, s.clip_score, s.checkpoint
FROM captions c JOIN caption_scores s ON s.sample = c.sample AND s.position = c.position AND s.captions = c.version;

-- What each step of each recipe drew: one row per step, pool, sample and caption.
CREATE VIEW lineage_samples AS
SELECT s.stream, s.recipe, s.step, s.checkpoint, s.deployed, d.pool, d.sample, d.dataset, d.concept,
       d.text, d.caption_kind, d.captioner, d.marked, d.draws
FROM steps s JOIN step_draws d USING (step_plan);

-- The same in numbers: one row per step and pool.
CREATE VIEW lineage_steps AS
SELECT stream, recipe, step, checkpoint, deployed, pool, count(DISTINCT sample) AS samples,
       count(DISTINCT dataset) AS datasets, count(DISTINCT text) AS texts, sum(draws)::BIGINT AS draws
FROM lineage_samples GROUP BY ALL;

-- Which captions each step used, how often, over how many samples.
CREATE VIEW lineage_captions AS
SELECT stream, recipe, step, text, caption_kind, captioner, count(DISTINCT sample) AS samples,
       sum(draws)::BIGINT AS draws
FROM lineage_samples GROUP BY ALL;

-- Which checkpoints carry which steps: the weights a step ended in, and all that were made from them later.
CREATE VIEW lineage_checkpoints AS
SELECT DISTINCT d.checkpoint, CASE WHEN d.distance = 0 THEN 'direct' ELSE 'inherited' END AS how,
       s.stream, s.recipe, s.step, s.step_plan
FROM steps s JOIN checkpoint_ancestors d ON d.ancestor = s.checkpoint;

-- Samples that later plans leave out: the last decision about each counts.
CREATE VIEW forgotten AS
SELECT sample, arg_max(decided_at, number) AS decided_at, arg_max(reason, number) AS reason
FROM decided_samples JOIN decisions ON number = decision
WHERE kind IN ('forget', 'withdraw_forget')
GROUP BY sample HAVING arg_max(kind, number) = 'forget';
