//! Whether each part of a role can do its work, for `/readyz` and `/api/v1/monitor/health`.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use crate::config::LogSection;

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
    parts: Arc<RwLock<BTreeMap<String, PartHealth>>>,
    /// The further log whose parts report here.
    log: Option<Arc<str>>,
}

impl Health {
    /// Where the parts that work on one log report: under their own names on the first, `relay (b)` on the log `b`.
    #[must_use]
    pub fn of_log(&self, log: &LogSection) -> Self {
        let is_first = log.name == LogSection::default().name;
        Self {
            parts: Arc::clone(&self.parts),
            log: (!is_first).then(|| Arc::from(log.name.as_str())),
        }
    }

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
        let name = match &self.log {
            None => part.to_owned(),
            Some(log) => format!("{part} ({log})"),
        };
        let mut parts = self.parts.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let started = ready || parts.get(&name).is_some_and(|before| before.started);
        parts.insert(name, PartHealth { ready, started, detail });
    }

    pub fn parts(&self) -> BTreeMap<String, PartHealth> {
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

    /// The process can serve: its parts are known, every one has started, and the log (of several, one) can be written. A
    /// part that fails later waits its outage out while the others go on, so it does not take the process out of service;
    /// it is told as degraded.
    pub fn can_serve(&self) -> bool {
        let parts = self.parts();
        let of_a_log = |name: &str| {
            name.strip_prefix(LOG)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        };
        let mut logs = parts
            .iter()
            .filter(|(name, _)| of_a_log(name))
            .map(|(_, log)| log.ready);
        let writable = logs.next().is_none_or(|first| first || logs.any(|ready| ready));
        !parts.is_empty() && parts.values().all(|part| part.started) && writable
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
        let further = health.of_log(&LogSection {
            name: "b".to_owned(),
            ..LogSection::default()
        });
        further.ready(LOG);
        assert!(health.can_serve(), "the tenants of the other log are served");
        assert!(health.parts()["log (b)"].ready && !health.parts()[LOG].ready);
    }
}
