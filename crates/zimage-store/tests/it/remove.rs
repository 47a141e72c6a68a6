//! What removing a pulled model takes out of the shared cache, and what it leaves there.

use std::fs;

use zimage_store::Error;

use crate::server::{Act, COMMIT, Server, blob_id};
use crate::{Machine, deaf, names};

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

#[test]
fn a_removed_model_leaves_nothing_of_its_repository() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let size = machine.pull(&server, "tiny/model").unwrap().fetched_bytes;
    let removed = machine.store().remove("model").unwrap();
    assert_eq!((removed.freed_bytes, removed.left.len()), (size, 0));
    assert!(!machine.repository().exists());
    assert!(matches!(machine.store().remove("model"), Err(Error::Unknown { .. })));
}

#[test]
fn earlier_commits_of_a_removed_model_go_with_it() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let size = machine.pull(&server, "tiny/model").unwrap().fetched_bytes;
    server.commit(&"e".repeat(40), "vae/config.json", &[server.file("vae/config.json"), vec![b'\n']].concat());
    let config = machine.pull(&server, "tiny/model").unwrap().fetched_bytes;
    let removed = machine.store().remove("model").unwrap();
    assert_eq!((removed.freed_bytes, removed.left.len()), (size + config, 0), "{removed:?}");
    assert!(!machine.repository().exists());
}

#[test]
fn blobs_of_another_snapshot_stay() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    machine.pull(&server, "tiny/model").unwrap();
    // From here on, the first snapshot is another program's.
    fs::remove_dir_all(machine.home()).unwrap();
    let config = String::from_utf8(server.file("vae/config.json")).unwrap() + "\n";
    let commit = "e".repeat(40);
    server.commit(&commit, "vae/config.json", config.as_bytes());
    machine.pull(&server, "tiny/model").unwrap();
    let removed = machine.store().remove("model").unwrap();
    // The snapshot before it is whole; only what is new in this one went.
    assert_eq!(removed.freed_bytes, config.len() as u64);
    assert_eq!(names(&machine.repository().join("snapshots")), [COMMIT]);
    let old = machine.repository().join("snapshots").join(COMMIT);
    assert_eq!(fs::read(old.join(VAE)).unwrap(), server.file(VAE));
    assert!(!machine.repository().join("refs/main").exists());
    assert!(!machine.blobs().contains(&blob_id(config.as_bytes())));
}

#[test]
fn what_was_in_the_cache_before_and_what_another_model_needs_stay() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    // Another program fetched the whole snapshot.
    machine.pull(&server, "tiny/model").unwrap();
    fs::remove_dir_all(machine.home()).unwrap();
    machine.pull(&server, "tiny/model").unwrap();
    let removed = machine.store().remove("model").unwrap();
    assert_eq!((removed.freed_bytes, removed.left.len()), (0, 10));
    assert_eq!(machine.blobs().len(), 10);

    let machine = Machine::new();
    machine.pull(&server, &format!("tiny/model:{VAE}")).unwrap();
    machine.pull(&server, "tiny/model").unwrap();
    let removed = machine.store().remove("model").unwrap();
    assert_eq!(removed.left.len(), 1);
    assert_eq!(machine.blobs(), [blob_id(&server.file(VAE))]);
    let vae = machine.store().find("diffusion_pytorch_model").unwrap();
    assert_eq!(fs::read(vae.path).unwrap(), server.file(VAE));
    machine.store().remove("diffusion_pytorch_model").unwrap();
    assert!(!machine.repository().exists());
}

#[test]
fn what_an_interrupted_pull_left_can_be_removed() {
    let server = Server::start(|request| if request.is_for(VAE) { Act::Cut(1000) } else { Act::Serve });
    let machine = Machine::new();
    let mut hub = machine.hub(&server);
    hub.retry.attempts = 1;
    let repo = "tiny/model".parse().unwrap();
    machine.store().pull(&hub, &repo, None, &mut deaf).unwrap_err();
    machine.store().remove("model").unwrap();
    assert!(!machine.repository().exists());
    assert!(machine.store().models().unwrap().is_empty());
}

#[test]
fn a_record_that_names_other_places_removes_nothing_there() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    machine.pull(&server, "tiny/model").unwrap();
    let treasure = machine.path("snapshots");
    fs::create_dir(&treasure).unwrap();
    fs::write(treasure.join("model_index.json"), "mine").unwrap();
    let record = machine.path("home/models/.store/model.json");
    let snapshot = machine.repository().join("snapshots").join(COMMIT);
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace(snapshot.to_str().unwrap(), treasure.to_str().unwrap())).unwrap();
    machine.store().remove("model").unwrap();
    assert!(treasure.join("model_index.json").exists());
}
