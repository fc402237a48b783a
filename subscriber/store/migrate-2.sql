-- Contacts with relays, and the decisions of operators.

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
    verb TEXT NOT NULL CHECK (verb IN ('release', 'admit')),
    journal TEXT NOT NULL REFERENCES journal (journal),
    branch TEXT,
    sequence INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX decision_journal ON decision (journal, sequence);
