-- What was posted, summed up by the day (of UTC) on which calls began and by their labels: so that a new balance does
-- not read all rows of its period. It changes with `ledger.cost`, in the same transaction.

CREATE TABLE spent (
    day      INTEGER NOT NULL,                   -- since 1970-01-01
    host     TEXT    NOT NULL,
    provider TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    run      TEXT    NOT NULL,
    cost     INTEGER NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (day, host, provider, model, client, run)
) STRICT, WITHOUT ROWID;

INSERT INTO spent
SELECT started_at_ms / 86400000, host, provider, model, client, run, sum(cost) FROM ledger WHERE cost > 0
GROUP BY 1, host, provider, model, client, run;

-- The rows that can still change what they count for.
CREATE INDEX ledger_open ON ledger (started_at_ms) WHERE state IN ('pending', 'expired');
