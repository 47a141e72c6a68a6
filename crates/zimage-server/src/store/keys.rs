//! API keys: 256 random bits each, of which the database has the SHA-256 only.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::params;
use sha2::Digest;
use subtle::{Choice, ConstantTimeEq};

use super::signed;
use crate::job::Millis;
use crate::queue::{Clock, QueueError};
use crate::store::Database;

/// The API keys of a database.
pub struct Keys {
    database: Arc<Database>,
    clock: Clock,
}

/// A key as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// Who has it.
    pub name: String,
    /// When it was made.
    pub created_ms: Millis,
}

/// A key when it is made: the only time that its token is to be seen.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// `zk-` and 64 hexadecimal digits.
    pub token: String,
}

impl Keys {
    /// The keys of a database.
    pub fn new(database: Arc<Database>, clock: Clock) -> Keys {
        Keys { database, clock }
    }

    /// Makes a key. A name that has one already is refused.
    ///
    /// # Errors
    /// Those of the database; [`QueueError::NoRandomness`] if the system gives no random bytes.
    pub fn create(&self, name: &str) -> Result<Option<NewKey>, QueueError> {
        let token = random_token()?;
        let now = (self.clock)();
        let added = self.database.write(|tx| {
            let sql = "INSERT INTO keys (name, digest, created_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING";
            Ok(tx.execute(sql, params![name, digest(&token), signed(now)])?)
        })?;
        Ok((added > 0).then_some(NewKey { token }))
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self) -> Result<Vec<ApiKey>, QueueError> {
        self.database.read(|tx| {
            let mut statement = tx.prepare_cached("SELECT name, created_ms FROM keys ORDER BY created_ms, rowid")?;
            let keys = statement
                .query_map([], |row| Ok(ApiKey { name: row.get(0)?, created_ms: row.get::<_, i64>(1)? as u64 }))?;
            Ok(keys.collect::<Result<_, _>>()?)
        })
    }

    /// Takes a key back; says whether there was one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn revoke(&self, name: &str) -> Result<bool, QueueError> {
        self.database.write(|tx| Ok(tx.execute("DELETE FROM keys WHERE name = ?", [name])? > 0))
    }

    /// The name of the key with this token. Every digest is compared, and in constant time.
    ///
    /// # Errors
    /// Those of the database.
    pub fn verify(&self, token: &str) -> Result<Option<String>, QueueError> {
        let asked = digest(token);
        let keys: Vec<(String, Vec<u8>)> = self.database.read(|tx| {
            let mut statement = tx.prepare_cached("SELECT name, digest FROM keys")?;
            let keys = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(keys.collect::<Result<_, _>>()?)
        })?;
        let compared: Vec<(String, Choice)> =
            keys.into_iter().map(|(name, digest)| (name, digest.ct_eq(&asked))).collect();
        Ok(compared.into_iter().find(|(_, is_it)| bool::from(*is_it)).map(|(name, _)| name))
    }

    /// Whether there is any key.
    ///
    /// # Errors
    /// Those of the database.
    pub fn any(&self) -> Result<bool, QueueError> {
        let exists = |row: &rusqlite::Row<'_>| row.get(0);
        self.database.read(|tx| Ok(tx.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], exists)?))
    }
}

fn random_token() -> Result<String, QueueError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| QueueError::NoRandomness(error.to_string()))?;
    let mut token = String::from("zk-");
    for byte in bytes {
        write!(token, "{byte:02x}").expect("a String takes all that is written: this is a bug");
    }
    Ok(token)
}

fn digest(token: &str) -> Vec<u8> {
    sha2::Sha256::digest(token.as_bytes()).to_vec()
}
