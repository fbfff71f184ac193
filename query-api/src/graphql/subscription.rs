//! The root of subscriptions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_graphql::{Context, ID, Result, Subscription};
use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use futures::stream;
use uuid::Uuid;
use weft_platform::http::{CallContext, Permission};

use super::account::Account;
use super::error::QueryError;
use super::message::Message;
use super::query::{read_id, require};
use super::reader::Reader;
use crate::live::{Delivery, MessageFilter, Subscription as Listening};
use crate::state::QueryState;
use crate::views::accounts::{self, AccountRow};
use crate::views::messages::{self, MessageRow};

/// Times of messages are of other processes' clocks.
const CLOCKS_DIFFER_BY: TimeDelta = TimeDelta::minutes(1);
/// Messages of a gap that are shown; who missed more reads the list.
const MOST_MISSED: i64 = 1_000;

pub(crate) struct SubscriptionRoot;

#[Subscription(name = "Subscription")]
#[allow(clippy::unused_async, reason = "the schema wants resolvers to be async")]
impl SubscriptionRoot {
    /// The account as it is, then whenever it has changed; null while there is none.
    async fn account_changed(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> Result<impl Stream<Item = Result<Option<Account>>> + use<>> {
        require(ctx, Permission::AccountRead)?;
        let state = ctx.data::<QueryState>()?.clone();
        let call = ctx.data::<CallContext>()?.clone();
        // The id of nothing never changes.
        let id = read_id(&id).unwrap_or_default();
        // Listens before the current state is read, so that nothing falls between.
        let listening = state.hub().subscribe_account(call.tenant_id, id);
        let watch = AccountWatch {
            state,
            call,
            id,
            listening,
            wants_current: true,
            shown_version: 0,
        };
        Ok(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(account) => Some((Ok(account), Some(watch))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }

    /// Messages that change from now on; of one account, of one batch, or all.
    async fn message_changed(
        &self,
        ctx: &Context<'_>,
        account_id: Option<ID>,
        batch_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<Message>> + use<>> {
        require(ctx, Permission::MessageRead)?;
        let state = ctx.data::<QueryState>()?.clone();
        let call = ctx.data::<CallContext>()?.clone();
        let filter = MessageFilter {
            account_id: account_id.map(|id| read_id(&id).unwrap_or_default()),
            batch_id: batch_id.map(|id| read_id(&id).unwrap_or_default()),
        };
        let listening = state.hub().subscribe_messages(call.tenant_id, filter);
        let watch = MessageWatch {
            since: ctx.data::<Reader>()?.session().now(),
            state,
            call,
            filter,
            listening,
            missed: VecDeque::new(),
            shown: HashMap::new(),
        };
        Ok(stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(message) => Some((Ok(message), Some(watch))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }
}

struct AccountWatch {
    state: QueryState,
    call: CallContext,
    id: Uuid,
    listening: Listening<AccountRow>,
    wants_current: bool,
    shown_version: i64,
}

impl AccountWatch {
    async fn next(&mut self) -> Result<Option<Account>, QueryError> {
        loop {
            if std::mem::take(&mut self.wants_current) {
                let reader = Reader::new(self.state.session(&self.call));
                let row = accounts::find(reader.session(), self.id).await?;
                return Ok(row.map(|row| {
                    self.shown_version = row.version;
                    Account::new(Arc::new(row), &reader)
                }));
            }
            match self.listening.mailbox().take().await {
                Delivery::Gap => self.wants_current = true,
                Delivery::Overflow => return Err(QueryError::TooSlow),
                Delivery::Changed(push) => {
                    let version = push.row.version;
                    // Never an older one after a newer; the same again only to say that it is stale.
                    if version < self.shown_version || (version == self.shown_version && !push.stale) {
                        continue;
                    }
                    self.shown_version = version;
                    let reader = Reader::new(self.state.session(&self.call));
                    return Ok(Some(Account::new(push.row, &reader).pushed(push.stale)));
                }
            }
        }
    }
}

struct MessageWatch {
    state: QueryState,
    call: CallContext,
    filter: MessageFilter,
    listening: Listening<MessageRow>,
    /// Up to when everything was shown.
    since: DateTime<Utc>,
    /// What changed in a gap, still to be shown.
    missed: VecDeque<MessageRow>,
    /// The versions shown of it: what waited before the gap was noticed may be older.
    shown: HashMap<Uuid, i64>,
}

impl MessageWatch {
    async fn next(&mut self) -> Result<Message, QueryError> {
        loop {
            let reader = Reader::new(self.state.session(&self.call));
            if let Some(row) = self.missed.pop_front() {
                return Ok(Message::new(Arc::new(row), &reader));
            }
            match self.listening.mailbox().take().await {
                Delivery::Gap => self.look_back().await?,
                Delivery::Overflow => return Err(QueryError::TooSlow),
                Delivery::Changed(push) => {
                    let shown = self.shown.get(&push.row.id).copied().unwrap_or_default();
                    if push.row.version < shown || (push.row.version == shown && !push.stale) {
                        continue;
                    }
                    self.since = reader.session().now();
                    return Ok(Message::new(push.row, &reader).pushed(push.stale));
                }
            }
        }
    }

    /// Reads what has changed since the subscriber was last told everything.
    async fn look_back(&mut self) -> Result<(), QueryError> {
        let session = self.state.session(&self.call);
        let filter = messages::MessageFilter {
            account_id: self.filter.account_id,
            batch_id: self.filter.batch_id,
            ..Default::default()
        };
        let rows = messages::changed_since(&session, &filter, self.since - CLOCKS_DIFFER_BY, MOST_MISSED).await?;
        self.since = session.now();
        self.shown = rows.iter().map(|row| (row.id, row.version)).collect();
        self.missed = rows.into();
        Ok(())
    }
}
