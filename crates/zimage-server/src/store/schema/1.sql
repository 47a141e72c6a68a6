-- Times are milliseconds since 1970. Unsigned 64-bit numbers are stored as the signed ones of the same bits.

CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    spec TEXT NOT NULL,                     -- JSON
    batch_key TEXT NOT NULL,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,              -- 0 interactive, 1 batch
    front INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    tag INTEGER NOT NULL,                   -- where its turn begins
    had_turn INTEGER NOT NULL DEFAULT 0,    -- it was claimed before: it goes first, and is not charged again
    idempotency_key TEXT,
    tokens_used INTEGER NOT NULL,
    tokens_dropped INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    finished_ms INTEGER,
    claims INTEGER NOT NULL DEFAULT 0,      -- the fencing token: it only rises
    releases INTEGER NOT NULL DEFAULT 0,    -- claims that do not count as attempts
    worker TEXT,
    lease_until_ms INTEGER,
    progress TEXT,                          -- JSON
    error TEXT                              -- JSON
);
-- The conditions are repeated word for word in every query that is to use these.
CREATE INDEX jobs_running ON jobs (lease_until_ms) WHERE state = 'running';
CREATE INDEX jobs_in_line ON jobs (priority, had_turn DESC, tag, seq, state, owner, batch_key, lease_until_ms)
    WHERE state IN ('queued', 'running');
CREATE INDEX jobs_of_owner ON jobs (owner, priority) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_by_key ON jobs (owner, idempotency_key, created_ms) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_ms) WHERE finished_ms IS NOT NULL;

-- Where an owner's last turn in a line ends.
CREATE TABLE accounts (
    priority INTEGER NOT NULL,
    owner TEXT NOT NULL,
    finish INTEGER NOT NULL,
    PRIMARY KEY (priority, owner)
) WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES
    ('interactive virtual time', 0), ('batch virtual time', 0), ('interactive claims', 0),
    ('shown images', 0), ('shown favourites', 0);

-- AUTOINCREMENT: numbers are not used again when old events are gone.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES jobs (seq),
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL                      -- JSON
);
CREATE INDEX events_of_job ON events (job, seq);

CREATE TABLE journals (
    job INTEGER PRIMARY KEY REFERENCES jobs (seq),
    image INTEGER NOT NULL,
    step INTEGER NOT NULL,
    latents BLOB NOT NULL
);

-- The gallery: one row for each file, with the job that made it last.
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256 TEXT NOT NULL UNIQUE,
    job TEXT,
    idx INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    favourite INTEGER NOT NULL DEFAULT 0,
    deleted_ms INTEGER,
    prompt TEXT NOT NULL
);
CREATE INDEX images_shown ON images (created_ms, id) WHERE deleted_ms IS NULL;
CREATE INDEX images_favourite ON images (created_ms, id) WHERE deleted_ms IS NULL AND favourite = 1;
CREATE INDEX images_deleted ON images (deleted_ms) WHERE deleted_ms IS NOT NULL;

-- Which pictures a job has.
CREATE TABLE job_images (
    job INTEGER NOT NULL REFERENCES jobs (seq),
    idx INTEGER NOT NULL,
    image INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    seed INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (job, idx)
) WITHOUT ROWID;
CREATE INDEX job_images_of_image ON job_images (image);

-- Words of the prompts of shown pictures; Chinese and Japanese characters are a word each (store/search.rs). What was
-- deleted is not in it, so that matches can be counted without looking at the pictures.
CREATE VIRTUAL TABLE images_fts USING fts5 (
    words, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- How many pictures there are, so that a page of a large gallery need not count them.
CREATE TRIGGER images_added AFTER INSERT ON images BEGIN
    UPDATE counters SET value = value + (NEW.deleted_ms IS NULL) WHERE name = 'shown images';
    UPDATE counters SET value = value + (NEW.deleted_ms IS NULL AND NEW.favourite) WHERE name = 'shown favourites';
END;
CREATE TRIGGER images_changed AFTER UPDATE OF favourite, deleted_ms ON images BEGIN
    UPDATE counters SET value = value + (NEW.deleted_ms IS NULL) - (OLD.deleted_ms IS NULL)
        WHERE name = 'shown images';
    UPDATE counters
        SET value = value + (NEW.deleted_ms IS NULL AND NEW.favourite) - (OLD.deleted_ms IS NULL AND OLD.favourite)
        WHERE name = 'shown favourites';
END;
CREATE TRIGGER images_hidden AFTER UPDATE OF deleted_ms ON images
    WHEN OLD.deleted_ms IS NULL AND NEW.deleted_ms IS NOT NULL BEGIN
    DELETE FROM images_fts WHERE rowid = OLD.id;
END;
CREATE TRIGGER images_removed AFTER DELETE ON images BEGIN
    UPDATE counters SET value = value - (OLD.deleted_ms IS NULL) WHERE name = 'shown images';
    UPDATE counters SET value = value - (OLD.deleted_ms IS NULL AND OLD.favourite) WHERE name = 'shown favourites';
    DELETE FROM images_fts WHERE rowid = OLD.id;
END;

CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL,                   -- SHA-256 of the token
    created_ms INTEGER NOT NULL
);
