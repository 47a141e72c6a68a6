//! `zimage serve` as a process: what it prints, how it ends, and that killing it loses nothing.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Home;
use crate::server::{PATIENCE, Server};

/// How often the server is killed at a random moment.
const KILLS: u64 = 50;

fn draft(seed: u64) -> Value {
    json!({ "prompt": "a red balloon over the sea", "width": 64, "height": 64, "steps": 12, "seed": seed, "n": 2 })
}

/// SHA-256 of the pictures of a job, by their index.
fn pictures(job: &Value) -> Vec<String> {
    assert_eq!(job["state"], "done", "{job}");
    let images = job["images"].as_array().unwrap();
    images.iter().map(|image| image["sha256"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_picture_is_made_and_served() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (status, job) = server.json("POST", "/api/v1/jobs", &draft(1)).unwrap();
    assert_eq!(status, 202, "{job}");
    let shas = pictures(&server.end_of(job["id"].as_str().unwrap()));
    let (status, file) = server.request("GET", &format!("/files/{}.png", shas[0]), "").unwrap();
    assert_eq!(status, 200);
    let path = home.write("a.png", &file);
    let inspected = home.run(&["inspect", &path, "--json"]).ok();
    let metadata: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(metadata["metadata"]["prompt"], "a red balloon over the sea");
    assert_eq!(metadata["metadata"]["seed"], 1);
    let (status, page) = server.request("GET", "/", "").unwrap();
    assert!(status == 200 && String::from_utf8_lossy(&page).contains("<html"));
}

/// Random numbers that are the same in every run: splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn killed_at_fifty_random_moments_it_loses_nothing_and_draws_the_same_bytes() {
    let undisturbed = Home::new();
    let server = Server::start(&undisturbed, &[]);
    let submit = |server: &Server, seed: u64| {
        let (status, job) = server.json("POST", "/api/v1/jobs", &draft(seed)).unwrap();
        assert_eq!(status, 202, "{job}");
        job["id"].as_str().unwrap().to_owned()
    };
    let began = Instant::now();
    let expected: Vec<_> =
        [0, 10, 20].into_iter().map(|seed| pictures(&server.end_of(&submit(&server, seed)))).collect();
    let typical = began.elapsed() / 3;
    drop(server);

    let home = Home::new();
    let mut jobs: Vec<(String, u64)> = Vec::new();
    let mut state = 1;
    for kill in 0..KILLS {
        let server = Server::start(&home, &[]);
        if kill % 5 == 0 {
            let seed = kill / 5 % 3 * 10;
            jobs.push((submit(&server, seed), seed));
        }
        // Every job that was ever acknowledged is known, and what is finished stays finished.
        let micros = random(&mut state) % (typical.as_micros() as u64 / 2).max(1);
        thread::sleep(Duration::from_micros(micros));
        drop(server);
    }
    let server = Server::start(&home, &[]);
    for (id, seed) in &jobs {
        assert_eq!(pictures(&server.end_of(id)), expected[*seed as usize / 10], "job {id} of seed {seed}");
    }
    let (_, page) = server.json("GET", "/api/v1/images?limit=200", &Value::Null).unwrap();
    assert_eq!(page["total"], 6, "six different pictures: {page}");
}

#[cfg(unix)]
#[test]
fn the_first_signal_lets_the_running_job_end_and_the_second_ends_at_once() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let long = json!({ "prompt": "a", "width": 128, "height": 128, "steps": 50, "seed": 1 });
    let ids: Vec<String> = (0..2)
        .map(|_| server.json("POST", "/api/v1/jobs", &long).unwrap().1["id"].as_str().unwrap().to_owned())
        .collect();
    let started = Instant::now();
    while server.job(&ids[0])["progress"]["step"].as_u64().unwrap_or(0) < 2 {
        assert!(started.elapsed() < PATIENCE);
    }
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));

    let server = Server::start(&home, &[]);
    assert_eq!(server.job(&ids[0])["state"], "done", "the running job was finished");
    let started = Instant::now();
    while server.job(&ids[1])["progress"]["step"].as_u64().unwrap_or(0) < 2 {
        assert!(started.elapsed() < PATIENCE);
    }
    server.signal("-TERM");
    thread::sleep(Duration::from_millis(100));
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(5));

    let server = Server::start(&home, &[]);
    assert_eq!(server.end_of(&ids[1])["state"], "done", "the aborted job went on");
}

