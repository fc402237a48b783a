-- What a relay remembers of its subscribers. It tells `zmq-relay status` how far each one is, and
-- which store a name belongs to. Positions that matter are kept by the subscribers themselves.
--
-- subscriber  name   the subject of its certificate
--             store  the id of the store that the name belongs to
--             seen   unix seconds of its last message
--             failed unix seconds of the last end of a session that was no goodbye, and error, why
-- position    one row per subscriber and journal it follows; sequence: everything up to here is
--             stored by the subscriber. repo: the name at that time.
PRAGMA user_version = 1;
CREATE TABLE subscriber (
    name  TEXT NOT NULL PRIMARY KEY,
    store TEXT NOT NULL,
    seen  REAL NOT NULL,
    failed REAL,
    error TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE position (
    name     TEXT NOT NULL REFERENCES subscriber (name),
    journal  TEXT NOT NULL,
    repo     TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (name, journal)
) STRICT, WITHOUT ROWID;
