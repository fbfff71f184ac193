//! Whether each part of a role can do its work, for `/readyz` and `/api/v1/monitor/health`.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// One part's state as it was last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHealth {
    pub ready: bool,
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
        parts.insert(part, PartHealth { ready, detail });
    }

    pub fn parts(&self) -> BTreeMap<&'static str, PartHealth> {
        self.parts
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    pub fn is_ready(&self) -> bool {
        self.parts().values().all(|part| part.ready)
    }
}
