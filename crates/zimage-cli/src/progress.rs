//! What a person watching sees: a bar on a terminal, notes on stderr. Nothing here touches stdout.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

use crate::failure::printable;

/// The bar and the notes of one run.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// The bar shows only where stderr is a terminal; `quiet` silences notes as well.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        // Nothing is drawn before the first stage.
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(""));
        Self { bar, quiet }
    }

    /// A line for people, above the bar. Whatever files bring into it is made harmless here.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{}", printable(text)));
        }
    }

    /// A stage without steps begins.
    pub fn stage(&self, name: &str) {
        self.bar.set_message(printable(name));
        self.bar.set_style(style("{spinner} {msg} {elapsed}"));
        self.bar.reset();
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// A stage of `count` steps begins.
    pub fn steps(&self, name: &str, count: usize) {
        self.bar.set_style(style("{spinner} {msg} {pos}/{len} {bar:30} {eta} left"));
        self.bar.set_length(count as u64);
        self.bar.reset();
        self.bar.set_message(printable(name));
    }

    /// A transfer of `total` bytes begins, `present` of which are there already.
    pub fn bytes(&self, name: &str, total: u64, present: u64) {
        self.bar.disable_steady_tick();
        self.bar.set_style(style("{spinner} {msg} {bytes}/{total_bytes} {bar:30} {bytes_per_sec} {eta} left"));
        self.bar.set_length(total);
        self.bar.reset();
        self.bar.set_message(printable(name));
        self.bar.set_position(present);
        // What is there already says nothing about the speed.
        self.bar.reset_eta();
    }

    /// So many bytes of the transfer are there.
    pub fn position(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// The bar goes away.
    pub fn finish(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    /// An error is printed where the bar was.
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant: this is a bug")
}
