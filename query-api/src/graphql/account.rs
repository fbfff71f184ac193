//! `Account` and its history.

use std::sync::Arc;

use async_graphql::{ID, Object, Result, SimpleObject};

use super::connection::{Counted, Page, page};
use super::enums::{AccountStatus, Gateway, OperatorType};
use super::message::Message;
use super::page::{page_cost, window};
use super::reader::Reader;
use crate::timestamp::Timestamp;
use crate::views::accounts::AccountRow;
use crate::views::page::ListOf;

/// A WeCom account.
pub(crate) struct Account {
    row: Arc<AccountRow>,
    stale: bool,
    reader: Reader,
}

impl Account {
    pub(crate) fn new(row: Arc<AccountRow>, reader: &Reader) -> Self {
        Self {
            row,
            stale: false,
            reader: reader.clone(),
        }
    }

    /// The same, pushed to a subscriber.
    pub(crate) fn pushed(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }
}

/// A WeCom account.
#[Object]
impl Account {
    async fn id(&self) -> ID {
        self.row.id.into()
    }

    async fn name(&self) -> &str {
        &self.row.account_name
    }

    async fn status(&self) -> AccountStatus {
        self.row.status.into()
    }

    async fn gateway(&self) -> Gateway {
        self.row.gateway.into()
    }

    /// Online, heard of within five minutes, in good health, not in maintenance.
    async fn can_send(&self) -> bool {
        self.row.can_send(self.reader.session().now())
    }

    async fn last_heartbeat_at(&self) -> Option<Timestamp> {
        self.row.last_heartbeat_time.map(Timestamp)
    }

    /// When it came online; null when it is not.
    async fn online_since(&self) -> Option<Timestamp> {
        self.row.online_since.map(Timestamp)
    }

    async fn created_at(&self) -> Timestamp {
        Timestamp(self.row.created_at)
    }

    async fn updated_at(&self) -> Timestamp {
        Timestamp(self.row.updated_at)
    }

    /// Only ever true in a subscription: the view is behind what has happened; the current state follows.
    async fn stale(&self) -> bool {
        self.stale
    }

    /// Changes of status, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn status_history(
        &self,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Page<StatusChange>> {
        let window = window(ListOf::History, first, after, last, before)?;
        let slice = self.reader.history_of(self.row.id, window).await?;
        let counted = Counted::HistoryOf(self.row.id);
        Ok(page(slice, counted, &self.reader, |row| {
            let change = StatusChange {
                old_status: row.old_status.map(Into::into),
                new_status: row.new_status.into(),
                reason: row.reason,
                error_message: row.error_message,
                operator_id: row.operator_id,
                operator_type: OperatorType::parse(&row.operator_type),
                created_at: Timestamp(row.created_at),
            };
            (row.sequence, change)
        }))
    }

    /// Messages of this account, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn messages(
        &self,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Page<Message>> {
        let window = window(ListOf::Messages, first, after, last, before)?;
        let slice = self.reader.messages_of(self.row.id, window).await?;
        let counted = Counted::MessagesOf(self.row.id);
        Ok(page(slice, counted, &self.reader, |row| {
            (row.place(), Message::new(Arc::new(row), &self.reader))
        }))
    }
}

/// One change of an account's status.
#[derive(SimpleObject)]
pub(crate) struct StatusChange {
    old_status: Option<AccountStatus>,
    new_status: AccountStatus,
    reason: Option<String>,
    error_message: Option<String>,
    operator_id: Option<String>,
    operator_type: OperatorType,
    created_at: Timestamp,
}
