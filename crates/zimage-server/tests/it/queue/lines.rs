//! Whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use zimage_server::job::{JobId, JobSpec, Priority};
use zimage_server::queue::{BATCH_SHARE, Cancelled, MemoryQueue, NewJob, Outcome, Queue, QueueLimits, Wanted};

use super::{Bench, LEASE_MS, limits, on_every_queue};
use crate::samples::{Watch, new_job, spec};

/// A job that costs `steps`, in units of one step.
fn of_cost(owner: &str, steps: u32) -> NewJob {
    NewJob { spec: JobSpec { steps, ..spec() }, ..new_job(owner) }
}

/// Claims everything, and says in which order.
fn drain(bench: &Bench) -> Vec<JobId> {
    std::iter::from_fn(|| bench.claim("w").map(|lease| lease.job.id)).collect()
}

#[test]
fn jobs_of_an_owner_go_in_the_order_of_submission_but_front_ones_first() {
    on_every_queue(|bench| {
        let plain: Vec<_> = (0..3).map(|_| bench.submit_for("ann")).collect();
        let front: Vec<_> = (0..2).map(|_| bench.submit(NewJob { front: true, ..new_job("ann") })).collect();
        assert_eq!(drain(bench), [front, plain].concat());
    });
}

#[test]
fn owners_take_turns() {
    on_every_queue(|bench| {
        let ann: Vec<_> = (0..3).map(|_| bench.submit_for("ann")).collect();
        let bob: Vec<_> = (0..2).map(|_| bench.submit_for("bob")).collect();
        assert_eq!(drain(bench), [ann[0], bob[0], ann[1], bob[1], ann[2]]);
    });
}

#[test]
fn small_jobs_have_more_turns_than_large_ones() {
    on_every_queue(|bench| {
        let large: Vec<_> = (0..2).map(|_| bench.submit(of_cost("ann", 30))).collect();
        let small: Vec<_> = (0..4).map(|_| bench.submit(of_cost("bob", 10))).collect();
        assert_eq!(drain(bench), [large[0], small[0], small[1], small[2], large[1], small[3]]);
    });
}

#[test]
fn front_does_not_overtake_other_owners() {
    on_every_queue(|bench| {
        let ann: Vec<_> = (0..2).map(|_| bench.submit_for("ann")).collect();
        let bob = bench.submit_for("bob");
        let front = bench.submit(NewJob { front: true, ..new_job("bob") });
        assert_eq!(drain(bench), [ann[0], front, ann[1], bob]);
    });
}

#[test]
fn an_owner_that_was_idle_has_no_credit() {
    on_every_queue(|bench| {
        for _ in 0..20 {
            bench.submit_for("ann");
            bench.queue.finish(&bench.claimed("w"), Outcome::Done).unwrap();
        }
        let jobs: Vec<_> = (0..6).map(|index| bench.submit_for(if index < 3 { "ann" } else { "bob" })).collect();
        assert_eq!(drain(bench), [jobs[3], jobs[0], jobs[4], jobs[1], jobs[5], jobs[2]]);
    });
}

#[test]
fn an_owner_does_not_pay_for_jobs_that_were_cancelled() {
    on_every_queue(|bench| {
        for _ in 0..10 {
            let id = bench.submit_for("bob");
            assert_eq!(bench.queue.cancel(id).unwrap(), Cancelled::Now);
        }
        let ann: Vec<_> = (0..2).map(|_| bench.submit_for("ann")).collect();
        let bob = bench.submit_for("bob");
        assert_eq!(drain(bench), [ann[0], bob, ann[1]]);
    });
}

#[test]
fn the_batch_line_has_one_claim_in_eight() {
    on_every_queue(|bench| {
        let batch: Vec<_> = (0..3).map(|_| bench.submit_batch("bob")).collect();
        let interactive: Vec<_> = (0..14).map(|_| bench.submit_for("ann")).collect();
        let order = [&interactive[..7], &batch[..1], &interactive[7..], &batch[1..]].concat();
        assert_eq!(bench.queue.active().unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), order);
        assert_eq!(drain(bench), order);
    });
}

#[test]
fn expired_leases_go_first_in_their_line() {
    on_every_queue(|bench| {
        let first = bench.submit_for("ann");
        bench.claimed("w");
        bench.submit_for("bob");
        bench.watch.pass(LEASE_MS);
        assert_eq!(bench.claimed("v").job.id, first);
    });
}

#[test]
fn running_jobs_are_listed_first() {
    on_every_queue(|bench| {
        let ids: Vec<_> = ["ann", "ann", "bob"].map(|owner| bench.submit_for(owner)).into();
        bench.claimed("w");
        let active = bench.queue.active().unwrap();
        let seen: Vec<_> = active.iter().map(|job| (job.id, job.position)).collect();
        assert_eq!(seen, [(ids[0], None), (ids[2], Some(0)), (ids[1], Some(1))]);
    });
}

/// Something that clients and workers do.
#[derive(Clone, Debug)]
enum Act {
    Submit { owner: usize, cost: u32, batch: bool, front: bool },
    Cancel(usize),
    Claim,
}

const OWNERS: [&str; 3] = ["ann", "bob", "cay"];

