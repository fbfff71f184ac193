//! The root of queries.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result};
use uuid::Uuid;
use weft_platform::http::{CallContext, Permission, parse_uuid};

use super::account::Account;
use super::connection::{Counted, Page, nothing, page};
use super::conversation::Conversation;
use super::enums::{AccountStatus, MessageStatus, StatsInterval};
use super::error::QueryError;
use super::message::Message;
use super::page::{page_cost, window};
use super::reader::Reader;
use super::stats::MessageStatsBucket;
use crate::state::QueryState;
use crate::timestamp::Timestamp;
use crate::views::page::{ListOf, Slice};
use crate::views::{accounts, conversations, messages};

/// Which accounts; deleted ones are left out unless they are asked for.
#[derive(InputObject, Default)]
pub(crate) struct AccountFilter {
    status: Option<AccountStatus>,
    /// Part of the name; case does not matter.
    search: Option<String>,
}

/// Which messages.
#[derive(InputObject, Default)]
pub(crate) struct MessageFilter {
    account_id: Option<ID>,
    /// WeCom's id: `S:` a person, `R:` a group.
    conversation_id: Option<String>,
    status: Option<MessageStatus>,
    batch_id: Option<ID>,
    /// Created at or after.
    from: Option<Timestamp>,
    /// Created before.
    to: Option<Timestamp>,
}

impl MessageFilter {
    /// `None` for an id that is no UUID: it is the id of nothing.
    fn read(self) -> Option<messages::MessageFilter> {
        let id = |id: Option<ID>| id.map(|id| read_id(&id)).map_or(Some(None), |id| id.map(Some));
        Some(messages::MessageFilter {
            account_id: id(self.account_id)?,
            conversation_id: self.conversation_id,
            status: self.status.map(Into::into),
            batch_id: id(self.batch_id)?,
            client_reference: None,
            from: self.from.map(|time| time.0),
            to: self.to.map(|time| time.0),
        })
    }
}

pub(crate) fn read_id(id: &ID) -> Option<Uuid> {
    parse_uuid(id)
}

/// Fails unless the caller holds `permission`.
pub(crate) fn require(ctx: &Context<'_>, permission: Permission) -> Result<()> {
    let call = ctx.data::<CallContext>()?;
    call.require(permission)
        .map_err(|problem| QueryError::PermissionDenied(problem.detail).into())
}

fn holds_nul(text: Option<&String>) -> bool {
    text.is_some_and(|text| text.contains('\0'))
}

pub(crate) struct Query;

#[Object]
impl Query {
    /// One account; null when there is none.
    async fn account(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Account>> {
        require(ctx, Permission::AccountRead)?;
        let reader = ctx.data::<Reader>()?;
        let Some(id) = read_id(&id) else { return Ok(None) };
        Ok(reader.account(id).await?.map(|row| Account::new(row, reader)))
    }

    /// Accounts, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn accounts(
        &self,
        ctx: &Context<'_>,
        filter: Option<AccountFilter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Page<Account>> {
        require(ctx, Permission::AccountRead)?;
        let reader = ctx.data::<Reader>()?;
        let window = window(ListOf::Accounts, first, after, last, before)?;
        let filter = filter.unwrap_or_default();
        if holds_nul(filter.search.as_ref()) {
            return Ok(nothing(reader));
        }
        let filter = accounts::AccountFilter {
            status: filter.status.map(Into::into),
            search: filter.search.filter(|search| !search.is_empty()),
            health_level: None,
        };
        let slice = accounts::window(reader.session(), &filter, &window).await?;
        Ok(page(slice, Counted::Accounts(filter), reader, |row| {
            (row.place(), Account::new(Arc::new(row), reader))
        }))
    }

    /// One message; null when there is none.
    async fn message(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Message>> {
        require(ctx, Permission::MessageRead)?;
        let reader = ctx.data::<Reader>()?;
        let Some(id) = read_id(&id) else { return Ok(None) };
        Ok(reader.message(id).await?.map(|row| Message::new(row, reader)))
    }

    /// Messages, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn messages(
        &self,
        ctx: &Context<'_>,
        filter: Option<MessageFilter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Page<Message>> {
        require(ctx, Permission::MessageRead)?;
        let reader = ctx.data::<Reader>()?;
        let window = window(ListOf::Messages, first, after, last, before)?;
        let Some(filter) = filter.unwrap_or_default().read() else {
            return Ok(nothing(reader));
        };
        if holds_nul(filter.conversation_id.as_ref()) {
            return Ok(nothing(reader));
        }
        let slice = messages::window(reader.session(), &filter, &window).await?;
        Ok(page(slice, Counted::Messages(filter), reader, |row| {
            (row.place(), Message::new(Arc::new(row), reader))
        }))
    }

    /// Conversations of an account, newest first.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn conversations(
        &self,
        ctx: &Context<'_>,
        account_id: ID,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Page<Conversation>> {
        require(ctx, Permission::AccountRead)?;
        let reader = ctx.data::<Reader>()?;
        let window = window(ListOf::Conversations, first, after, last, before)?;
        let Some(account_id) = read_id(&account_id) else {
            return Ok(nothing(reader));
        };
        let session = reader.session();
        let slice = conversations::window(session, account_id, &window).await?;
        let slice = Slice {
            rows: conversations::open(slice.rows, session.vault()).await?,
            has_previous: slice.has_previous,
            has_next: slice.has_next,
        };
        Ok(page(slice, Counted::ConversationsOf(account_id), reader, |shown| {
            (shown.place(), Conversation::new(shown, reader))
        }))
    }

    /// What became of the messages accepted from `from` (inclusive) to `to` (exclusive), empty buckets included. The
    /// first bucket starts at the hour or day of `from`.
    async fn message_stats(
        &self,
        ctx: &Context<'_>,
        from: Timestamp,
        to: Timestamp,
        interval: StatsInterval,
        account_id: Option<ID>,
    ) -> Result<Vec<MessageStatsBucket>> {
        require(ctx, Permission::MonitorRead)?;
        interval.check(from, to)?;
        let state = ctx.data::<QueryState>()?;
        let session = ctx.data::<Reader>()?.session();
        // The id of nothing has empty buckets, as an unknown one has.
        let account_id = account_id.map(|id| read_id(&id).unwrap_or_default());
        let buckets = state
            .facts()
            .message_stats(session.tenant_id(), account_id, (from.0, to.0), interval.seconds())
            .await?;
        Ok(buckets.into_iter().map(Into::into).collect())
    }
}
