//! What a long run says on standard error meanwhile.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);

/// Counts events, and tells every five seconds how many of about how many, how fast, and how long it will take.
pub(crate) struct Progress {
    what: &'static str,
    total: i64,
    done: i64,
    began: Instant,
    told: Instant,
}

impl Progress {
    /// `total` is an estimate: positions are drawn also for appends that fail.
    pub(crate) fn new(what: &'static str, total: i64) -> Self {
        let now = Instant::now();
        Self {
            what,
            total,
            done: 0,
            began: now,
            told: now,
        }
    }

    /// A better estimate.
    pub(crate) const fn of(&mut self, total: i64) {
        self.total = total;
    }

    /// So many are done, in all.
    pub(crate) fn at(&mut self, done: u64) {
        self.done = done as i64;
        if self.told.elapsed() < EVERY {
            return;
        }
        self.told = Instant::now();
        let rate = self.done as f64 / self.began.elapsed().as_secs_f64();
        let left = (self.total - self.done).max(0) as f64 / rate.max(1.0);
        eprintln!(
            "{} {} of about {} events, {rate:.0}/s, {left:.0} s left",
            self.what, self.done, self.total
        );
    }
}
