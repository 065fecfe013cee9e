-- Calls whose bill comes with the answer to a later request: they are nobody's (their owner is empty) and expire by a
-- time of their own. And notes, by which such an answer is known.

ALTER TABLE ledger ADD COLUMN due_ms INTEGER;

CREATE INDEX ledger_due ON ledger (due_ms) WHERE state = 'pending' AND due_ms IS NOT NULL;

CREATE TABLE note (
    key      TEXT    PRIMARY KEY,
    value    TEXT    NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX note_by_end ON note (until_ms);
