use tempfile::TempDir;

use super::*;

fn leave(root: &Path, age: Duration) -> PathBuf {
    let path = temporary_name(root);
    let file = write_locked(&path, b"half").expect("it is written");
    file.set_modified(SystemTime::now() - age).expect("it is made old");
    path
}

#[test]
fn temporary_files_of_dead_writers_are_removed() {
    let home = TempDir::new().expect("a folder for the test");
    let files = Files::open(home.path()).expect("it opens");
    let old: Vec<_> =
        [&files.images, &files.inputs, &files.thumbnails].map(|root| leave(root, MIN_LEFTOVER_AGE)).into();
    let young = leave(&files.images, Duration::ZERO);
    Files::open(home.path()).expect("it opens");
    assert!(old.iter().all(|path| !path.exists()));
    assert!(young.exists());
}

#[test]
fn temporary_files_that_are_being_written_stay() {
    let home = TempDir::new().expect("a folder for the test");
    let files = Files::open(home.path()).expect("it opens");
    let path = temporary_name(&files.images);
    let writer = write_locked(&path, b"half").expect("it is written");
    writer.set_modified(SystemTime::now() - MIN_LEFTOVER_AGE * 2).expect("it is made old");
    Files::open(home.path()).expect("it opens");
    assert!(path.exists());
    drop(writer);
    Files::open(home.path()).expect("it opens");
    assert!(!path.exists());
}
