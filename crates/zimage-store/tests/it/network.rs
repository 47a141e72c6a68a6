//! Networks and servers that fail, lie, and dawdle. Whatever they do, a file has the right bytes or is not there.

use std::fs;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use zimage_store::{Error, Event};

use crate::server::{Act, COMMIT, Request, Server, blob_id};
use crate::{Machine, deaf};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// Pulls from a server that does `act` for the transformer, and checks that the model is whole in the end.
#[track_caller]
fn survives(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> (Machine, Server) {
    let server = Server::start(move |request| if request.is_for(TRANSFORMER) { act(request) } else { Act::Serve });
    let machine = Machine::new();
    let pulled = machine.pull(&server, "tiny/model").unwrap();
    assert_eq!(fs::read(pulled.model.path.join(TRANSFORMER)).unwrap(), server.file(TRANSFORMER));
    assert!(machine.blobs().iter().all(|name| !name.contains("incomplete")), "{:?}", machine.blobs());
    (machine, server)
}

/// The same, and the pull fails; nothing is left that looks whole.
#[track_caller]
fn fails(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> (Error, Machine, Server) {
    let server = Server::start(move |request| if request.is_for(TRANSFORMER) { act(request) } else { Act::Serve });
    let machine = Machine::new();
    let error = machine.pull(&server, "tiny/model").unwrap_err();
    let id = blob_id(&server.file(TRANSFORMER));
    assert!(!machine.blobs().contains(&id), "{error}");
    assert!(!machine.repository().join("snapshots").join(COMMIT).join(TRANSFORMER).exists());
    assert!(matches!(machine.store().find("model"), Err(Error::Incomplete { .. })));
    assert!(machine.store().models().unwrap()[0].standing().problem.is_some());
    (error, machine, server)
}

fn transformer_ranges(server: &Server) -> Vec<Option<u64>> {
    let requests = server.requests();
    requests.iter().filter(|request| request.is_for(TRANSFORMER)).map(|request| request.range).collect()
}

#[test]
fn a_cut_connection_is_resumed_at_the_byte_where_it_ended() {
    let (_, server) = survives(|request| if request.earlier == 0 { Act::Cut(1_000_000) } else { Act::Serve });
    assert_eq!(transformer_ranges(&server), [None, Some(1_000_000)]);
}

#[test]
fn connections_may_be_cut_anywhere_any_number_of_times() {
    for seed in 0..6u64 {
        // Offsets by a linear congruential generator, from before the first byte to after the last.
        let offset = move |n: u64| (seed * 7919 + n + 1).wrapping_mul(6_364_136_223_846_793_005) >> 33;
        let server = Server::start(move |request| {
            let n = request.earlier as u64;
            let limit = if n % 4 == 3 { u64::MAX } else { 900_000 };
            if n < 9 { Act::Cut((offset(n) % limit) as usize) } else { Act::Serve }
        });
        let machine = Machine::new();
        let pulled = machine.pull(&server, "tiny/model").unwrap();
        for file in pulled.model.record.unwrap().files {
            assert_eq!(fs::read(pulled.model.path.join(&file.path)).unwrap(), server.file(&file.path), "seed {seed}");
        }
    }
}

#[test]
fn a_pull_goes_on_where_an_earlier_one_stopped() {
    let server = Server::start(|request| {
        let first = request.is_for(TRANSFORMER) && request.range.is_none();
        if first { Act::Cut(2_000_000) } else { Act::Serve }
    });
    let machine = Machine::new();
    // The caller stops at the first failure.
    let stop = |event: Event| match event {
        Event::Retrying { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let mut hub = machine.hub(&server);
    hub.retry.first_pause = Duration::from_secs(1);
    let repo = "tiny/model".parse().unwrap();
    assert!(matches!(machine.store().pull(&hub, &repo, None, &mut { stop }), Err(Error::Cancelled)));
    let partial = machine.repository().join("blobs").join(format!("{}.incomplete", blob_id(&server.file(TRANSFORMER))));
    assert_eq!(fs::metadata(&partial).unwrap().len(), 2_000_000);

    let pulled = machine.pull(&server, "tiny/model").unwrap();
    assert_eq!(fs::read(pulled.model.path.join(TRANSFORMER)).unwrap(), server.file(TRANSFORMER));
    assert_eq!(transformer_ranges(&server), [None, Some(2_000_000)]);
    assert!(!partial.exists());
}

#[test]
fn a_partial_file_with_wrong_bytes_is_found_out_and_fetched_anew() {
    let server = Server::start(|_| Act::Serve);
    for partial in [vec![7; 100_000], vec![7; 5_000_000], vec![7; server.file(TRANSFORMER).len()]] {
        let machine = Machine::new();
        let blobs = machine.repository().join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.incomplete", blob_id(&server.file(TRANSFORMER)))), &partial).unwrap();
        let pulled = machine.pull(&server, "tiny/model").unwrap();
        assert_eq!(fs::read(pulled.model.path.join(TRANSFORMER)).unwrap(), server.file(TRANSFORMER));
    }
}

#[test]
fn a_server_without_ranges_sends_the_file_from_the_start() {
    let (_, server) = survives(|request| if request.earlier == 0 { Act::Cut(1_500_000) } else { Act::Whole });
    assert_eq!(transformer_ranges(&server), [None, Some(1_500_000)]);
}

#[test]
fn lies_about_sizes_are_seen_through() {
    survives(|request| if request.earlier == 0 { Act::Length(-1000) } else { Act::Serve });
    survives(|_| Act::Length(1000));
    survives(|request| match request.earlier {
        0 => Act::Cut(1_000),
        1 => Act::Total(77),
        _ => Act::Serve,
    });
    let (error, machine, server) = fails(|request| if request.earlier == 0 { Act::Cut(1_000) } else { Act::Total(77) });
    assert!(error.to_string().contains("/77"), "{error}");
    // What came before the lie is kept.
    assert!(machine.blobs().contains(&format!("{}.incomplete", blob_id(&server.file(TRANSFORMER)))));
}

#[test]
fn wrong_bytes_are_refused_and_deleted() {
    let mut wrong = Server::start(|_| Act::Serve).file(TRANSFORMER);
    wrong[123_456] ^= 1;
    let (error, machine, server) = fails(move |_| Act::Bytes(wrong.clone()));
    let id = blob_id(&server.file(TRANSFORMER));
    assert!(
        matches!(&error, Error::Damaged { what, expected, .. } if what == TRANSFORMER && *expected == id),
        "{error}"
    );
    assert!(!machine.blobs().contains(&format!("{id}.incomplete")));
}

#[test]
fn wrong_bytes_of_small_files_are_refused_as_well() {
    let server = Server::start(|request| match request.is_for("vae/config.json") {
        true => Act::Bytes(vec![b' '; 763]),
        false => Act::Serve,
    });
    assert_eq!(server.file("vae/config.json").len(), 763);
    let error = Machine::new().pull(&server, "tiny/model").unwrap_err();
    assert!(matches!(&error, Error::Damaged { what, .. } if what == "vae/config.json"), "{error}");
}

#[test]
fn a_lying_server_that_cuts_every_connection_is_given_up() {
    let wrong = vec![1; 2_838_808];
    let (error, ..) = fails(move |request| match request.range {
        None => Act::Cut(1_000_000),
        Some(_) => Act::Bytes(wrong.clone()),
    });
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn a_busy_server_is_asked_again_after_the_pause_that_it_wants() {
    let started = Instant::now();
    let (_, server) = survives(|request| match request.earlier {
        0 => Act::Status(429, "Retry-After: 1\r\n"),
        1 => Act::Status(503, ""),
        2 => Act::Status(500, ""),
        _ => Act::Serve,
    });
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(transformer_ranges(&server).len(), 4);
}

#[test]
fn a_server_that_never_recovers_is_given_up() {
    let (error, _, server) = fails(|_| Act::Status(500, ""));
    assert!(matches!(&error, Error::Transfer { attempts: 4, reason, .. } if reason.contains("500")), "{error}");
    assert_eq!(transformer_ranges(&server).len(), 4);
}

#[test]
fn silence_is_a_failure_like_any_other() {
    let (_, server) = survives(|request| if request.earlier == 0 { Act::Silence } else { Act::Serve });
    assert_eq!(transformer_ranges(&server).len(), 2);
}

#[test]
fn the_rest_of_a_file_that_the_server_does_not_have_is_fetched_from_the_start() {
    let (_, server) = survives(|request| match request.earlier {
        0 => Act::Cut(1_000),
        1 => Act::Status(416, ""),
        _ => Act::Serve,
    });
    assert_eq!(transformer_ranges(&server), [None, Some(1_000), None]);
}

#[test]
fn a_list_of_files_is_asked_for_again_when_the_server_is_busy() {
    let server = Server::start(|request| match (request.path.starts_with("/api/"), request.earlier) {
        (true, 0) => Act::Status(429, ""),
        (true, 1) => Act::Status(502, ""),
        _ => Act::Serve,
    });
    Machine::new().pull(&server, "tiny/model").unwrap();
}

#[test]
fn refusals_of_the_hub_are_told_in_one_sentence_with_a_hint() {
    let cases: [(u16, &str, &str); 6] = [
        (401, "X-Error-Code: GatedRepo\r\n", "this account"),
        (403, "", "HF_TOKEN"),
        (404, "X-Error-Code: RepoNotFound\r\n", "repository tiny/model"),
        (404, "X-Error-Code: RevisionNotFound\r\n", "revision main of tiny/model"),
        (404, "", "repository tiny/model"),
        (418, "", "status 418"),
    ];
    for (status, headers, fragment) in cases {
        let server = Server::start(move |_| Act::Status(status, headers));
        let error = Machine::new().pull(&server, "tiny/model").unwrap_err().to_string();
        assert!(error.contains(fragment), "{status} {headers}: {error}");
        assert_eq!(server.all_requests().len(), 1, "{status}");
    }
    let server = Server::start(|_| Act::Status(401, "X-Error-Code: GatedRepo\r\n"));
    let machine = Machine::new();
    let mut hub = machine.hub(&server);
    hub.token = None;
    let error = machine.store().pull(&hub, &"tiny/model".parse().unwrap(), None, &mut deaf).unwrap_err();
    assert!(error.to_string().contains("hint: set HF_TOKEN"), "{error}");
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let server = Server::start(|_| Act::Serve);
    let machine = Machine::new();
    let mut hub = machine.hub(&server);
    let repo = "tiny/model".parse().unwrap();
    // Nobody listens on this port: it was given back a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (endpoint, fragment) in [
        (format!("http://127.0.0.1:{port}"), "127.0.0.1"),
        ("hub".to_owned(), "HF_ENDPOINT"),
        ("http://".to_owned(), "HF_ENDPOINT"),
    ] {
        hub.endpoint = endpoint;
        let error = machine.store().pull(&hub, &repo, None, &mut deaf).unwrap_err().to_string();
        assert!(error.contains(fragment), "{error}");
    }
}

#[test]
fn two_pulls_at_once_fetch_every_file_once() {
    let server = Server::start(|_| Act::Slow(Duration::from_millis(10)));
    let machine = Machine::new();
    std::thread::scope(|scope| {
        for pull in [(); 2].map(|()| scope.spawn(|| machine.pull(&server, "tiny/model"))) {
            pull.join().unwrap().unwrap();
        }
    });
    let mut paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!((all, paths.len()), (10, 10));
    assert!(server.requests().iter().any(|request| request.is_for(VAE)));
}
