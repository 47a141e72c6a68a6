//! Times as the web UI writes them.

use crate::http::moment::Moment;
use crate::job::Millis;

/// `20261125073000`: year, month, day, hour, minute and second in UTC.
pub fn of(at: Millis) -> String {
    let Moment { year, month, day, hour, minute, second } = Moment::of(at);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests;
