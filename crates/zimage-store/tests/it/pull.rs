//! What a pull leaves on the disk when all goes well.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use zimage_store::{Error, Event, Name, Source, components};
use zimage_weights::Checkpoint;

use crate::server::{Act, COMMIT, Server, blob_id};
use crate::{Machine, deaf, golden, names};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

#[test]
fn a_pulled_model_has_the_bytes_of_the_repository_in_the_layout_of_the_hubs_cache() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let pulled = machine.pull(&server, "tiny/model").unwrap();
    let snapshot = machine.repository().join("snapshots").join(COMMIT);
    assert_eq!(pulled.model.path, snapshot);
    assert_eq!(pulled.model.name, "model");
    assert!(pulled.standing.whole && pulled.standing.problem.is_none(), "{:?}", pulled.standing);
    Checkpoint::open(&snapshot).unwrap();

    let record = pulled.model.record.unwrap();
    assert!(record.complete);
    assert_eq!(record.files.len(), 10);
    for file in &record.files {
        let bytes = server.file(&file.path);
        assert_eq!(fs::read(snapshot.join(&file.path)).unwrap(), bytes);
        let target = fs::read_link(snapshot.join(&file.path)).unwrap();
        let up = if file.path.contains('/') { "../../.." } else { "../.." };
        assert_eq!(target.to_str().unwrap(), format!("{up}/blobs/{}", blob_id(&bytes)));
        assert_eq!(file.sha256, Some(zimage_weights::digest::sha256_bytes(&bytes)));
    }
    assert!(!snapshot.join("README.md").exists());
    assert_eq!(fs::read_to_string(machine.repository().join("refs/main")).unwrap(), COMMIT);
    let blobs: BTreeSet<String> = record.files.iter().map(|file| blob_id(&server.file(&file.path))).collect();
    assert_eq!(machine.blobs(), blobs.into_iter().collect::<Vec<_>>());
    assert_eq!(machine.store().find("model").unwrap().path, snapshot);
    assert_eq!(machine.store().find("tiny/model").unwrap().path, snapshot);
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    machine.pull(&server, "tiny/model").unwrap();
    let before = server.requests().len();
    let again = machine.pull(&server, "tiny/model").unwrap();
    assert_eq!((server.requests().len(), again.fetched_bytes), (before, 0));

    // Another machine has one blob, from another program.
    let other = Machine::new();
    let blobs = other.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let bytes = server.file(TRANSFORMER);
    fs::write(blobs.join(blob_id(&bytes)), &bytes).unwrap();
    other.pull(&server, "tiny/model").unwrap();
    let new = &server.requests()[before..];
    assert_eq!(new.len(), 9);
    assert!(new.iter().all(|request| !request.is_for(TRANSFORMER)));
}

#[test]
fn a_blob_of_the_wrong_size_is_fetched_again() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let bytes = server.file(TRANSFORMER);
    let blob = machine.repository().join("blobs").join(blob_id(&bytes));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, &bytes[1..]).unwrap();
    machine.pull(&server, "tiny/model").unwrap();
    assert_eq!(fs::read(blob).unwrap(), bytes);
}

#[test]
fn four_files_are_fetched_at_once() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Slow(Duration::from_millis(50))));
    machine.pull(&server, "tiny/model").unwrap();
    assert_eq!(server.busiest(), 4);
}

#[test]
fn the_token_goes_to_the_hub_and_not_where_it_leads() {
    let store = Server::start(|_| Act::Serve);
    let elsewhere = store.url();
    let server = Server::start(move |request| match request.path.split_once(COMMIT) {
        Some((_, file)) => Act::Redirect(format!("{elsewhere}/elsewhere{file}")),
        None => Act::Serve,
    });
    let machine = Machine::new();
    machine.pull(&server, "tiny/model").unwrap();
    let asked = server.all_requests();
    assert!(asked.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{asked:?}");
    let served = store.all_requests();
    assert_eq!(served.len(), 10);
    assert!(served.iter().all(|request| request.authorization.is_none()), "{served:?}");
}

#[test]
fn a_file_can_be_pulled_alone() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let pulled = machine.pull(&server, "tiny/model:vae/diffusion_pytorch_model.safetensors").unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(pulled.model.name, "diffusion_pytorch_model");
    assert!(pulled.model.path.ends_with("vae/diffusion_pytorch_model.safetensors"));
    assert!(!pulled.standing.whole);
    // The config that its small shapes need comes from the same commit.
    machine
        .store()
        .pull(&machine.hub(&server), &"tiny/model:vae/config.json".parse().unwrap(), None, &mut deaf)
        .unwrap();
    assert_eq!(components(&machine.home()).unwrap().vaes, [pulled.model.path]);

    let error = machine.pull(&server, "tiny/model:vae/absent.safetensors").unwrap_err().to_string();
    assert!(error.contains("vae/absent.safetensors") && error.contains(TRANSFORMER), "{error}");
}

