-- Where reading began, so that what is missing behind it is noticed after a restart too.

CREATE TABLE scope (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    scope TEXT NOT NULL
) STRICT;

CREATE TABLE origin (
    journal TEXT PRIMARY KEY REFERENCES journal (journal),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
