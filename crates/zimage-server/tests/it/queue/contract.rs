//! Submitting, holding, ending.

use zimage_server::job::{EventKind, Failure, FailureCode, ImageRecord, JobId, JobSpec, JobState};
use zimage_server::queue::{Cancelled, Depth, Held, NewJob, Outcome, QueueError, QueueLimits, Wanted};

use super::{Bench, LEASE_MS, journal, limits, on_every_queue, on_every_queue_with, step};
use crate::samples::{new_job, picture, spec};

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_job_goes_from_queued_through_running_to_done() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        assert_eq!((bench.job(id).state, bench.job(id).position), (JobState::Queued, Some(0)));
        bench.watch.pass(5);
        let lease = bench.claimed("w");
        assert_eq!((lease.job.id, lease.attempt, lease.job.attempts), (id, 1, 1));
        assert_eq!(lease.job.started_ms, Some(bench.watch.now()));
        assert_eq!(bench.queue.step(&lease, step(1), None).unwrap(), Held::Held);
        assert_eq!(bench.job(id).progress, Some(step(1)));
        let image = ImageRecord { job: Some(id), ..picture("done", bench.watch.now()) };
        assert_eq!(bench.queue.add_image(&lease, &image).unwrap(), Held::Held);
        assert_eq!(bench.queue.finish(&lease, Outcome::Done).unwrap(), Held::Held);
        let job = bench.job(id);
        assert_eq!((job.state, job.progress, job.position), (JobState::Done, None, None));
        assert_eq!((job.finished_ms, job.images), (Some(bench.watch.now()), vec![image]));
        assert_eq!(bench.story(id), ["queued", "running", "step", "image", "done"]);
        assert_eq!(bench.claim("w"), None);
    });
}

#[test]
fn a_failed_job_says_why() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        let lease = bench.claimed("w");
        let failure = Failure { code: FailureCode::OutOfMemory, message: "too large".into() };
        bench.queue.finish(&lease, Outcome::Failed(failure.clone())).unwrap();
        assert_eq!((bench.job(id).state, bench.job(id).error), (JobState::Failed, Some(failure)));
        assert_eq!(bench.story(id), ["queued", "running", "failed"]);
    });
}

#[test]
fn a_spec_comes_back_to_the_last_bit() {
    on_every_queue(|bench| {
        let exact = JobSpec { guidance: 0.1 + 0.2, seed: u64::MAX, shift: Some(1.0 / 3.0), ..spec() };
        let id = bench.submit(NewJob { spec: exact.clone(), ..new_job("ann") });
        assert_eq!(bench.job(id).spec, exact);
    });
}

#[test]
fn an_unknown_job_is_none() {
    on_every_queue(|bench| {
        assert_eq!(bench.queue.job(JobId::new()).unwrap(), None);
        assert_eq!(bench.queue.cancel(JobId::new()).unwrap(), Cancelled::Unknown);
        assert_eq!(bench.queue.events(Some(JobId::new()), 0, 9).unwrap(), []);
    });
}

#[test]
fn a_full_queue_refuses_until_a_job_is_claimed() {
    on_every_queue_with(QueueLimits { max_waiting: 2, ..limits() }, |bench| {
        bench.submit_for("ann");
        bench.submit_batch("bob");
        assert!(matches!(bench.queue.submit(new_job("cay")), Err(QueueError::Full { waiting: 2 })));
        bench.claimed("w");
        bench.submit_for("cay");
        assert_eq!(bench.queue.depth().unwrap(), Depth { interactive: 1, batch: 1, running: 1 });
    });
}

#[test]
fn an_owner_may_have_only_so_many_jobs() {
    on_every_queue_with(QueueLimits { max_per_owner: 2, ..limits() }, |bench| {
        bench.submit_for("ann");
        bench.submit_batch("ann");
        let lease = bench.claimed("w");
        assert!(matches!(bench.queue.submit(new_job("ann")), Err(QueueError::TooManyOfOwner { jobs: 2 })));
        bench.submit_for("bob");
        bench.queue.finish(&lease, Outcome::Done).unwrap();
        bench.submit_for("ann");
    });
}

fn keyed(key: &str) -> NewJob {
    NewJob { idempotency_key: Some(key.into()), ..new_job("ann") }
}

#[test]
fn the_same_key_means_the_same_job_for_a_day() {
    on_every_queue(|bench| {
        let first = bench.submit(keyed("k"));
        let again = bench.queue.submit(keyed("k")).unwrap();
        assert_eq!((again.job.id, again.repeated), (first, true));
        assert_eq!(bench.story(first), ["queued"]);
        assert_ne!(bench.submit(NewJob { owner: "bob".into(), ..keyed("k") }), first);
        bench.watch.pass(DAY_MS - 1);
        assert_eq!(bench.submit(keyed("k")), first);
        bench.watch.pass(1);
        assert_ne!(bench.submit(keyed("k")), first);
    });
}

