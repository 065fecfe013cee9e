-- Amounts are nano-dollars, times are Unix milliseconds. STRICT, so that a sum past 64 bits fails instead of becoming
-- a float.

CREATE TABLE ledger (
    seq            INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    owner          TEXT    NOT NULL,             -- the process that holds the reservation
    run            TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('pending', 'posted', 'voided', 'expired', 'refused')),
    started_at_ms  INTEGER NOT NULL,
    settled_at_ms  INTEGER,
    host           TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,             -- as the request named it: what caps match
    client         TEXT    NOT NULL,
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

CREATE INDEX ledger_by_start ON ledger (started_at_ms);
CREATE INDEX ledger_pending ON ledger (owner) WHERE state = 'pending';

CREATE TABLE balance (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    cap           TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    scope         TEXT    NOT NULL,
    period        TEXT    NOT NULL,
    run           TEXT    NOT NULL,              -- empty unless the cap is per run
    starts_at_ms  INTEGER NOT NULL,
    resets_at_ms  INTEGER NOT NULL,              -- 9223372036854775807 when it never resets
    match         TEXT    NOT NULL,              -- JSON: [[label, glob], …]
    posted        INTEGER NOT NULL CHECK (posted >= 0),
    pending       INTEGER NOT NULL CHECK (pending >= 0),
    UNIQUE (key, scope, period)
) STRICT;

CREATE INDEX balance_live ON balance (run, resets_at_ms);

CREATE TABLE process (
    owner          TEXT    PRIMARY KEY,
    lease_until_ms INTEGER NOT NULL
) STRICT;
