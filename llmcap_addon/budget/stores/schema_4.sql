-- Calls whose bill comes with the answer to a later request: they are nobody's (their owner is empty) and expire by a
-- time of their own. And notes, by which such an answer is known.
--
-- What an operation takes is mostly the pages it writes. So the ledger's rows are in the order of their calls' starts by
-- themselves, without an index for that; those that can still change have one index instead of two; and amounts stand
-- close together, apart from what a balance counts, which never changes.

CREATE TABLE ledger_new (
    seq            INTEGER PRIMARY KEY,          -- the start in ms, times 2^20, and a number among those of that ms
    id             TEXT    NOT NULL UNIQUE,
    owner          TEXT    NOT NULL,             -- the process that holds the reservation; empty for what was deferred
    run            TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('pending', 'posted', 'voided', 'expired', 'refused')),
    started_at_ms  INTEGER NOT NULL,
    settled_at_ms  INTEGER,
    due_ms         INTEGER,                      -- when it expires, if it was deferred
    host           TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,             -- as the request named it: what caps match
    client         TEXT    NOT NULL,
    billing        TEXT    NOT NULL,
    dialect        TEXT    NOT NULL,
    streamed       INTEGER NOT NULL,
    reserved       INTEGER NOT NULL CHECK (reserved >= 0),
    cost           INTEGER NOT NULL CHECK (cost >= 0),
    usage          TEXT    NOT NULL,             -- JSON: the counts that are not 0
    marks          TEXT    NOT NULL,             -- words, with blanks between
    status         INTEGER NOT NULL,
    response_model TEXT    NOT NULL,             -- where it differs from the request's
    note           TEXT    NOT NULL,
    charges        TEXT    NOT NULL,             -- JSON: ids of the balances it counts in
    caps           TEXT    NOT NULL              -- JSON: their caps' names, or those that refused it
) STRICT;

INSERT INTO ledger_new
SELECT (start << 20) + row_number() OVER (PARTITION BY start ORDER BY seq) - 1, id, owner, run, state, started_at_ms,
    settled_at_ms, NULL, host, provider, model, client, billing, dialect, streamed, reserved, cost, usage, marks,
    status, response_model, note, charges, caps
FROM (SELECT *, max(0, min(started_at_ms, 8796093022206)) AS start FROM ledger);

DROP TABLE ledger;
ALTER TABLE ledger_new RENAME TO ledger;

CREATE INDEX ledger_open ON ledger (state, owner) WHERE state IN ('pending', 'expired');
CREATE INDEX ledger_due ON ledger (due_ms) WHERE state = 'pending' AND due_ms IS NOT NULL;

CREATE TABLE amount (
    id      INTEGER PRIMARY KEY,                 -- the balance's
    posted  INTEGER NOT NULL CHECK (posted >= 0),
    pending INTEGER NOT NULL CHECK (pending >= 0)
) STRICT;

INSERT INTO amount SELECT id, posted, pending FROM balance;
ALTER TABLE balance DROP COLUMN posted;
ALTER TABLE balance DROP COLUMN pending;

CREATE TABLE note (
    key      TEXT    PRIMARY KEY,
    value    TEXT    NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX note_by_end ON note (until_ms);