#[test]
fn a_name_is_not_taken_from_another_model() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let vae = "tiny/model:vae/diffusion_pytorch_model.safetensors".parse().unwrap();
    let (hub, store) = (machine.hub(&server), machine.store());
    store.pull(&hub, &vae, Some(Name::new("model").unwrap()), &mut deaf).unwrap();
    let error = machine.pull(&server, "tiny/model").unwrap_err();
    assert!(matches!(&error, Error::Taken { name, .. } if name == "model"), "{error}");
    store.pull(&hub, &"tiny/model".parse().unwrap(), Some(Name::new("all").unwrap()), &mut deaf).unwrap();
    assert_eq!(store.models().unwrap().iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["all", "model"]);
}

#[test]
fn a_newer_commit_replaces_the_record_and_fetches_only_what_changed() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    machine.pull(&server, "tiny/model").unwrap();
    let before = server.requests().len();
    let commit = "f".repeat(40);
    let config = String::from_utf8(server.file("vae/config.json")).unwrap() + "\n";
    server.commit(&commit, "vae/config.json", config.as_bytes());
    let pulled = machine.pull(&server, "tiny/model").unwrap();
    assert_eq!(server.requests().len(), before + 1);
    assert!(pulled.model.path.ends_with(&commit));
    assert!(matches!(pulled.model.record.unwrap().source, Source::Hub { commit: found, .. } if found == commit));
    assert_eq!(names(&machine.repository().join("snapshots")), [COMMIT.to_owned(), commit.clone()]);
    assert_eq!(fs::read_to_string(machine.repository().join("refs/main")).unwrap(), commit);
}

#[test]
fn without_a_network_a_cached_model_is_installed_and_any_other_refused() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let mut hub = machine.hub(&server);
    hub.offline = true;
    let repo = "tiny/model".parse().unwrap();
    let error = machine.store().pull(&hub, &repo, None, &mut deaf).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    assert!(server.all_requests().is_empty());

    machine.pull(&server, "tiny/model").unwrap();
    fs::remove_dir_all(machine.home()).unwrap();
    let asked = server.all_requests().len();
    let pulled = machine.store().pull(&hub, &repo, None, &mut deaf).unwrap();
    assert_eq!(server.all_requests().len(), asked);
    assert!(pulled.standing.whole);
    let verified = machine.store().verify("model", &mut deaf).unwrap();
    assert_eq!(verified.len(), 10);
}

#[test]
fn progress_names_each_file_and_ends_with_all_its_bytes() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let (mut plan, mut bytes, mut skipped_files, mut finished) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    let heard = machine.pull_heard(&server, "tiny/model", &mut |event| {
        match event {
            Event::Planned { commit, files, skipped } => {
                assert_eq!(commit, COMMIT);
                (bytes, plan, skipped_files) = (vec![0; files.len()], files, skipped);
            }
            Event::Received { file, bytes: now } => bytes[file] = now,
            Event::Finished { file } => drop(finished.insert(file)),
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    });
    heard.unwrap();
    assert_eq!(skipped_files, ["README.md"]);
    assert_eq!(plan[0].path, TRANSFORMER);
    assert_eq!(bytes, plan.iter().map(|file| file.size_bytes).collect::<Vec<_>>());
    assert_eq!(finished.len(), plan.len());
    assert_eq!(bytes[0], fs::metadata(golden("models/tiny-a").join(TRANSFORMER)).unwrap().len());
}
