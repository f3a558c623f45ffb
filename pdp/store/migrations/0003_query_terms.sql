-- Outcomes are found by their query id: what records from now on have, for those that are there.
INSERT OR IGNORE INTO records_terms (term, seq)
SELECT 'query:' || (CAST(body AS TEXT) ->> '$.event.query_id'), seq FROM records
WHERE CAST(body AS TEXT) ->> '$.event.kind' = 'outcome' AND CAST(body AS TEXT) ->> '$.event.query_id' IS NOT NULL;
