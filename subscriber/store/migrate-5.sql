-- An operator may also answer for events whose certificate was revoked.

ALTER TABLE decision RENAME TO decision_4;

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

INSERT INTO decision SELECT * FROM decision_4;
DROP TABLE decision_4;
CREATE INDEX decision_journal ON decision (journal, sequence);
