//! The lanes that this process works on, and what their tasks must notice between two messages.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use uuid::Uuid;

#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveLanes {
    lanes: Arc<Mutex<HashMap<Uuid, Arc<ActiveLane>>>>,
}

/// One lane in work.
#[derive(Debug)]
pub(crate) struct ActiveLane {
    /// Until when the lease surely holds.
    deadline: Mutex<Instant>,
    /// The account changed: its messages may have to wait.
    account_changed: AtomicBool,
    /// Highest priority of messages that came since the turn began.
    arrived: AtomicI16,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ActiveLanes {
    pub(super) fn add(&self, account: Uuid, deadline: Instant) -> Arc<ActiveLane> {
        let lane = Arc::new(ActiveLane {
            deadline: Mutex::new(deadline),
            account_changed: AtomicBool::new(false),
            arrived: AtomicI16::new(0),
        });
        lock(&self.lanes).insert(account, Arc::clone(&lane));
        lane
    }

    pub(super) fn remove(&self, account: Uuid) {
        lock(&self.lanes).remove(&account);
    }

    /// Takes out lanes whose task is gone: only the register still knows them.
    pub(super) fn remove_dead(&self) {
        lock(&self.lanes).retain(|_, lane| Arc::strong_count(lane) > 1);
    }

    pub(super) fn accounts(&self) -> Vec<Uuid> {
        lock(&self.lanes).keys().copied().collect()
    }

    pub(super) fn prolong(&self, accounts: &[Uuid], deadline: Instant) {
        let lanes = lock(&self.lanes);
        for lane in accounts.iter().filter_map(|account| lanes.get(account)) {
            lane.prolong(deadline);
        }
    }

    /// The feed saw the account change.
    pub(crate) fn account_changed(&self, account: Uuid) {
        if let Some(lane) = lock(&self.lanes).get(&account) {
            lane.account_changed.store(true, Ordering::Release);
        }
    }

    /// The feed brought a message that is ready.
    pub(crate) fn message_arrived(&self, account: Uuid, priority: i16) {
        if let Some(lane) = lock(&self.lanes).get(&account) {
            lane.arrived.fetch_max(priority, Ordering::AcqRel);
        }
    }
}

impl ActiveLane {
    pub(super) fn prolong(&self, deadline: Instant) {
        let mut held = lock(&self.deadline);
        *held = deadline.max(*held);
    }

    /// The lane is certainly still ours.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < *lock(&self.deadline)
    }

    /// A turn begins: what came before is in it.
    pub(super) fn begin_turn(&self) {
        self.account_changed.store(false, Ordering::Release);
        self.arrived.store(0, Ordering::Release);
    }

    /// A message of this priority must not start before another turn was taken.
    pub(super) fn is_overtaken(&self, priority: i16) -> bool {
        self.account_changed.load(Ordering::Acquire) || self.arrived.load(Ordering::Acquire) > priority
    }
}
