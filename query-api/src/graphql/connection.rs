//! Relay connections with totals that are counted only when they are asked for.

use async_graphql::connection::{Connection, Edge, EmptyFields};
use async_graphql::{Object, OutputType, Result};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::reader::Reader;
use crate::error::ReadError;
use crate::views::accounts::AccountFilter;
use crate::views::messages::MessageFilter;
use crate::views::page::{Key, ListOf, Slice, Total, cursor};
use crate::views::{accounts, conversations, messages};

pub(crate) type Page<T> = Connection<String, T, Totals, EmptyFields>;

/// What a connection is of.
pub(crate) enum Counted {
    Nothing,
    Accounts(AccountFilter),
    Messages(MessageFilter),
    MessagesOf(Uuid),
    HistoryOf(Uuid),
    ConversationsOf(Uuid),
}

impl Counted {
    /// `None`: a list that has nothing, and no cursors.
    const fn list(&self) -> Option<ListOf> {
        match self {
            Self::Nothing => None,
            Self::Accounts(_) => Some(ListOf::Accounts),
            Self::Messages(_) | Self::MessagesOf(_) => Some(ListOf::Messages),
            Self::HistoryOf(_) => Some(ListOf::History),
            Self::ConversationsOf(_) => Some(ListOf::Conversations),
        }
    }
}

/// The size of the whole list.
pub(crate) struct Totals {
    counted: Counted,
    reader: Reader,
    total: OnceCell<Total>,
}

impl Totals {
    async fn total(&self) -> Result<Total, ReadError> {
        let session = self.reader.session();
        let count = || async {
            match &self.counted {
                Counted::Nothing => Ok(Total::of(0)),
                Counted::Accounts(filter) => accounts::count(session, filter).await,
                Counted::Messages(filter) => messages::count(session, filter).await,
                Counted::MessagesOf(account) => self.reader.count_messages_of(*account).await,
                Counted::HistoryOf(account) => self.reader.count_history_of(*account).await,
                Counted::ConversationsOf(account) => conversations::count(session, *account).await,
            }
        };
        self.total.get_or_try_init(count).await.copied()
    }
}

#[Object]
impl Totals {
    /// Counted to 10,000.
    async fn total_count(&self) -> Result<i64> {
        Ok(self.total().await?.count)
    }

    /// There are more than `totalCount`.
    async fn total_is_capped(&self) -> Result<bool> {
        Ok(self.total().await?.is_capped)
    }
}

/// The connection of a slice; `show` gives a row's place and its object.
pub(crate) fn page<R, K: Key, T: OutputType>(
    slice: Slice<R>,
    counted: Counted,
    reader: &Reader,
    show: impl Fn(R) -> (K, T),
) -> Page<T> {
    let list = counted.list();
    let totals = Totals {
        counted,
        reader: reader.clone(),
        total: OnceCell::new(),
    };
    let mut connection = Connection::with_additional_fields(slice.has_previous, slice.has_next, totals);
    connection.edges.extend(slice.rows.into_iter().map(|row| {
        let (place, node) = show(row);
        Edge::new(list.map_or_else(String::new, |list| cursor(list, &place)), node)
    }));
    connection
}

/// The connection of a list that has nothing.
pub(crate) fn nothing<T: OutputType>(reader: &Reader) -> Page<T> {
    page(Slice::<(i64, T)>::default(), Counted::Nothing, reader, |row| row)
}
