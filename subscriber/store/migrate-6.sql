-- Rules take turns and can be paused, deliveries hold locks and can be redelivered, and what is
-- done can be forgotten. Lanes are kept while something in them is open. Events tell of changesets.

ALTER TABLE store RENAME TO store_5;

CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL
) STRICT;

INSERT INTO store SELECT one, identity FROM store_5;

CREATE TABLE pruned (
    journal TEXT PRIMARY KEY REFERENCES journal (journal),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE follower (
    journal TEXT PRIMARY KEY,
    instance TEXT NOT NULL,
    until REAL NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE event RENAME TO event_5;
ALTER TABLE certificate RENAME TO certificate_5;
DROP INDEX event_held;

CREATE TABLE certificate (
    sha256 TEXT PRIMARY KEY,
    token BLOB NOT NULL,
    events INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    journal TEXT NOT NULL REFERENCES journal (journal),
    sequence INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    repo TEXT NOT NULL,
    branch TEXT NOT NULL,
    topic TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    "transaction" TEXT NOT NULL,
    part INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    event BLOB NOT NULL,
    signature BLOB NOT NULL,
    certificate TEXT NOT NULL,
    received REAL NOT NULL,
    held INTEGER NOT NULL CHECK (held IN (0, 1)),
    nodes TEXT NOT NULL,
    UNIQUE (journal, sequence)
) STRICT;

CREATE INDEX event_held ON event (journal, branch, sequence) WHERE held = 1;

INSERT INTO event SELECT *, '' FROM event_5;

INSERT INTO certificate
SELECT certificate_5.sha256, token, count(event.number)
FROM certificate_5 LEFT JOIN event ON event.certificate = certificate_5.sha256
GROUP BY certificate_5.sha256;

DROP TABLE event_5;
DROP TABLE certificate_5;

CREATE TABLE node (
    node TEXT NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (node, event)
) STRICT, WITHOUT ROWID;

ALTER TABLE receipt RENAME TO receipt_5;
ALTER TABLE delivery RENAME TO delivery_5;
ALTER TABLE lane RENAME TO lane_5;
DROP INDEX lane_ready;
DROP INDEX lane_due;
DROP INDEX delivery_open;
DROP INDEX delivery_state;
DROP INDEX delivery_event;

CREATE TABLE rule (
    rule TEXT PRIMARY KEY,
    turn INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE pause (
    rule TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    at REAL NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lane (
    rule TEXT NOT NULL REFERENCES rule (rule),
    order_key TEXT NOT NULL,
    turn INTEGER,
    due REAL,
    PRIMARY KEY (rule, order_key),
    CHECK (turn IS NULL OR due IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX lane_ready ON lane (rule, turn) WHERE turn IS NOT NULL;

CREATE INDEX lane_due ON lane (rule, due) WHERE due IS NOT NULL;

CREATE TABLE delivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL REFERENCES rule (rule),
    order_key TEXT NOT NULL,
    repo TEXT NOT NULL,
    branch TEXT NOT NULL,
    topic TEXT NOT NULL,
    journal TEXT NOT NULL REFERENCES journal (journal),
    event_id TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    node TEXT,
    user TEXT,
    created REAL NOT NULL,
    latest INTEGER NOT NULL CHECK (latest IN (0, 1)),
    state TEXT NOT NULL CHECK (
        state IN ('pending', 'running', 'retrying', 'held', 'done', 'dead', 'superseded')
    ),
    attempts INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    owner TEXT,
    claimed REAL,
    lease_until REAL,
    lock TEXT,
    due REAL,
    ended REAL,
    renewed INTEGER NOT NULL DEFAULT 0,
    CHECK ((ended IS NULL) = (state IN ('pending', 'running', 'retrying', 'held'))),
    CHECK ((lease_until IS NULL) = (state != 'running'))
) STRICT;

CREATE INDEX delivery_open ON delivery (rule, order_key, number) WHERE ended IS NULL;

CREATE INDEX delivery_state ON delivery (state, number);

CREATE INDEX delivery_ended ON delivery (ended) WHERE ended IS NOT NULL;

CREATE INDEX delivery_last ON delivery (last);

CREATE INDEX delivery_parts ON delivery (journal, first) WHERE first < last;

CREATE TABLE receipt (
    delivery INTEGER NOT NULL REFERENCES delivery (number),
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    owner TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    exit_status INTEGER,
    signal INTEGER,
    output BLOB NOT NULL,
    truncated INTEGER NOT NULL CHECK (truncated IN (0, 1)),
    counted INTEGER NOT NULL CHECK (counted IN (0, 1)),
    PRIMARY KEY (delivery, fence)
) STRICT, WITHOUT ROWID;

INSERT INTO rule SELECT DISTINCT rule, fence FROM lane_5, store_5;

INSERT INTO delivery
SELECT number, id, rule, order_key, repo, branch, topic, journal, event_id, first, last, node, user,
    created, 0, state, attempts, lost, fence, reason, owner, claimed,
    CASE state WHEN 'running' THEN lane_5.due END, NULL,
    CASE state WHEN 'retrying' THEN coalesce(lane_5.due, created) END, ended, 0
FROM delivery_5 JOIN lane_5 USING (lane);

INSERT INTO lane
SELECT rule, order_key, turn,
    CASE WHEN EXISTS (
        SELECT 1 FROM delivery
        WHERE delivery.rule = lane_5.rule AND delivery.order_key = lane_5.order_key
            AND lease_until IS NOT NULL
    ) THEN NULL ELSE due END
FROM lane_5 WHERE EXISTS (
    SELECT 1 FROM delivery
    WHERE delivery.rule = lane_5.rule AND delivery.order_key = lane_5.order_key AND ended IS NULL
);

INSERT INTO receipt SELECT * FROM receipt_5;

DROP TABLE store_5;
DROP TABLE receipt_5;
DROP TABLE delivery_5;
DROP TABLE lane_5;
