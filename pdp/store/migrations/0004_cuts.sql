-- Which decision had a part of its result cut: derived from the bodies of those records.
ALTER TABLE runs ADD COLUMN cut_seq INTEGER REFERENCES records (seq);

CREATE UNIQUE INDEX runs_cut_seq ON runs (cut_seq) WHERE cut_seq IS NOT NULL;
CREATE INDEX runs_cut ON runs (seq) WHERE cut_seq IS NOT NULL;
