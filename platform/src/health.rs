//! Whether each part of a role can do its work, for `/readyz` and `/api/v1/monitor/health`.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// The part without which no command can be answered.
pub const LOG: &str = "log";

/// One part's state as it was last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHealth {
    pub ready: bool,
    /// It has been ready since the process started.
    pub started: bool,
    /// What is wrong, or empty.
    pub detail: String,
}

/// A register that parts report to; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<RwLock<BTreeMap<&'static str, PartHealth>>>,
}

impl Health {
    /// Announces a part that is not ready yet, so that readiness waits for it.
    pub fn expect(&self, part: &'static str) {
        self.report(part, false, "starting".to_owned());
    }

    pub fn ready(&self, part: &'static str) {
        self.report(part, true, String::new());
    }

    pub fn failing(&self, part: &'static str, detail: impl Into<String>) {
        self.report(part, false, detail.into());
    }

    fn report(&self, part: &'static str, ready: bool, detail: String) {
        let mut parts = self.parts.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let started = ready || parts.get(part).is_some_and(|before| before.started);
        parts.insert(part, PartHealth { ready, started, detail });
    }

    pub fn parts(&self) -> BTreeMap<&'static str, PartHealth> {
        self.parts
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Everything works: what a process waits for that serves nobody and only works in the background.
    pub fn is_ready(&self) -> bool {
        let parts = self.parts();
        !parts.is_empty() && parts.values().all(|part| part.ready)
    }

    /// The process can serve: its parts are known, every one has started, and the log can be written. A part that fails
    /// later waits its outage out while the others go on, so it does not take the process out of service; it is told as
    /// degraded.
    pub fn can_serve(&self) -> bool {
        let parts = self.parts();
        !parts.is_empty() && parts.values().all(|part| part.started) && parts.get(LOG).is_none_or(|log| log.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_serves_once_every_part_has_started_and_while_its_log_answers() {
        let health = Health::default();
        assert!(!health.can_serve(), "a process whose parts are not announced yet");
        health.expect("projection messages");
        health.ready(LOG);
        assert!(!health.can_serve());
        health.ready("projection messages");
        assert!(health.can_serve() && health.is_ready());
        health.failing("projection messages", "ClickHouse is away");
        assert!(health.can_serve() && !health.is_ready());
        health.failing(LOG, "Postgres is away");
        assert!(!health.can_serve());
    }
}
