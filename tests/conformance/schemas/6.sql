-- The SQLite store, version 6: user_version 6. Times are unix seconds.
--
--   store        one row: who this store is
--   relay        relays whose first WELCOME was kept
--   contact      when each relay was last heard, and what went wrong last
--   journal      one row per journal, with the position (`scanned`) up to which it was looked at
--   scope        what is read: the patterns asked for, and those that our certificate allows
--   origin       behind which sequence reading of a journal began with that scope
--   pruned       up to which sequence the events of a journal were forgotten
--   follower     which instance follows a journal, and until when
--   chain_head   the newest stored event of each branch of a journal
--   continued    which event of another journal a branch's first one stands behind
--   certificate  tokens that stored events name, once each, and how many events that are
--   event        the inbox: exact bytes, in order of acceptance (`number`)
--   node         by which events each changeset was told of; the same nodes stand in the event
--   rule         whose turn it is: the fence of the newest claim of each; the next is above all
--   pause        rules that are not claimed
--   lane         what is open of one rule with one order key: the unit of order
--   delivery     open ones are the queue of their lane, final ones stay as its history
--   receipt      one row per attempt that ended
--   decision     what operators decided: who, when, about which journal
--
-- A lane is there while something in it is open. Its state follows from that: `turn` is set while
-- it is ready (the lanes of a rule are served by turn), `due` while it is delayed (when that ends),
-- neither while it is leased or held. A change of this file is a new version: keep the old text in
-- tests/conformance/schemas and add migrate-N.sql (see migrate.py).

CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL
) STRICT;

CREATE TABLE relay (
    name TEXT PRIMARY KEY,
    learned REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    number INTEGER PRIMARY KEY,
    journal TEXT NOT NULL UNIQUE,
    repo TEXT NOT NULL,
    relay TEXT NOT NULL,
    scanned INTEGER,
    since REAL,
    head INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    stopped TEXT
) STRICT;

CREATE TABLE scope (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    scope TEXT NOT NULL
) STRICT;

CREATE TABLE origin (
    journal TEXT PRIMARY KEY REFERENCES journal (journal),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pruned (
    journal TEXT PRIMARY KEY REFERENCES journal (journal),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE follower (
    journal TEXT PRIMARY KEY,
    instance TEXT NOT NULL,
    until REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE chain_head (
    journal TEXT NOT NULL REFERENCES journal (journal),
    branch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (journal, branch)
) STRICT, WITHOUT ROWID;

CREATE TABLE continued (
    journal TEXT NOT NULL REFERENCES journal (journal),
    branch TEXT NOT NULL,
    before TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (journal, branch)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE node (
    node TEXT NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (node, event)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE contact (
    relay TEXT PRIMARY KEY,
    seen REAL,
    failed REAL,
    error TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE decision (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    verb TEXT NOT NULL CHECK (verb IN ('release', 'admit', 'vouch')),
    journal TEXT NOT NULL REFERENCES journal (journal),
    branch TEXT,
    sequence INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX decision_journal ON decision (journal, sequence);
