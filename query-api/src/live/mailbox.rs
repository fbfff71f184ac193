//! What waits for one subscriber: at most one entry per resource, the newest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// Resources that may wait for one subscriber. Rows are shared between subscribers.
const CAPACITY: usize = 50_000;

/// A row as the view showed it.
#[derive(Debug)]
pub(crate) struct Push<T> {
    pub(crate) row: Arc<T>,
    /// The view is behind the event for longer than subscribers wait.
    pub(crate) stale: bool,
}

impl<T> Clone for Push<T> {
    fn clone(&self) -> Self {
        Self {
            row: Arc::clone(&self.row),
            stale: self.stale,
        }
    }
}

/// What a subscriber takes out.
#[derive(Debug)]
pub(crate) enum Delivery<T> {
    Changed(Push<T>),
    /// The feed has a gap: what happened in it is not known, so the current state is read again.
    Gap,
    /// More resources changed than may wait.
    Overflow,
}

/// Filled by the poll, emptied by the subscriber.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    waiting: Mutex<Waiting<T>>,
    filled: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    /// Resources in the order of their first waiting change.
    order: VecDeque<Uuid>,
    rows: HashMap<Uuid, Push<T>>,
    gap: bool,
    overflow: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                order: VecDeque::new(),
                rows: HashMap::new(),
                gap: false,
                overflow: false,
            }),
            filled: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a newer state of `id` in, in place of the one that waits.
    pub(super) fn put(&self, id: Uuid, push: Push<T>) {
        let mut waiting = self.waiting();
        if waiting.rows.contains_key(&id) || waiting.rows.len() < CAPACITY {
            if waiting.rows.insert(id, push).is_none() {
                waiting.order.push_back(id);
            }
        } else {
            waiting.overflow = true;
            waiting.rows = HashMap::new();
            waiting.order = VecDeque::new();
        }
        drop(waiting);
        self.filled.notify_one();
    }

    pub(super) fn mark_gap(&self) {
        self.waiting().gap = true;
        self.filled.notify_one();
    }

    /// The next change, waiting for one. Cancel-safe.
    pub(crate) async fn take(&self) -> Delivery<T> {
        loop {
            if let Some(delivery) = self.try_take() {
                return delivery;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self) -> Option<Delivery<T>> {
        let mut waiting = self.waiting();
        if waiting.overflow {
            return Some(Delivery::Overflow);
        }
        if std::mem::take(&mut waiting.gap) {
            return Some(Delivery::Gap);
        }
        let id = waiting.order.pop_front()?;
        waiting.rows.remove(&id).map(Delivery::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(version: i64) -> Push<i64> {
        Push {
            row: Arc::new(version),
            stale: false,
        }
    }

    fn taken(mailbox: &Mailbox<i64>) -> Option<i64> {
        match mailbox.try_take()? {
            Delivery::Changed(push) => Some(*push.row),
            Delivery::Gap => Some(-1),
            Delivery::Overflow => Some(-2),
        }
    }

    #[test]
    fn changes_of_one_resource_are_merged_and_the_last_is_delivered() {
        let mailbox = Mailbox::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for version in 1..=1_000 {
            mailbox.put(a, push(version));
        }
        mailbox.put(b, push(7));
        assert_eq!(taken(&mailbox), Some(1_000));
        assert_eq!(taken(&mailbox), Some(7));
        assert_eq!(taken(&mailbox), None);
    }

    #[test]
    fn a_gap_comes_before_what_waits() {
        let mailbox = Mailbox::default();
        mailbox.put(Uuid::from_u128(1), push(1));
        mailbox.mark_gap();
        assert_eq!(taken(&mailbox), Some(-1));
        assert_eq!(taken(&mailbox), Some(1));
    }

    #[test]
    fn more_resources_than_may_wait_end_the_subscription_instead_of_growing() {
        let mailbox = Mailbox::default();
        for id in 0..=CAPACITY as u128 {
            mailbox.put(Uuid::from_u128(id), push(1));
        }
        assert_eq!(taken(&mailbox), Some(-2));
        assert!(mailbox.waiting().rows.is_empty());
    }
}