fn act() -> impl Strategy<Value = Act> {
    let submit = (0..OWNERS.len(), 1_u32..20, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(owner, cost, batch, front)| Act::Submit { owner, cost, batch, front });
    prop_oneof![5 => submit, 1 => (0_usize..100).prop_map(Act::Cancel), 4 => Just(Act::Claim)]
}

/// A job that waits, as the tests see it.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: JobId,
    owner: usize,
    cost: u32,
    batch: bool,
    front: bool,
}

/// A claim, and who waited at that time.
struct Claim {
    job: Waiting,
    waiting: Vec<Waiting>,
}

/// Does all of it, and tells of the claims.
fn play(acts: &[Act]) -> Vec<Claim> {
    let queue = MemoryQueue::new(QueueLimits { max_per_owner: 256, ..limits() }, Watch::new().clock());
    let (mut waiting, mut claims) = (Vec::<Waiting>::new(), Vec::new());
    for act in acts {
        match *act {
            Act::Submit { owner, cost, batch, front } => {
                let priority = if batch { Priority::Batch } else { Priority::Interactive };
                let job = NewJob { priority, front, ..of_cost(OWNERS[owner], cost) };
                let id = queue.submit(job).unwrap().job.id;
                waiting.push(Waiting { id, owner, cost, batch, front });
            }
            Act::Cancel(index) if !waiting.is_empty() => {
                let job = waiting.remove(index % waiting.len());
                assert_eq!(queue.cancel(job.id).unwrap(), Cancelled::Now);
            }
            Act::Cancel(_) => {}
            Act::Claim => {
                let Some(lease) = queue.claim("w", &Wanted::default()).unwrap() else {
                    assert!(waiting.is_empty());
                    continue;
                };
                let place = waiting.iter().position(|job| job.id == lease.job.id).unwrap();
                let before = waiting.clone();
                claims.push(Claim { job: waiting.remove(place), waiting: before });
            }
        }
    }
    claims
}

/// The owners that wait in a line.
fn owners(claim: &Claim, batch: bool) -> BTreeSet<usize> {
    claim.waiting.iter().filter(|job| job.batch == batch).map(|job| job.owner).collect()
}

/// How far one owner's served cost is ahead of another's, over every stretch in which both wait.
fn largest_lead(claims: &[Claim], batch: bool, one: usize, other: usize) -> i64 {
    let (mut lead, mut lowest, mut largest) = (0, 0, 0);
    for claim in claims.iter().filter(|claim| claim.job.batch == batch) {
        if !owners(claim, batch).is_superset(&BTreeSet::from([one, other])) {
            (lead, lowest) = (0, 0);
            continue;
        }
        let cost = i64::from(claim.job.cost);
        lead += if claim.job.owner == one { cost } else { 0 } - if claim.job.owner == other { cost } else { 0 };
        lowest = lead.min(lowest);
        largest = largest.max(lead - lowest);
    }
    largest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_backlogged_owner_falls_behind_another_by_more_than_a_job_of_each(acts in prop::collection::vec(act(), 1..200)) {
        let claims = play(&acts);
        let mut largest = BTreeMap::<usize, i64>::new();
        for act in &acts {
            if let Act::Submit { owner, cost, .. } = act {
                let entry = largest.entry(*owner).or_default();
                *entry = i64::from(*cost).max(*entry);
            }
        }
        for one in largest.keys() {
            for other in largest.keys().filter(|other| *other != one) {
                for batch in [false, true] {
                    let lead = largest_lead(&claims, batch, *one, *other);
                    prop_assert!(lead <= largest[one] + largest[other], "{} leads {} by {}", one, other, lead);
                }
            }
        }
    }

    #[test]
    fn neither_line_starves(acts in prop::collection::vec(act(), 1..200)) {
        let mut interactive_claims = 0;
        for claim in play(&acts) {
            let both = !owners(&claim, false).is_empty() && !owners(&claim, true).is_empty();
            interactive_claims = if claim.job.batch { 0 } else { interactive_claims + u64::from(both) };
            prop_assert!(interactive_claims < BATCH_SHARE);
        }
    }

    #[test]
    fn an_owners_jobs_keep_their_order(acts in prop::collection::vec(act(), 1..200)) {
        for Claim { job, waiting } in play(&acts) {
            let own = waiting.iter().filter(|other| (other.owner, other.batch) == (job.owner, job.batch));
            // Of those that wait, in the order of submission: the first one for the front, else the first one.
            let own: Vec<_> = own.collect();
            let expected = own.iter().find(|other| other.front).or(own.first()).unwrap();
            prop_assert_eq!(expected.id, job.id);
        }
    }
}

#[test]
fn positions_say_in_which_order_jobs_are_served() {
    on_every_queue(|bench| {
        for index in 0..40 {
            let priority = if index % 3 == 0 { Priority::Batch } else { Priority::Interactive };
            bench.submit(NewJob {
                priority,
                front: index % 7 == 0,
                ..of_cost(OWNERS[index % 3], 1 + index as u32 % 5)
            });
            if index % 5 == 4 {
                bench.claimed("w");
            }
        }
        let active = bench.queue.active().unwrap();
        let waiting: Vec<_> = active.iter().filter(|job| job.position.is_some()).collect();
        for (place, job) in waiting.iter().enumerate() {
            assert_eq!(bench.job(job.id).position, Some(place as u32));
        }
        assert_eq!(drain(bench), waiting.iter().map(|job| job.id).collect::<Vec<_>>());
    });
}
