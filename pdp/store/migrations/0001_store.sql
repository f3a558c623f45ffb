-- The trail. Everything a record says is in `body`; nothing else here is believed without comparing it with that.
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at INTEGER GENERATED ALWAYS AS (json_extract(CAST(body AS TEXT), '$.at')) VIRTUAL
) STRICT;

CREATE INDEX records_at ON records (at);

CREATE TRIGGER records_no_update BEFORE UPDATE ON records
BEGIN
    SELECT RAISE(ABORT, 'records are append-only');
END;

CREATE TRIGGER records_no_delete BEFORE DELETE ON records
BEGIN
    SELECT RAISE(ABORT, 'records are append-only');
END;

-- What a record can be found by: derived from its body, one row per word.
CREATE TABLE records_terms (
    term TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES records (seq),
    PRIMARY KEY (term, seq)
) STRICT, WITHOUT ROWID;

-- Which decision has which outcome record: derived from their bodies.
CREATE TABLE runs (
    decision_id TEXT PRIMARY KEY NOT NULL,
    -- The decision's record; absent when only its outcome came.
    seq INTEGER REFERENCES records (seq),
    pep_id TEXT,
    pep_instance TEXT,
    -- 1 when a statement may be sent under it, so that an outcome is to follow.
    runs INTEGER NOT NULL CHECK (runs IN (0, 1)),
    outcome_seq INTEGER REFERENCES records (seq),
    status TEXT
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX runs_seq ON runs (seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX runs_outcome_seq ON runs (outcome_seq) WHERE outcome_seq IS NOT NULL;
CREATE INDEX runs_status ON runs (status, seq) WHERE status IS NOT NULL;
CREATE INDEX runs_open ON runs (pep_id, seq) WHERE runs = 1 AND outcome_seq IS NULL;

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'closed', 'revoked', 'expired')),
    body TEXT NOT NULL,
    principal TEXT GENERATED ALWAYS AS (json_extract(body, '$.principal.id')) VIRTUAL,
    opened INTEGER GENERATED ALWAYS AS (json_extract(body, '$.opened')) VIRTUAL,
    expires INTEGER GENERATED ALWAYS AS (json_extract(body, '$.expires')) VIRTUAL
) STRICT;

CREATE INDEX sessions_opened ON sessions (opened);
CREATE INDEX sessions_principal ON sessions (principal, opened);
CREATE INDEX sessions_active ON sessions (expires) WHERE state = 'active';

-- Tokens of these principals issued before `not_before` are refused.
CREATE TABLE revocations (
    principal TEXT PRIMARY KEY NOT NULL,
    not_before INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    id TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    state TEXT GENERATED ALWAYS AS (json_extract(body, '$.state')) VIRTUAL,
    requester TEXT GENERATED ALWAYS AS (json_extract(body, '$.requester.id')) VIRTUAL,
    created INTEGER GENERATED ALWAYS AS (json_extract(body, '$.created')) VIRTUAL,
    statement_sha256 TEXT GENERATED ALWAYS AS (json_extract(body, '$.statement_sha256')) VIRTUAL,
    session_id TEXT GENERATED ALWAYS AS (json_extract(body, '$.session_id')) VIRTUAL
) STRICT;

CREATE INDEX approvals_created ON approvals (created);
CREATE INDEX approvals_open ON approvals (created) WHERE state IN ('pending', 'approved');
CREATE INDEX approvals_statement ON approvals (statement_sha256);
