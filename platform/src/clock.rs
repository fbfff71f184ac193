//! The only source of time and ids. Everything else takes them from here, so that tests can set them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// A clock to clone and share. The system's own in production; one that tests move by hand otherwise.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds since the epoch; `None` for the system's time.
    set: Option<Arc<AtomicI64>>,
    /// How far it is from the system's time.
    shift: TimeDelta,
}

impl Clock {
    /// The system's time.
    pub const fn system() -> Self {
        Self {
            set: None,
            shift: TimeDelta::zero(),
        }
    }

    /// A clock that goes wrong by so much, for drills.
    pub const fn shifted(shift: TimeDelta) -> Self {
        Self { set: None, shift }
    }

    /// A clock that stands still at `now` until it is advanced.
    pub fn fixed(now: DateTime<Utc>) -> Self {
        Self {
            set: Some(Arc::new(AtomicI64::new(now.timestamp_millis()))),
            shift: TimeDelta::zero(),
        }
    }

    /// Moves a fixed clock, for all its clones; does nothing to the system's.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(set) = &self.set {
            set.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
        }
    }

    /// Now, in whole milliseconds: what JSON shows is exactly what is stored.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.set {
            Some(set) => DateTime::from_timestamp_millis(set.load(Ordering::SeqCst)).unwrap_or_default(),
            None => (Utc::now() + self.shift).trunc_subsecs(3),
        }
    }

    /// A fresh UUIDv7, ordered by birth within this process.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new_id(&self) -> Uuid {
        if self.set.is_none() && self.shift.is_zero() {
            return Uuid::now_v7();
        }
        let now = self.now();
        let seconds = now.timestamp().unsigned_abs();
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
    }
}
