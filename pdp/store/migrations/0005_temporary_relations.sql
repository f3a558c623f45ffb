-- Relations that only the session sees which made them, for its later statements. Nothing here is believed of another session.
CREATE TABLE temporary_relations (
    session_id TEXT NOT NULL,
    -- Full name as it is printed.
    name TEXT NOT NULL,
    -- The decision whose statement makes it.
    decision_id TEXT NOT NULL,
    -- 1 once that statement has ended well.
    made INTEGER NOT NULL CHECK (made IN (0, 1)),
    -- 1 when it is the only statement of its request.
    alone INTEGER NOT NULL CHECK (alone IN (0, 1)),
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, name, decision_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX temporary_relations_decision ON temporary_relations (decision_id);
