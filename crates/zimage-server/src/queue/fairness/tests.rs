use proptest::prelude::*;

use super::*;

fn account(costs: &[u64]) -> Account {
    let mut account = Account::default();
    for (seq, cost) in (1..).zip(costs) {
        account.submit(0, seq, false, *cost);
    }
    account
}

fn tags(account: &Account) -> Vec<(u64, u64)> {
    account.turns().iter().map(|turn| (turn.seq, turn.tag)).collect()
}

#[test]
fn turns_of_an_owner_follow_each_other() {
    assert_eq!(tags(&account(&[10, 20, 5])), [(1, 0), (2, 10), (3, 30)]);
    assert_eq!(account(&[10, 20, 5]).finish(), 35);
}

#[test]
fn an_owner_that_comes_late_starts_at_the_virtual_time() {
    let mut late = Account::default();
    late.submit(100, 1, false, 10);
    assert_eq!(tags(&late), [(1, 100)]);
}

#[test]
fn an_owner_whose_last_turn_has_not_ended_waits_for_its_end() {
    let mut account = Account::new(Vec::new(), 150);
    account.submit(100, 1, false, 10);
    assert_eq!(tags(&account), [(1, 150)]);
}

#[test]
fn a_job_for_the_front_takes_over_the_next_turn() {
    let mut account = account(&[10, 20]);
    account.submit(0, 3, true, 7);
    account.submit(0, 4, true, 1);
    assert_eq!(tags(&account), [(3, 0), (4, 7), (1, 8), (2, 18)]);
}

#[test]
fn a_claim_leaves_the_other_tags_where_they_are() {
    let mut account = account(&[10, 20, 5]);
    account.claim(1);
    assert_eq!((tags(&account), account.finish()), (vec![(2, 10), (3, 30)], 35));
}

#[test]
fn a_job_that_is_claimed_out_of_order_is_charged_at_once() {
    let mut account = account(&[10, 20, 5]);
    account.claim(3);
    assert_eq!((tags(&account), account.finish()), (vec![(1, 5), (2, 15)], 35));
}

#[test]
fn a_cancelled_job_costs_nothing() {
    let mut account = account(&[10, 20, 5]);
    account.cancel(1);
    assert_eq!((tags(&account), account.finish()), (vec![(2, 0), (3, 20)], 25));
    account.cancel(99);
    assert_eq!(account.finish(), 25);
}

#[test]
fn a_cost_of_nothing_or_of_everything_is_a_cost() {
    let account = account(&[0, u64::MAX]);
    assert_eq!((tags(&account), account.finish()), (vec![(1, 0), (2, 1)], MAX_COST + 1));
}

#[test]
fn one_claim_in_eight_goes_to_the_batch_line_while_both_wait() {
    let mut share = Share::default();
    let lines: Vec<_> = (0..16).filter_map(|_| share.next(true, true)).collect();
    let batch: Vec<_> = (0..16).filter(|place| lines[*place] == Priority::Batch).collect();
    assert_eq!(batch, [7, 15]);
}

#[test]
fn claims_while_nobody_waits_in_the_batch_line_do_not_count() {
    let mut share = Share::default();
    for _ in 0..100 {
        assert_eq!(share.next(true, false), Some(Priority::Interactive));
    }
    assert_eq!(share.next(true, true), Some(Priority::Interactive));
}

#[test]
fn the_batch_line_has_all_claims_when_it_is_alone() {
    let mut share = Share { interactive_claims: 3 };
    assert_eq!((share.next(false, true), share.next(false, true)), (Some(Priority::Batch), Some(Priority::Batch)));
    assert_eq!((share.next(false, false), share), (None, Share::default()));
}

proptest! {
    #[test]
    fn positions_are_places_in_the_merged_order(claims in 0..BATCH_SHARE, interactive in 0_u64..40, batch in 0_u64..40) {
        let share = Share { interactive_claims: claims };
        let line = |line: Priority, jobs: u64| (0..jobs).map(move |ahead| (line, ahead)).collect();
        let order = share.merge(line(Priority::Interactive, interactive), line(Priority::Batch, batch));
        prop_assert_eq!(order.len() as u64, interactive + batch);
        for (place, (line, ahead)) in (0..).zip(order) {
            let others = if line == Priority::Interactive { batch } else { interactive };
            prop_assert_eq!(share.position(line, ahead, others), place);
        }
    }
}
