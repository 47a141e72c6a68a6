use tempfile::TempDir;

use super::*;

fn home() -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a folder for the test");
    let path = home.path().join("zimage.db");
    (home, path)
}

fn version(database: &Database) -> u32 {
    let version = |tx: &Transaction<'_>| Ok(tx.pragma_query_value(None, "user_version", |row| row.get(0))?);
    database.read(version).expect("the version is read")
}

fn message(path: &Path) -> String {
    Database::open(path).err().expect("the file is refused").to_string()
}

#[test]
fn a_new_database_has_the_latest_schema_and_stays_as_it_is() {
    let (_home, path) = home();
    for _ in 0..2 {
        assert_eq!(version(&Database::open(&path).expect("it opens")) as usize, MIGRATIONS.len());
    }
}

#[test]
fn processes_that_open_a_new_database_at_once_all_succeed() {
    for _ in 0..30 {
        let (_home, path) = home();
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    Database::open(&path).expect("it opens, however many do so");
                });
            }
        });
    }
}

#[test]
fn every_connection_has_its_settings() {
    let (_home, path) = home();
    let database = Database::open(&path).expect("it opens");
    let text = |tx: &Transaction<'_>, name: &str| -> String {
        let value: rusqlite::types::Value = tx.pragma_query_value(None, name, |row| row.get(0)).expect("a setting");
        format!("{value:?}")
    };
    let settings = |tx: &Transaction<'_>| {
        Ok(["journal_mode", "synchronous", "foreign_keys", "busy_timeout"].map(|name| text(tx, name)))
    };
    let expected = ["Text(\"wal\")", "Integer(1)", "Integer(1)", "Integer(5000)"];
    assert_eq!(database.write(settings).expect("it writes"), expected);
    assert_eq!(database.read(settings).expect("it reads"), expected);
}

#[test]
fn a_newer_schema_is_refused_by_its_number() {
    let (_home, path) = home();
    drop(Database::open(&path).expect("it opens"));
    Connection::open(&path).and_then(|it| it.pragma_update(None, "user_version", 99)).expect("the version is set");
    let expected = format!(
        "the job database has schema version 99, and this program knows {} at most; use a newer zimage",
        MIGRATIONS.len()
    );
    assert_eq!(message(&path), expected);
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let (_home, path) = home();
    std::fs::write(&path, "a letter to my aunt ".repeat(100)).expect("it is written");
    let expected = format!("the job database {} cannot be used: it is no SQLite database", path.display());
    assert_eq!(message(&path), expected);
}

#[test]
fn a_damaged_database_is_named() {
    let (_home, path) = home();
    drop(Database::open(&path).expect("it opens"));
    let mut bytes = std::fs::read(&path).expect("it is read");
    bytes[100..4096].fill(0xA5);
    std::fs::write(&path, bytes).expect("it is written");
    let expected = format!("the job database {} cannot be used: it is damaged", path.display());
    assert_eq!(message(&path), expected);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (home, _) = home();
    let path = home.path().join("nowhere").join("zimage.db");
    assert_eq!(message(&path), format!("the job database {} cannot be used: it cannot be opened", path.display()));
}

#[test]
fn an_error_takes_back_what_was_written() {
    let (_home, path) = home();
    let database = Database::open(&path).expect("it opens");
    let failed: Result<(), _> = database.write(|tx| {
        tx.execute("INSERT INTO keys VALUES ('ann', x'00', 1)", [])?;
        Err(QueueError::Damaged("on purpose".into()))
    });
    assert!(failed.is_err());
    let count = |tx: &Transaction<'_>| Ok(tx.query_row("SELECT COUNT(*) FROM keys", [], |row| row.get::<_, u32>(0))?);
    assert_eq!(database.read(count).expect("it reads"), 0);
}

#[test]
fn a_panic_takes_back_what_was_written_and_leaves_the_database_usable() {
    let (_home, path) = home();
    let database = Database::open(&path).expect("it opens");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        database.write(|tx| -> Result<(), QueueError> {
            tx.execute("INSERT INTO keys VALUES ('ann', x'00', 1)", [])?;
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    let added = database.write(|tx| Ok(tx.execute("INSERT INTO keys VALUES ('ann', x'00', 1)", [])?));
    assert_eq!(added.expect("it writes"), 1);
}

#[test]
fn readers_do_not_wait_for_a_writer_and_see_none_of_it() {
    let (_home, path) = home();
    let database = Database::open(&path).expect("it opens");
    let count = |tx: &Transaction<'_>| Ok(tx.query_row("SELECT COUNT(*) FROM keys", [], |row| row.get::<_, u32>(0))?);
    let seen = database.write(|tx| {
        tx.execute("INSERT INTO keys VALUES ('ann', x'00', 1)", [])?;
        database.read(count)
    });
    assert_eq!((seen.expect("it reads"), database.read(count).expect("it reads")), (0, 1));
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_home, path) = home();
    let database = Database::open(&path).expect("it opens");
    database.write(|tx| Ok(tx.execute("INSERT INTO keys VALUES ('ann', x'00', 1)", [])?)).expect("it writes");
    for name in ["zimage.db", "zimage.db-wal"] {
        let metadata = std::fs::metadata(path.with_file_name(name)).expect("the file is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