#[test]
fn a_key_is_good_for_one_request_whatever_its_seed() {
    on_every_queue(|bench| {
        let first = bench.submit(keyed("k"));
        let other_seed = NewJob { spec: JobSpec { seed: 99, ..spec() }, ..keyed("k") };
        assert_eq!(bench.submit(other_seed), first);
        let other_prompt = NewJob { spec: JobSpec { prompt: "another".into(), ..spec() }, ..keyed("k") };
        assert!(matches!(bench.queue.submit(other_prompt), Err(QueueError::KeyReused)));
    });
}

#[test]
fn a_repeated_submission_is_answered_even_when_the_queue_is_full() {
    on_every_queue_with(QueueLimits { max_waiting: 1, ..limits() }, |bench| {
        let first = bench.submit(keyed("k"));
        assert_eq!(bench.submit(keyed("k")), first);
    });
}

#[test]
fn a_lease_ends_unless_renewed() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let lease = bench.claimed("one");
        bench.watch.pass(LEASE_MS - 1);
        assert_eq!(bench.queue.renew(&lease).unwrap(), Held::Held);
        bench.watch.pass(LEASE_MS - 1);
        assert_eq!(bench.claim("two"), None);
        bench.watch.pass(1);
        assert_eq!(bench.claimed("two").attempt, 2);
    });
}

#[test]
fn steps_and_pictures_extend_the_lease() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let lease = bench.claimed("one");
        for _ in 0..3 {
            bench.watch.pass(LEASE_MS - 1);
            bench.queue.step(&lease, step(1), None).unwrap();
            bench.watch.pass(LEASE_MS - 1);
            bench.queue.add_image(&lease, &picture("p", 1)).unwrap();
        }
        assert_eq!(bench.claim("two"), None);
    });
}

#[test]
fn a_lease_that_ended_is_good_until_somebody_claims() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let lease = bench.claimed("one");
        bench.watch.pass(LEASE_MS * 10);
        assert_eq!(bench.queue.renew(&lease).unwrap(), Held::Held);
        assert_eq!(bench.claim("two"), None);
        bench.watch.pass(LEASE_MS);
        assert!(bench.claim("two").is_some());
        assert_eq!(bench.queue.renew(&lease).unwrap(), Held::Lost);
    });
}

/// Everything that a worker can do with a lease; none of it does anything.
fn assert_powerless(bench: &Bench, lease: &zimage_server::queue::Lease, expected: Held) {
    let before = (bench.job(lease.job.id), bench.all());
    let queue = &bench.queue;
    assert_eq!(queue.renew(lease).unwrap(), expected);
    assert_eq!(queue.step(lease, step(3), Some(&journal(3))).unwrap(), expected);
    assert_eq!(queue.add_image(lease, &picture("zombie", 1)).unwrap(), expected);
    assert_eq!(queue.release(lease).unwrap(), expected);
    assert_eq!(queue.finish(lease, Outcome::Done).unwrap(), expected);
    assert_eq!((bench.job(lease.job.id), bench.all()), before);
}

#[test]
fn a_zombie_with_an_old_token_changes_nothing() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let zombie = bench.claimed("one");
        bench.queue.step(&zombie, step(1), Some(&journal(1))).unwrap();
        bench.watch.pass(LEASE_MS);
        let lease = bench.claimed("two");
        assert_powerless(bench, &zombie, Held::Lost);
        bench.watch.pass(LEASE_MS);
        assert_eq!(bench.claimed("three").journal, Some(journal(1)));
        assert_powerless(bench, &lease, Held::Lost);
    });
}

#[test]
fn a_zombie_of_the_same_name_changes_nothing() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let zombie = bench.claimed("one");
        bench.queue.release(&zombie).unwrap();
        assert_powerless(bench, &zombie, Held::Lost);
        let lease = bench.claimed("one");
        assert_powerless(bench, &zombie, Held::Lost);
        assert_eq!(bench.queue.finish(&lease, Outcome::Done).unwrap(), Held::Held);
        assert_powerless(bench, &lease, Held::Lost);
    });
}

#[test]
fn the_worker_of_a_cancelled_job_is_told_so() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        let lease = bench.claimed("one");
        bench.queue.add_image(&lease, &picture("kept", 1)).unwrap();
        assert_eq!(bench.queue.cancel(id).unwrap(), Cancelled::Now);
        assert_powerless(bench, &lease, Held::Cancelled);
        let job = bench.job(id);
        assert_eq!((job.state, job.images.len()), (JobState::Cancelled, 1));
        assert_eq!(bench.queue.cancel(id).unwrap(), Cancelled::TooLate);
        assert_eq!(bench.story(id), ["queued", "running", "image", "cancelled"]);
    });
}

#[test]
fn a_cancelled_job_that_waits_is_never_claimed() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        assert_eq!(bench.queue.cancel(id).unwrap(), Cancelled::Now);
        assert_eq!((bench.claim("w"), bench.job(id).state), (None, JobState::Cancelled));
        assert_eq!(bench.queue.depth().unwrap(), Depth::default());
    });
}

#[test]
fn a_finished_job_cannot_be_cancelled() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        bench.queue.finish(&bench.claimed("w"), Outcome::Done).unwrap();
        assert_eq!(bench.queue.cancel(id).unwrap(), Cancelled::TooLate);
        assert_eq!(bench.job(id).state, JobState::Done);
    });
}

