//! What only the queue on the disk promises.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zimage_server::job::JobId;
use zimage_server::queue::{Journal, NewJob, Outcome, Queue, QueueLimits, SqliteQueue, Wanted, system_clock};

use super::{journal, limits, step};
use crate::samples::{Watch, database, new_job, picture};

const DAY_MS: u64 = 86_400_000;

#[test]
fn reopening_loses_nothing() {
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let queue = SqliteQueue::new(database(&home), limits(), watch.clock());
    for owner in ["ann", "ann", "bob"] {
        queue.submit(NewJob { idempotency_key: Some("k".into()), ..new_job(owner) }).unwrap();
    }
    let lease = queue.claim("w", &Wanted::default()).unwrap().unwrap();
    queue.step(&lease, step(1), Some(&journal(1))).unwrap();
    queue.add_image(&lease, &picture("p", 1)).unwrap();
    queue.step(&lease, step(2), Some(&journal(2))).unwrap();
    let seen = |queue: &SqliteQueue| (queue.active().unwrap(), queue.events(None, 0, 99).unwrap());
    let before = seen(&queue);
    drop(queue);
    let queue = SqliteQueue::new(database(&home), limits(), watch.clock());
    assert_eq!(seen(&queue), before);
    assert!(queue.submit(NewJob { idempotency_key: Some("k".into()), ..new_job("ann") }).unwrap().repeated);
    watch.pass(limits().lease_ms);
    let again = queue.claim("v", &Wanted::default()).unwrap().unwrap();
    assert_eq!((again.job.id, again.journal), (lease.job.id, Some(journal(2))));
}

#[test]
fn events_of_jobs_that_ended_long_ago_are_forgotten_but_numbers_go_on() {
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let queue = SqliteQueue::new(database(&home), limits(), watch.clock());
    let old = queue.submit(new_job("ann")).unwrap().job.id;
    let lease = queue.claim("w", &Wanted::default()).unwrap().unwrap();
    let waits = queue.submit(new_job("bob")).unwrap().job.id;
    queue.finish(&lease, Outcome::Done).unwrap();
    watch.pass(DAY_MS);
    queue.submit(new_job("eve")).unwrap();
    assert_eq!(queue.events(Some(old), 0, 99).unwrap().len(), 3);
    watch.pass(DAY_MS);
    queue.submit(new_job("eve")).unwrap();
    assert_eq!(queue.events(Some(old), 0, 99).unwrap(), []);
    assert_eq!(queue.events(Some(waits), 0, 99).unwrap().len(), 1);
    assert_eq!(queue.job(old).unwrap().map(|job| job.id), Some(old));
    assert_eq!(queue.last_seq().unwrap(), 6);
    queue.cancel(waits).unwrap();
    assert_eq!(queue.last_seq().unwrap(), 7);
}

/// Claims and ends jobs until all are done.
fn work(queue: &SqliteQueue, worker: &str, all: usize, claimed: &Mutex<HashMap<JobId, Vec<String>>>) {
    let begin = Instant::now();
    while claimed.lock().unwrap().len() < all {
        assert!(begin.elapsed() < Duration::from_secs(60), "jobs that were to come stay away");
        let Some(lease) = queue.claim(worker, &Wanted::default()).unwrap() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        claimed.lock().unwrap().entry(lease.job.id).or_default().push(worker.into());
        queue.step(&lease, step(1), Some(&journal(1))).unwrap();
        queue.finish(&lease, Outcome::Done).unwrap();
    }
}

#[test]
fn workers_with_databases_of_their_own_never_get_the_same_job() {
    const JOBS: usize = 60;
    let home = TempDir::new().unwrap();
    // Opened at once by all: none may find the schema half made.
    let open = || SqliteQueue::new(database(&home), limits(), system_clock());
    let claimed = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for worker in ["one", "two", "three"] {
            let claimed = &claimed;
            scope.spawn(move || work(&open(), worker, JOBS, claimed));
        }
        scope.spawn(|| {
            let queue = open();
            for index in 0..JOBS {
                queue.submit(new_job(["ann", "bob"][index % 2])).unwrap();
            }
        });
    });
    let claimed = claimed.into_inner().unwrap();
    assert!(claimed.values().all(|workers| workers.len() == 1), "{claimed:?}");
    let events = open().events(None, 0, usize::MAX).unwrap();
    assert_eq!(events.len(), JOBS * 4);
    assert!(events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
}

/// The median time of an operation.
fn median(mut operation: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..101)
        .map(|_| {
            let begin = Instant::now();
            operation();
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_long_history_does_not_make_the_queue_slow() {
    const FINISHED: usize = 2_000;
    // Some 50 times what it takes on an idle machine; the numbers are printed.
    const LIMIT: Duration = Duration::from_millis(10);
    let home = TempDir::new().unwrap();
    let limits = QueueLimits { max_waiting: 2048, max_per_owner: 2048, ..limits() };
    let queue = SqliteQueue::new(database(&home), limits, system_clock());
    for _ in 0..FINISHED {
        queue.submit(new_job("ann")).unwrap();
        let lease = queue.claim("w", &Wanted::default()).unwrap().unwrap();
        queue.add_image(&lease, &picture("p", 1)).unwrap();
        queue.finish(&lease, Outcome::Done).unwrap();
    }
    for index in 0..256 + 101 {
        queue.submit(new_job(&format!("owner {}", index % 16))).unwrap();
    }
    let mut lease = None;
    let claim = median(|| lease = queue.claim("w", &Wanted::default()).unwrap());
    let lease = lease.expect("jobs wait");
    let small_step = median(|| {
        queue.step(&lease, step(1), Some(&journal(1))).unwrap();
    });
    let id = lease.job.id;
    let large = Journal { image: 0, step: 1, latents: vec![7; 1 << 20] };
    let large_step = median(|| {
        queue.step(&lease, step(1), Some(&large)).unwrap();
    });
    let waiting = queue.active().unwrap().pop().expect("jobs wait").id;
    let events = median(|| drop(queue.events(Some(id), 0, 100).unwrap()));
    let position = median(|| drop(queue.job(waiting).unwrap()));
    let job = median(|| drop(queue.job(id).unwrap()));
    let active = median(|| drop(queue.active().unwrap()));
    let submit = median(|| drop(queue.submit(new_job("ann")).unwrap()));
    println!(
        "claim {claim:?}, step {small_step:?} (with 1 MiB {large_step:?}), position {position:?}, events {events:?}, job {job:?}, active {active:?}, submit {submit:?}"
    );
    assert!([claim, small_step, events, job, position, submit].into_iter().max() < Some(LIMIT));
}
