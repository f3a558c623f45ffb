-- What was read of the warehouse: facts that can be read again, so no part of the trail.
CREATE TABLE catalog_databases (
    name TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_relations (
    database TEXT NOT NULL,
    -- Full name as it is printed.
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (database, name)
) STRICT, WITHOUT ROWID;
