//! Who listens to what, and which streams have changed that somebody listens to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;
use weft_domain::LogOrder;

use super::FIRST_LOOK;
use super::mailbox::{Mailbox, Push};
use crate::views::accounts::AccountRow;
use crate::views::messages::MessageRow;

/// Streams that may be dirty at once; at this many, Kafka waits until the views have caught up.
const MAX_DIRTY: usize = 20_000;

/// What a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Account,
    Message,
}

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub(super) kind: Kind,
    pub(super) tenant_id: Uuid,
    pub(super) id: Uuid,
}

/// What an event says: its stream is now at `version`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) stream: Stream,
    pub(super) version: i64,
    pub(super) place: Place,
    /// The account the stream belongs to.
    pub(super) account_id: Uuid,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) order: LogOrder,
}

/// A stream whose row has not been seen at its event's version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirty {
    /// The newest version that an event has told of.
    pub(super) target: i64,
    /// The oldest version that was told of and not yet handed out.
    pub(super) awaited: i64,
    /// Where the newest event that was told of stands, until a look has found the view there.
    pub(super) place: Option<Place>,
    /// The newest version that was handed out while waiting.
    pub(super) pushed: i64,
    /// Since when `awaited` is.
    pub(super) since: Instant,
    pub(super) next_look: Instant,
    pub(super) looks: u32,
    pub(super) told_stale: bool,
}

/// Which messages a subscriber wants; a field that is absent does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageFilter {
    pub(crate) account_id: Option<Uuid>,
    pub(crate) batch_id: Option<Uuid>,
}

impl MessageFilter {
    fn wants(&self, row: &MessageRow) -> bool {
        self.account_id.is_none_or(|id| row.account_id == id) && self.batch_id.is_none_or(|id| row.batch_id == Some(id))
    }
}

/// Listens until it is dropped.
pub(crate) struct Subscription<T> {
    hub: Arc<Hub>,
    key: Key,
    mailbox: Arc<Mailbox<T>>,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Account { account: (Uuid, Uuid), number: u64 },
    Messages { tenant_id: Uuid, number: u64 },
}

impl<T> Subscription<T> {
    pub(crate) fn mailbox(&self) -> &Mailbox<T> {
        &self.mailbox
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.hub.remove(self.key);
    }
}

struct MessageSubscriber {
    filter: MessageFilter,
    mailbox: Arc<Mailbox<MessageRow>>,
}

/// By number.
type Listeners<T> = HashMap<u64, T>;

#[derive(Default)]
struct Register {
    next_number: u64,
    /// By tenant and account.
    accounts: HashMap<(Uuid, Uuid), Listeners<Arc<Mailbox<AccountRow>>>>,
    messages: HashMap<Uuid, Listeners<MessageSubscriber>>,
    dirty: HashMap<Stream, Dirty>,
}

/// The meeting point of feed, poll and subscribers.
#[derive(Default)]
pub(crate) struct Hub {
    register: Mutex<Register>,
    /// Something became dirty.
    pub(super) dirtied: Notify,
    /// Something is no longer dirty.
    pub(super) cleaned: Notify,
}

impl Hub {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe_account(self: &Arc<Self>, tenant_id: Uuid, account_id: Uuid) -> Subscription<AccountRow> {
        let mailbox = Arc::new(Mailbox::default());
        let mut register = self.register();
        let number = register.number();
        let account = (tenant_id, account_id);
        let listeners = register.accounts.entry(account).or_default();
        listeners.insert(number, Arc::clone(&mailbox));
        Subscription {
            hub: Arc::clone(self),
            key: Key::Account { account, number },
            mailbox,
        }
    }

    pub(crate) fn subscribe_messages(
        self: &Arc<Self>,
        tenant_id: Uuid,
        filter: MessageFilter,
    ) -> Subscription<MessageRow> {
        let mailbox = Arc::new(Mailbox::default());
        let mut register = self.register();
        let number = register.number();
        let subscriber = MessageSubscriber {
            filter,
            mailbox: Arc::clone(&mailbox),
        };
        register
            .messages
            .entry(tenant_id)
            .or_default()
            .insert(number, subscriber);
        Subscription {
            hub: Arc::clone(self),
            key: Key::Messages { tenant_id, number },
            mailbox,
        }
    }