#[test]
fn a_job_that_kills_its_workers_is_abandoned_and_the_next_one_taken() {
    on_every_queue(|bench| {
        let poison = bench.submit_for("ann");
        for worker in ["one", "two", "three"] {
            assert_eq!(bench.claimed(worker).job.id, poison);
            bench.watch.pass(LEASE_MS);
        }
        let next = bench.submit_for("ann");
        assert_eq!(bench.claimed("four").job.id, next);
        let job = bench.job(poison);
        assert_eq!((job.state, job.error.unwrap().code), (JobState::Failed, FailureCode::Abandoned));
        assert_eq!(bench.story(poison), ["queued", "running", "running", "running", "failed"]);
    });
}

#[test]
fn a_released_job_goes_first_and_its_attempt_does_not_count() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let mut lease = bench.claimed("w");
        bench.submit(NewJob { front: true, ..new_job("ann") });
        for _ in 0..5 {
            bench.queue.step(&lease, step(2), Some(&journal(2))).unwrap();
            assert_eq!(bench.queue.release(&lease).unwrap(), Held::Held);
            let job = bench.job(lease.job.id);
            assert_eq!((job.state, job.attempts, job.position, job.progress), (JobState::Queued, 0, Some(0), None));
            let again = bench.claimed("w");
            assert_eq!((again.job.id, again.attempt), (lease.job.id, lease.attempt + 1));
            assert_eq!((again.job.attempts, again.journal.clone()), (1, Some(journal(2))));
            lease = again;
        }
        assert_eq!(bench.story(lease.job.id)[..5], ["queued", "running", "step", "queued", "running"]);
    });
}

#[test]
fn the_journal_is_the_last_one_and_pictures_forget_it() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let lease = bench.claimed("w");
        bench.queue.step(&lease, step(1), Some(&journal(1))).unwrap();
        bench.queue.step(&lease, step(2), Some(&journal(2))).unwrap();
        bench.queue.step(&lease, step(3), None).unwrap();
        bench.queue.release(&lease).unwrap();
        let lease = bench.claimed("w");
        assert_eq!(lease.journal, Some(journal(2)));
        bench.queue.add_image(&lease, &picture("p", 1)).unwrap();
        bench.queue.release(&lease).unwrap();
        let lease = bench.claimed("w");
        assert_eq!((lease.journal, lease.job.images.len()), (None, 1));
    });
}

#[test]
fn a_picture_at_the_same_index_is_replaced() {
    on_every_queue(|bench| {
        let id = bench.submit_for("ann");
        let lease = bench.claimed("w");
        let at = |index, name| ImageRecord { index, job: Some(id), ..picture(name, 7) };
        for image in [at(1, "b"), at(0, "a"), at(1, "c")] {
            bench.queue.add_image(&lease, &image).unwrap();
        }
        assert_eq!(bench.job(id).images, [at(0, "a"), at(1, "c")]);
    });
}

#[test]
fn events_are_numbered_without_gaps_and_resume_exactly() {
    on_every_queue(|bench| {
        assert_eq!(bench.queue.last_seq().unwrap(), 0);
        let first = bench.submit_for("ann");
        let second = bench.submit_for("bob");
        let lease = bench.claimed("w");
        for index in 1..=4 {
            bench.queue.step(&lease, step(index), None).unwrap();
        }
        let all = bench.queue.events(None, 0, usize::MAX).unwrap();
        assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
        assert_eq!(bench.queue.last_seq().unwrap(), 7);
        for (after, limit) in [(0, 3), (3, 3), (6, 3), (7, 3), (u64::MAX, 3), (0, 0)] {
            let expected: Vec<_> = all.iter().filter(|event| event.seq > after).take(limit).cloned().collect();
            assert_eq!(bench.queue.events(None, after, limit).unwrap(), expected);
        }
        let of_first: Vec<_> = all.iter().filter(|event| event.job == first).cloned().collect();
        assert_eq!(bench.queue.events(Some(first), 0, 99).unwrap(), of_first);
        assert_eq!(bench.queue.events(Some(first), 3, 2).unwrap(), of_first[2..4]);
        assert_eq!(bench.story(second), ["queued"]);
        assert_eq!(of_first[2].kind, EventKind::Step(step(1)));
    });
}

#[test]
fn a_worker_gets_only_what_it_asks_for() {
    on_every_queue(|bench| {
        bench.submit_for("ann");
        let large = NewJob { spec: JobSpec { width: 128, ..spec() }, ..new_job("bob") };
        let key = large.spec.batch_key();
        let large = bench.submit(large);
        let wanted = Wanted { batch_key: Some(key), not_of: vec![] };
        assert_eq!(bench.queue.claim("w", &wanted).unwrap().unwrap().job.id, large);
        assert_eq!(bench.queue.claim("w", &wanted).unwrap(), None);
        let wanted = Wanted { batch_key: None, not_of: vec!["ann".into(), "x".into()] };
        assert_eq!(bench.queue.claim("w", &wanted).unwrap(), None);
        assert!(bench.claim("w").is_some());
    });
}
