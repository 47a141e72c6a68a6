//! `zimage db`: the server's database.

use std::process::ExitCode;
use std::sync::Arc;

use zimage_server::queue::system_clock;
use zimage_server::store::{Files, Gallery, rebuild};

use super::keys::{database, failed};
use crate::args::DbCommand;
use crate::env::Environment;
use crate::failure::Failure;
use crate::progress::Progress;

pub fn run(command: &DbCommand, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    match command {
        DbCommand::Rebuild => {
            let gallery = Gallery::new(Arc::new(database(environment)?), system_clock());
            let files = Files::open(&environment.home)
                .map_err(|error| Failure::failed(format!("cannot read {}: {error}", environment.home.display())))?;
            progress.stage("reading pictures");
            let found = rebuild(&files, &gallery).map_err(failed)?;
            progress.finish();
            let (added, known, skipped) = (found.added, found.known, found.skipped);
            progress.note(&format!("{added} pictures added, {known} were known, {skipped} files skipped"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
