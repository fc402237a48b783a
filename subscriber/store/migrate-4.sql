-- Which event of another journal a branch goes on behind, so that a release reaches over it.

CREATE TABLE continued (
    journal TEXT NOT NULL REFERENCES journal (journal),
    branch TEXT NOT NULL,
    before TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (journal, branch)
) STRICT, WITHOUT ROWID;
