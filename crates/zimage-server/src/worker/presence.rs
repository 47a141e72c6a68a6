//! Proof that a worker lives: a locked file. The operating system unlocks it when the process ends, however it ends, so
//! that the jobs of a killed process need not wait for their leases to run out.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A worker's name and its locked file.
pub struct Presence {
    folder: PathBuf,
    name: String,
    /// Locked while this lives.
    _file: File,
}

impl Presence {
    /// Announces a worker in `<home>/workers`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn announce(home: &Path) -> io::Result<Presence> {
        let folder = home.join("workers");
        fs::create_dir_all(&folder)?;
        let name = Uuid::now_v7().to_string();
        let file = File::create_new(folder.join(&name))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Presence { folder, name, _file: file })
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether another worker's process is gone. Where that can't be told it is taken for alive, and its leases run out.
    pub fn is_dead(&self, name: &str) -> bool {
        // Names come from the database, and make a path here.
        if name == self.name || name.parse::<Uuid>().is_err() {
            return false;
        }
        let path = self.folder.join(name);
        match File::open(&path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(file) => match file.try_lock() {
                Ok(()) => {
                    // Nobody needs it any more; another survivor may have removed it first.
                    let _ = fs::remove_file(&path);
                    true
                }
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
            },
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // A file that is left behind is unlocked, and says the same.
        let _ = fs::remove_file(self.folder.join(&self.name));
    }
}
