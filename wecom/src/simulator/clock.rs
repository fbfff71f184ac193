//! The simulator's own clock. It plays somebody else's servers, which do not share Weft's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// The system's time, shifted by what tests let pass.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatorClock {
    shift_ms: Arc<AtomicI64>,
}

impl SimulatorClock {
    /// Milliseconds since the epoch.
    #[allow(
        clippy::disallowed_methods,
        reason = "the simulator's clock; nothing of Weft reads it"
    )]
    pub(super) fn now_ms(&self) -> i64 {
        Utc::now().timestamp_millis() + self.shift_ms.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self, by: Duration) {
        self.shift_ms
            .fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}
