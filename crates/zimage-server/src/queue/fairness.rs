//! Whose turn it is: the arithmetic of it, which both queues use.
//!
//! Within a line, start-time fair queueing: a waiting job has a tag, the cost at which its turn begins if every owner were
//! served alike, and the smallest tag goes first. An owner's tags follow each other without gaps; an owner that comes
//! (back) starts at the line's virtual time, which is where those who waited meanwhile are. So being idle earns nothing,
//! and costs nothing. Between the lines, [`Share`] counts.

use crate::job::Priority;

/// While both lines wait, one claim in so many goes to the batch line.
pub const BATCH_SHARE: u64 = 8;

/// A waiting job in its owner's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The job's number: later submissions have larger ones.
    pub seq: u64,
    /// Before the owner's jobs that are not.
    pub front: bool,
    /// What it costs.
    pub cost: u64,
    /// Where it begins.
    pub tag: u64,
}

/// The jobs of one owner that wait for their first turn in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    turns: Vec<Turn>,
    finish: u64,
}

impl Account {
    /// An account with its waiting jobs in any order, and where its last turn ended or will end.
    pub(super) fn new(mut turns: Vec<Turn>, finish: u64) -> Account {
        turns.sort_by_key(|turn| (turn.tag, turn.seq));
        Account { turns, finish }
    }

    /// The waiting jobs in order, with their tags.
    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Where the last turn ends.
    pub(super) fn finish(&self) -> u64 {
        self.finish
    }

    /// Adds a job. One that goes to the front takes over the turn of the owner's next job, and the others move back by
    /// its cost: nobody else is overtaken.
    pub(super) fn submit(&mut self, virtual_time: u64, seq: u64, front: bool, cost: u64) {
        let start = self.turns.first().map_or(virtual_time.max(self.finish), |turn| turn.tag);
        let end = self.turns.len();
        let place = if front { self.turns.iter().position(|turn| !turn.front).unwrap_or(end) } else { end };
        self.turns.insert(place, Turn { seq, front, cost: cost.clamp(1, MAX_COST), tag: 0 });
        self.lay_out(start);
    }

    /// Takes a job out because it is served. It is charged to the owner even if it was not the owner's next.
    pub(super) fn claim(&mut self, seq: u64) {
        self.remove(seq, |turn| turn.cost);
    }

    /// Takes a job out because it is not wanted any more: the owner's later jobs move up.
    pub(super) fn cancel(&mut self, seq: u64) {
        self.remove(seq, |_| 0);
    }

    fn remove(&mut self, seq: u64, charge: impl Fn(&Turn) -> u64) {
        let Some(place) = self.turns.iter().position(|turn| turn.seq == seq) else { return };
        let start = self.turns[0].tag;
        let turn = self.turns.remove(place);
        self.lay_out(start.saturating_add(charge(&turn)));
    }

    fn lay_out(&mut self, start: u64) {
        self.finish = start;
        for turn in &mut self.turns {
            turn.tag = self.finish;
            self.finish = self.finish.saturating_add(turn.cost);
        }
    }
}

/// No job costs more than this, so that no sum of costs overflows: 2^40 is 500 times what the limits allow.
const MAX_COST: u64 = 1 << 40;

/// How the two lines share the claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Claims from the interactive line since the last one from the batch line, counted while both waited.
    pub interactive_claims: u64,
}

impl Share {
    /// The line of the next claim, given which lines have a job to give; counts it.
    pub(super) fn next(&mut self, interactive: bool, batch: bool) -> Option<Priority> {
        match (interactive, batch) {
            (false, false) => None,
            (true, false) => Some(Priority::Interactive),
            (true, true) if self.interactive_claims + 1 < BATCH_SHARE => {
                self.interactive_claims += 1;
                Some(Priority::Interactive)
            }
            (_, true) => {
                self.interactive_claims = 0;
                Some(Priority::Batch)
            }
        }
    }

    /// Both lines in the order in which they will be served.
    pub(super) fn merge<T>(mut self, interactive: Vec<T>, batch: Vec<T>) -> Vec<T> {
        let (mut interactive, mut batch) = (interactive.into_iter().peekable(), batch.into_iter().peekable());
        let mut order = Vec::new();
        while let Some(line) = self.next(interactive.peek().is_some(), batch.peek().is_some()) {
            order.extend(match line {
                Priority::Interactive => interactive.next(),
                Priority::Batch => batch.next(),
            });
        }
        order
    }

    /// How many jobs are served before one that has `ahead` jobs before it in its own line and `others` in the other.
    pub(super) fn position(mut self, line: Priority, ahead: u64, others: u64) -> u64 {
        let (mut ahead, mut others, mut served) = (ahead, others, 0);
        loop {
            // The job itself waits, so its line always has one to give.
            let next = match line {
                Priority::Interactive => self.next(true, others > 0),
                Priority::Batch => self.next(others > 0, true),
            };
            match (next == Some(line), ahead) {
                (true, 0) => return served,
                (true, _) => ahead -= 1,
                (false, _) => others -= 1,
            }
            served += 1;
        }
    }
}

#[cfg(test)]
mod tests;
