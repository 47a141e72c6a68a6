//! `zimage models`: the models on this machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use zimage_store::{Check, Error, Event, Hub, Import, Model, Name, PlannedFile, Repo, Standing, Store, Verdict};

use crate::args::{ImportArgs, ModelsCommand, PullArgs};
use crate::cancel;
use crate::env::Environment;
use crate::failure::{Code, Failure, printable};
use crate::output::print_line;
use crate::progress::Progress;

/// What stands for no installed model at all, so that the choice of one can be undone.
const DEMO: &str = "demo";

pub fn run(command: &ModelsCommand, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let store = environment.store();
    match command {
        ModelsCommand::List { json } => list(&store, *json, progress)?,
        ModelsCommand::Pull(args) => pull(&store, args, progress)?,
        ModelsCommand::Import(args) => import(&store, args, progress)?,
        ModelsCommand::Use { name } => select(&store, name, environment, progress)?,
        ModelsCommand::Rm { name } => remove(&store, name, progress)?,
        ModelsCommand::Verify { name } => return verify(&store, name, progress),
    }
    Ok(ExitCode::SUCCESS)
}

/// What an error of the store means for a script.
pub fn refused(error: Error) -> Failure {
    match &error {
        Error::Cancelled => Failure::cancelled(),
        Error::Name { .. }
        | Error::Taken { .. }
        | Error::RepoId { .. }
        | Error::Choose { .. }
        | Error::ByHand { .. } => Failure::usage(error),
        Error::Unknown { .. } | Error::Record { .. } | Error::Incomplete { .. } | Error::NotUsable { .. } => {
            Failure::model(error)
        }
        _ => Failure::failed(error),
    }
}

fn list(store: &Store, json: bool, progress: &Progress) -> Result<(), Failure> {
    let models = store.models().map_err(refused)?;
    if json {
        let all: Vec<_> = models.iter().map(|model| described(model, &model.standing())).collect();
        return print_line(&json!(all).to_string());
    }
    if models.is_empty() {
        progress.note(
            "no model is installed\nhint: `zimage models pull Tongyi-MAI/Z-Image-Turbo` fetches the real one (33 GB)",
        );
        return Ok(());
    }
    let mut rows = vec![["", "NAME", "DIALECT", "PRECISION", "SIZE", "STATE"].map(str::to_owned)];
    rows.extend(models.iter().map(|model| row(model, &model.standing())));
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        print_line(format!("{}{}", cells.collect::<String>(), row[5]).trim_end())?;
    }
    Ok(())
}

fn row(model: &Model, standing: &Standing) -> [String; 6] {
    let mark = if model.active { "*" } else { "" };
    let dialect = standing.dialect.map_or_else(|| "-".to_owned(), |dialect| word(&json!(dialect)));
    let precision = if standing.precision.is_empty() { "-" } else { &standing.precision };
    let state = match &standing.problem {
        // The hint is for the one who opens it.
        Some(problem) => problem.lines().next().unwrap_or_default().to_owned(),
        None if standing.whole => "valid".to_owned(),
        None => {
            let parts: Vec<String> = standing.components.iter().map(ToString::to_string).collect();
            format!("valid, {} alone", parts.join(" and "))
        }
    };
    [mark.into(), printable(&model.name), dialect, precision.into(), size(standing.size_bytes), printable(&state)]
}

/// A name as JSON has it, without the quotes.
fn word(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn described(model: &Model, standing: &Standing) -> serde_json::Value {
    json!({
        "name": model.name,
        "active": model.active,
        "path": model.path.display().to_string(),
        "source": model.record.as_ref().map(|record| &record.source),
        "valid": standing.problem.is_none(),
        "standing": standing,
    })
}

fn pull(store: &Store, args: &PullArgs, progress: &Progress) -> Result<(), Failure> {
    cancel::install()?;
    let repo: Repo = args.repo.parse().map_err(refused)?;
    let name = name(args.name.as_deref())?;
    let mut transfer = Transfer { files: Vec::new(), bytes: Vec::new(), progress };
    progress.stage(&format!("asking for {repo}"));
    let pulled = store.pull(&Hub::from_env(), &repo, name, &mut |event| transfer.hear(event)).map_err(refused)?;
    progress.finish();
    let (model, fetched) = (&pulled.model, size(pulled.fetched_bytes));
    progress.note(&format!("{} is installed, {fetched} were fetched", model.name));
    tell_state(model, &pulled.standing, progress);
    print_line(&model.path.display().to_string())
}

/// Says what an installed model is good for, and what to do next.
fn tell_state(model: &Model, standing: &Standing, progress: &Progress) {
    match &standing.problem {
        Some(problem) => progress.note(&format!("warning: this program cannot use it: {problem}")),
        None if standing.whole && !model.active => {
            progress.note(&format!("hint: `zimage models use {}` makes it the default", model.name));
        }
        None => {}
    }
}

/// The bar of a pull.
struct Transfer<'a> {
    files: Vec<PlannedFile>,
    /// Bytes of each file that are here.
    bytes: Vec<u64>,
    progress: &'a Progress,
}

