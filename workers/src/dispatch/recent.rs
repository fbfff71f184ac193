//! Receipts of this process's last sends: most callbacks come before the turn that writes the receipts down has ended.
//! Only a shortcut; what is not found here is looked up, or parked until it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::queue::KnownMessage;

const GENERATION: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Generations {
    since: Instant,
    young: HashMap<(Uuid, String), KnownMessage>,
    old: HashMap<(Uuid, String), KnownMessage>,
}

/// Keeps each entry for one to two generations.
#[derive(Clone, Debug)]
pub(crate) struct RecentReceipts {
    inner: Arc<Mutex<Generations>>,
}

impl Default for RecentReceipts {
    fn default() -> Self {
        let empty = Generations {
            since: Instant::now(),
            young: HashMap::new(),
            old: HashMap::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(empty)),
        }
    }
}

impl RecentReceipts {
    /// Call once the send is recorded in the log, not before.
    pub(super) fn add(&self, account: Uuid, appinfo: &str, message: KnownMessage) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.since.elapsed() > GENERATION {
            inner.old = std::mem::take(&mut inner.young);
            inner.since = Instant::now();
        }
        inner.young.insert((account, appinfo.to_owned()), message);
    }

    pub(crate) fn get(&self, account: Uuid, appinfo: &str) -> Option<KnownMessage> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account, appinfo.to_owned());
        inner.young.get(&key).or_else(|| inner.old.get(&key)).cloned()
    }
}
