//! A directory for the functions that take a path.

use std::path::PathBuf;

use tempfile::TempDir;

thread_local! {
    /// One per thread, since each run writes the same names.
    static SCRATCH: TempDir = tempfile::tempdir().expect("a temporary directory can be made");
}

/// Writes files into an empty folder of a temporary directory; the answer is the folder.
pub(crate) fn folder(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = SCRATCH.with(|scratch| scratch.path().join("own").join(name));
    std::fs::create_dir_all(&folder).expect("a temporary directory takes folders");
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).expect("a temporary directory takes files");
    }
    folder
}