#[test]
fn a_public_address_needs_a_key() {
    let home = Home::new();
    let refused = home.run(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    refused.fails(2, "key");
    let key = home.run(&["keys", "create", "laptop"]).ok().stdout;
    assert!(key.starts_with("zk-"), "{key}");
    assert_eq!(home.run(&["keys", "list"]).ok().lines(), ["laptop"]);
    home.run(&["keys", "create", "laptop"]).fails(2, "has a key already");
    let server = Server::start(&home, &[]);
    let (status, _) = server.request("GET", "/api/v1/jobs", "").unwrap();
    assert_eq!(status, 401, "keys are required once there are any");
    drop(server);
    home.run(&["keys", "revoke", "laptop"]).ok();
    home.run(&["keys", "revoke", "laptop"]).fails(2, "has no key");
}

#[test]
fn two_servers_of_one_home_share_its_queue_and_one_takes_over_when_the_other_is_killed() {
    let home = Home::new();
    let (doomed, survivor) = (Server::start(&home, &[]), Server::start(&home, &[]));
    let ids: Vec<String> = (0..8)
        .map(|job| {
            doomed.json("POST", "/api/v1/jobs", &draft(job % 2 * 10)).unwrap().1["id"].as_str().unwrap().to_owned()
        })
        .collect();
    doomed.end_of(&ids[0]);
    drop(doomed);
    let jobs: Vec<_> = ids.iter().map(|id| pictures(&survivor.end_of(id))).collect();
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(jobs[index], jobs[index % 2], "jobs of one seed have the same pictures");
        let (_, events) = survivor.request("GET", &format!("/api/v1/jobs/{id}/events"), "").unwrap();
        let events = String::from_utf8(events).unwrap();
        let count = |name: &str| events.matches(&format!("event: {name}\n")).count();
        assert_eq!((count("image"), count("done")), (2, 1), "each picture was added once: {events}");
    }
}

#[test]
fn prompts_are_logged_only_when_asked_for_and_keys_never() {
    let home = Home::new();
    let key = home.run(&["keys", "create", "laptop"]).ok().stdout.trim().to_owned();
    for (args, are_logged) in [(&["-vv"][..], false), (&["-vv", "--log-prompts"], true)] {
        let mut server = Server::start(&home, args);
        server.token = Some(key.clone());
        let body = json!({ "prompt": "a secret garden", "size": "64x64", "steps": 1 });
        let (status, _) = server.request("POST", "/v1/images/generations", &body.to_string()).unwrap();
        assert_eq!(status, 200);
        let said = server.said();
        assert!(said.contains("/v1/images/generations"), "requests are logged at this level: {said}");
        assert_eq!(said.contains("secret garden"), are_logged, "{said}");
        assert!(!said.contains(&key), "{said}");
    }
}

#[test]
fn the_gallery_is_found_again_from_its_files() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let (_, job) = server.json("POST", "/api/v1/jobs", &draft(1)).unwrap();
    let shas = pictures(&server.end_of(job["id"].as_str().unwrap()));
    drop(server);
    for name in ["zimage.db", "zimage.db-wal", "zimage.db-shm"] {
        // The last two may not be there.
        let _ = std::fs::remove_file(home.path(name));
    }
    let rebuilt = home.run(&["db", "rebuild"]).ok();
    assert!(rebuilt.stderr.contains("2 pictures added"), "{rebuilt:#?}");
    let server = Server::start(&home, &[]);
    let (_, page) = server.json("GET", "/api/v1/images", &Value::Null).unwrap();
    let mut found: Vec<&str> =
        page["images"].as_array().unwrap().iter().map(|image| image["sha256"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = shas.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(page["images"][0]["prompt"], "a red balloon over the sea");
}
