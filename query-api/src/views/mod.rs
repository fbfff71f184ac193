//! What the read models hold, as rows. Every statement runs inside a [`Session`](crate::session::Session), whose
//! transaction row-level security shows one tenant in; where a statement names the tenant, it is for the index.

pub(crate) mod accounts;
mod column;
pub(crate) mod conversations;
pub(crate) mod history;
pub(crate) mod messages;
pub(crate) mod page;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Postgres, QueryBuilder};

use self::page::{COUNTED, NumberedPage, Place, Total, Window};
use crate::error::ReadError;
use crate::session::Session;

/// A read model, by the projection that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Accounts,
    StatusHistory,
    Messages,
    Conversations,
    MessageFacts,
    /// Computed from the facts some time after these.
    MessageStats,
}

impl View {
    /// Its name in `views.checkpoints`.
    pub(crate) const fn projection(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::StatusHistory => "account_status_history",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::MessageFacts | Self::MessageStats => "message_facts",
        }
    }

    /// The aggregates that it is made from.
    pub(crate) const fn aggregates(self) -> &'static [&'static str] {
        match self {
            Self::Accounts | Self::StatusHistory => &["account"],
            Self::Messages | Self::MessageFacts | Self::MessageStats => &["message"],
            Self::Conversations => &["conversation", "message"],
        }
    }
}

/// The rows of a statement.
async fn fetch<R>(session: &Session, mut query: QueryBuilder<'_, Postgres>) -> Result<Vec<R>, ReadError>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let rows: Vec<R> = query
        .build_query_as()
        .fetch_all(&mut *session.connection().await?)
        .await?;
    Ok(rows)
}

/// How many rows a statement finds that begins with `select count(*) from (` and does not close it.
async fn count(session: &Session, mut query: QueryBuilder<'_, Postgres>) -> Result<Total, ReadError> {
    query.push(" limit ").push_bind(COUNTED + 1).push(") counted");
    let counted: i64 = query
        .build_query_scalar()
        .fetch_one(&mut *session.connection().await?)
        .await?;
    Ok(Total::of(counted))
}

/// Limits to a numbered page.
fn push_page(query: &mut QueryBuilder<'_, Postgres>, page: NumberedPage) {
    query.push(" limit ").push_bind(page.size);
    query.push(" offset ").push_bind(page.offset());
}

/// Narrows to a window over `created_at` and `id` of the table that `of` names, orders and limits.
fn push_window(query: &mut QueryBuilder<'_, Postgres>, of: &str, window: &Window<Place>) {
    for (place, comparison) in [(window.after, '<'), (window.before, '>')] {
        if let Some(place) = place {
            query.push(format!(" and ({of}.created_at, {of}.id) {comparison} ("));
            query.push_bind(place.at).push(", ").push_bind(place.id).push(")");
        }
    }
    let order = if window.from_end { "asc" } else { "desc" };
    query.push(format!(" order by {of}.created_at {order}, {of}.id {order} limit "));
    query.push_bind(window.limit());
}

/// The text of a `like` pattern that means `text` and nothing else.
fn like_anywhere(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_no_wildcards() {
        assert_eq!(like_anywhere(r"50%_\x"), r"%50\%\_\\x%");
    }
}
