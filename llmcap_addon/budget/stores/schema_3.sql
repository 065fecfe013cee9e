-- How a call is paid: by the token, or notionally, under a subscription. All that was written before was by the token.

ALTER TABLE ledger ADD COLUMN billing TEXT NOT NULL DEFAULT 'api';

CREATE TABLE spent_by_label (
    day      INTEGER NOT NULL,                   -- since 1970-01-01
    host     TEXT    NOT NULL,
    provider TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    billing  TEXT    NOT NULL,
    run      TEXT    NOT NULL,
    cost     INTEGER NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (day, host, provider, model, client, billing, run)
) STRICT, WITHOUT ROWID;

INSERT INTO spent_by_label SELECT day, host, provider, model, client, 'api', run, cost FROM spent;
DROP TABLE spent;
ALTER TABLE spent_by_label RENAME TO spent;
