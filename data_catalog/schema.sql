-- Migration 1. Everything here can be rebuilt from the artifact store: the catalog is there to be asked.

CREATE TABLE datasets (
    name VARCHAR PRIMARY KEY,
    digest VARCHAR NOT NULL,     -- of the sample table now current
    kind VARCHAR NOT NULL,
    prompt_template VARCHAR,
    quarantine VARCHAR           -- digest of the table of what was refused
);

CREATE TABLE concepts (
    dataset VARCHAR NOT NULL,
    concept VARCHAR NOT NULL,
    target INTEGER               -- class index; NULL for the topics of retrieval sets
);

CREATE TABLE samples (           -- of the current version of each dataset
    id VARCHAR NOT NULL,         -- <DATASET>/<split>/<key>
    dataset VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    concept VARCHAR,
    target INTEGER,
    shard VARCHAR NOT NULL,      -- <source>/<relative path>
    "offset" BIGINT NOT NULL,
    length BIGINT NOT NULL,
    hash BLOB NOT NULL,          -- SHA-256 of the image bytes
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format VARCHAR NOT NULL
);

CREATE TABLE captions (          -- versioned: a captioner that runs again adds rows
    sample VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    texts VARCHAR[] NOT NULL,
    captioner VARCHAR NOT NULL,
    version VARCHAR NOT NULL     -- digest of the caption table
);

CREATE TABLE quarantine (
    id VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    shard VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);

CREATE TABLE ingest_runs (       -- every version ever recorded, captions too
    dataset VARCHAR NOT NULL,
    what VARCHAR NOT NULL,       -- 'samples' or 'captions'
    digest VARCHAR NOT NULL,
    rows_recorded BIGINT NOT NULL,
    recorded_at TIMESTAMP NOT NULL
);

CREATE TABLE streams (
    name VARCHAR PRIMARY KEY,
    digest VARCHAR NOT NULL,
    steps INTEGER NOT NULL,
    pretraining_samples BIGINT NOT NULL
);

CREATE TABLE stream_members (    -- which samples arrive at which step; -1 is the pretraining pool
    stream VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    sample VARCHAR NOT NULL
);

CREATE TABLE steps (             -- what each step of each recipe trained on, and the weights that came of it
    stream VARCHAR NOT NULL,
    recipe VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    step_plan VARCHAR NOT NULL,  -- digest
    checkpoint VARCHAR NOT NULL  -- digest of the expert
);

CREATE TABLE step_draws (        -- how often a step plan holds a sample, by the pool it came from
    step_plan VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    sample VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,    -- of the sample as it was then: ids live on when a dataset changes
    concept VARCHAR,
    draws INTEGER NOT NULL
);