impl Transfer<'_> {
    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Planned { commit, files, skipped } => self.begin(&commit, files, &skipped),
            Event::Received { file, bytes } => self.bytes[file] = bytes,
            Event::Finished { file } => {
                let (path, length) = (&self.files[file].path, self.files[file].size_bytes);
                self.bytes[file] = length;
                let fetched = self.files[file].present_bytes < length;
                self.progress.note(&format!(
                    "{} {} ({})",
                    if fetched { "fetched" } else { "present" },
                    path,
                    size(length)
                ));
            }
            Event::Retrying { what, reason, pause } => {
                let seconds = pause.as_secs_f64();
                self.progress.note(&format!("{what}: {reason}; trying again in {seconds:.0} s"));
            }
            Event::Locked { file } => {
                let path = &self.files[file].path;
                self.progress.note(&format!("{path}: another program is fetching it, waiting"));
            }
            _ => {}
        }
        self.progress.position(self.bytes.iter().sum());
        ControlFlow::Continue(())
    }

    fn begin(&mut self, commit: &str, files: Vec<PlannedFile>, skipped: &[String]) {
        let total = files.iter().map(|file| file.size_bytes).sum();
        self.bytes = files.iter().map(|file| file.present_bytes).collect();
        let present: u64 = self.bytes.iter().sum();
        self.progress.note(&format!(
            "commit {commit}: {} files, {}, of which {} are here",
            files.len(),
            size(total),
            size(present)
        ));
        if !skipped.is_empty() {
            self.progress.note(&format!("not needed: {}", skipped.join(", ")));
        }
        self.files = files;
        self.progress.bytes("fetching", total, present);
    }
}

fn import(store: &Store, args: &ImportArgs, progress: &Progress) -> Result<(), Failure> {
    cancel::install()?;
    let import = Import { path: args.path.clone(), name: name(args.name.as_deref())?, copy: args.copy };
    let model = store.import(&import, &mut reading(progress)).map_err(refused)?;
    progress.finish();
    let how = if args.copy { "was copied" } else { "is installed, its files stay where they are" };
    progress.note(&format!("{} {how}", model.name));
    tell_state(&model, &model.standing(), progress);
    print_line(&model.path.display().to_string())
}

fn name(text: Option<&str>) -> Result<Option<Name>, Failure> {
    let name = text.map(Name::new).transpose().map_err(refused)?;
    match name {
        Some(name) if name.as_str() == DEMO => Err(Failure::usage("`demo` is the name of the embedded demo model")),
        name => Ok(name),
    }
}

fn reading(progress: &Progress) -> impl FnMut(Event) -> ControlFlow<()> + '_ {
    |event| {
        if let Event::Reading { path, size_bytes } = event {
            progress.stage(&format!("reading {} ({})", path.display(), size(size_bytes)));
        }
        ControlFlow::Continue(())
    }
}

fn select(store: &Store, name: &str, environment: &Environment, progress: &Progress) -> Result<(), Failure> {
    let installed = store.find(name);
    if name == DEMO && matches!(installed, Err(Error::Unknown { .. })) {
        store.clear_active().map_err(refused)?;
        progress.note("the embedded demo model is the default");
        return Ok(());
    }
    let standing = installed.map_err(refused)?.standing();
    if let Some(problem) = standing.problem {
        return Err(Failure::model(format!("`{name}` cannot be the default: {problem}")));
    }
    if !standing.whole {
        progress.note(&format!("note: {name} is not a whole model; what it lacks must be given or installed"));
    }
    let model = store.set_active(name).map_err(refused)?;
    progress.note(&format!("{} is the default", model.name));
    if let Some(set) = environment.config.model.as_ref().filter(|set| **set != model.name) {
        progress.note(&format!("note: ZIMAGE_MODEL or config.toml says `{set}`, which goes before it"));
    }
    Ok(())
}

fn remove(store: &Store, name: &str, progress: &Progress) -> Result<(), Failure> {
    let removed = store.remove(name).map_err(refused)?;
    progress.note(&format!("{} is removed, {} are free", removed.name, size(removed.freed_bytes)));
    for (path, reason) in &removed.left {
        progress.note(&format!("left {}: {reason}", path.display()));
    }
    if removed.was_active {
        progress.note("it was the default; now the embedded demo model is");
    }
    Ok(())
}

fn verify(store: &Store, name: &str, progress: &Progress) -> Result<ExitCode, Failure> {
    let checks = store.verify(name, &mut reading(progress)).map_err(refused)?;
    progress.finish();
    checks.iter().try_for_each(|check| print_line(&printable(&verdict(check))))?;
    let wrong: Vec<&Path> =
        checks.iter().filter(|check| check.verdict != Verdict::Same).map(|check| check.place.as_path()).collect();
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let paths: Vec<String> = wrong.iter().map(|path| path.display().to_string()).collect();
    progress.note(&format!(
        "error: {} of {} files of `{name}` are not what they were\nhint: delete {}, and pull or import the model again",
        wrong.len(),
        checks.len(),
        paths.join(" ")
    ));
    Ok(ExitCode::from(Code::Failed as u8))
}

fn verdict(check: &Check) -> String {
    let path = &check.path;
    match &check.verdict {
        Verdict::Same => format!("same     {path}"),
        Verdict::Missing => format!("missing  {path}"),
        Verdict::Size { expected, found } => format!("differs  {path}: expected {expected} bytes, found {found}"),
        Verdict::Digest { expected, found } => format!("differs  {path}: expected SHA-256 {expected}, found {found}"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