    fn remove(&self, key: Key) {
        let mut register = self.register();
        match key {
            Key::Account { account, number } => {
                if let Some(listeners) = register.accounts.get_mut(&account) {
                    listeners.remove(&number);
                    if listeners.is_empty() {
                        register.accounts.remove(&account);
                    }
                }
            }
            Key::Messages { tenant_id, number } => {
                if let Some(listeners) = register.messages.get_mut(&tenant_id) {
                    listeners.remove(&number);
                    if listeners.is_empty() {
                        register.messages.remove(&tenant_id);
                    }
                }
            }
        }
    }

    /// Marks what somebody listens to as dirty.
    pub(super) fn changed(&self, changes: &[Change]) {
        let now = Instant::now();
        let mut register = self.register();
        let register = &mut *register;
        for change in changes {
            if !register.is_wanted(change) {
                continue;
            }
            let dirty = register.dirty.entry(change.stream).or_insert(Dirty {
                target: change.version,
                awaited: change.version,
                place: None,
                pushed: 0,
                since: now,
                next_look: now + FIRST_LOOK,
                looks: 0,
                told_stale: false,
            });
            dirty.target = dirty.target.max(change.version);
            dirty.place = Some(change.place);
        }
        self.dirtied.notify_one();
    }

    pub(super) fn is_full(&self) -> bool {
        self.register().dirty.len() >= MAX_DIRTY
    }

    /// The feed has lost its place.
    pub(super) fn gap(&self) {
        let register = self.register();
        for mailbox in register.accounts.values().flat_map(HashMap::values) {
            mailbox.mark_gap();
        }
        for subscriber in register.messages.values().flat_map(HashMap::values) {
            subscriber.mailbox.mark_gap();
        }
    }

    /// The dirty streams to look at now, and when the next ones are due. Streams that nobody listens to any more are
    /// forgotten.
    pub(super) fn due(
        &self,
        now: Instant,
        at_most: usize,
        has_reached: impl Fn(Kind, Place) -> bool,
    ) -> (Vec<(Stream, Dirty)>, Option<Instant>) {
        let mut register = self.register();
        let register = &mut *register;
        let (accounts, messages) = (&register.accounts, &register.messages);
        let before = register.dirty.len();
        register.dirty.retain(|stream, _| match stream.kind {
            Kind::Account => accounts.contains_key(&(stream.tenant_id, stream.id)),
            Kind::Message => messages.contains_key(&stream.tenant_id),
        });
        if register.dirty.len() < before {
            self.cleaned.notify_one();
        }
        let due = register
            .dirty
            .iter()
            .filter(|(stream, dirty)| {
                dirty.next_look <= now || dirty.place.is_some_and(|place| has_reached(stream.kind, place))
            })
            .take(at_most)
            .map(|(stream, dirty)| (*stream, *dirty))
            .collect();
        let next = register.dirty.values().map(|dirty| dirty.next_look).min();
        (due, next)
    }

    /// What a look has found: `pushed` is the version that was handed out. A stream that has reached its target is
    /// clean, unless another event came meanwhile.
    pub(super) fn looked(&self, stream: Stream, seen: Dirty) {
        let mut register = self.register();
        if let Some(dirty) = register.dirty.get_mut(&stream) {
            if seen.pushed >= dirty.target {
                register.dirty.remove(&stream);
            } else {
                let newer = dirty.target > seen.target;
                *dirty = Dirty {
                    target: dirty.target,
                    place: if newer { dirty.place } else { seen.place },
                    ..seen
                };
            }
        }
        drop(register);
        self.cleaned.notify_one();
    }

    pub(super) fn publish_account(&self, row: &Arc<AccountRow>, stale: bool) {
        let register = self.register();
        let Some(listeners) = register.accounts.get(&(row.tenant_id, row.id)) else {
            return;
        };
        for mailbox in listeners.values() {
            let row = Arc::clone(row);
            mailbox.put(row.id, Push { row, stale });
        }
    }

    pub(super) fn publish_message(&self, row: &Arc<MessageRow>, stale: bool) {
        let register = self.register();
        let Some(listeners) = register.messages.get(&row.tenant_id) else {
            return;
        };
        for subscriber in listeners.values().filter(|subscriber| subscriber.filter.wants(row)) {
            let row = Arc::clone(row);
            subscriber.mailbox.put(row.id, Push { row, stale });
        }
    }
}

impl Register {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn is_wanted(&self, change: &Change) -> bool {
        let Stream { kind, tenant_id, id } = change.stream;
        match kind {
            Kind::Account => self.accounts.contains_key(&(tenant_id, id)),
            Kind::Message => self.messages.get(&tenant_id).is_some_and(|listeners| {
                listeners
                    .values()
                    .any(|subscriber| subscriber.filter.account_id.is_none_or(|id| id == change.account_id))
            }),
        }
    }
}
