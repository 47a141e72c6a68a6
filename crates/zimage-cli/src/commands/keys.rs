//! `zimage keys`: who may use the server.

use std::process::ExitCode;
use std::sync::Arc;

use zimage_server::queue::{QueueError, system_clock};
use zimage_server::store::{Database, Keys};

use crate::args::KeysCommand;
use crate::env::Environment;
use crate::failure::{Failure, printable_name};
use crate::output::print_line;

pub fn run(command: &KeysCommand, environment: &Environment) -> Result<ExitCode, Failure> {
    let keys = Keys::new(Arc::new(database(environment)?), system_clock());
    match command {
        KeysCommand::Create { name } => {
            if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                return Err(Failure::usage("a key's name has 1 to 64 characters"));
            }
            let key = keys.create(name).map_err(failed)?.ok_or_else(|| {
                Failure::usage(format!("`{name}` has a key already"))
                    .with_hint("revoke it first, or choose another name")
            })?;
            print_line(&key.token)?;
        }
        KeysCommand::List => {
            for key in keys.list().map_err(failed)? {
                print_line(&printable_name(&key.name))?;
            }
        }
        KeysCommand::Revoke { name } => {
            if !keys.revoke(name).map_err(failed)? {
                return Err(
                    Failure::usage(format!("`{name}` has no key")).with_hint("`zimage keys list` has the names")
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The database of the home directory.
pub fn database(environment: &Environment) -> Result<Database, Failure> {
    let path = environment.home.join("zimage.db");
    std::fs::create_dir_all(&environment.home)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", environment.home.display())))?;
    Database::open(&path).map_err(|error| Failure::failed(format!("{} cannot be used: {error}", path.display())))
}

pub fn failed(error: QueueError) -> Failure {
    Failure::failed(error)
}
