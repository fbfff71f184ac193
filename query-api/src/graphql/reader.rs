//! What one request's resolvers read through: its transaction, and loaders that turn many single reads into one.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, HashMapCache, Loader};
use uuid::Uuid;

use crate::error::ReadError;
use crate::session::Session;
use crate::views::accounts::{self, AccountRow};
use crate::views::history::{self, HistoryRow};
use crate::views::messages::{self, MessageRow};
use crate::views::page::{Place, Slice, Total, Window};

/// Cheap to clone; every object of an answer holds one.
#[derive(Clone)]
pub(crate) struct Reader {
    session: Session,
    loader: Arc<DataLoader<ViewLoader, HashMapCache>>,
}

impl Reader {
    pub(crate) fn new(session: Session) -> Self {
        let loader = ViewLoader {
            session: session.clone(),
        };
        Self {
            session,
            loader: Arc::new(DataLoader::with_cache(loader, tokio::spawn, HashMapCache::default())),
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) async fn account(&self, id: Uuid) -> Result<Option<Arc<AccountRow>>, ReadError> {
        self.loader.load_one(AccountKey(id)).await
    }

    pub(crate) async fn message(&self, id: Uuid) -> Result<Option<Arc<MessageRow>>, ReadError> {
        self.loader.load_one(MessageKey(id)).await
    }

    pub(crate) async fn messages_of(
        &self,
        account: Uuid,
        window: Window<Place>,
    ) -> Result<Slice<MessageRow>, ReadError> {
        let key = MessagesKey { account, window };
        Ok(self.loader.load_one(key).await?.unwrap_or_default())
    }

    pub(crate) async fn history_of(&self, account: Uuid, window: Window<i64>) -> Result<Slice<HistoryRow>, ReadError> {
        let key = HistoryKey { account, window };
        Ok(self.loader.load_one(key).await?.unwrap_or_default())
    }

    pub(crate) async fn count_messages_of(&self, account: Uuid) -> Result<Total, ReadError> {
        let total = self.loader.load_one(MessageCountKey(account)).await?;
        Ok(total.unwrap_or(Total::of(0)))
    }

    pub(crate) async fn count_history_of(&self, account: Uuid) -> Result<Total, ReadError> {
        let total = self.loader.load_one(HistoryCountKey(account)).await?;
        Ok(total.unwrap_or(Total::of(0)))
    }
}

struct ViewLoader {
    session: Session,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct AccountKey(Uuid);

#[derive(Clone, PartialEq, Eq, Hash)]
struct MessageKey(Uuid);

#[derive(Clone, PartialEq, Eq, Hash)]
struct MessagesKey {
    account: Uuid,
    window: Window<Place>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct HistoryKey {
    account: Uuid,
    window: Window<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct MessageCountKey(Uuid);

#[derive(Clone, PartialEq, Eq, Hash)]
struct HistoryCountKey(Uuid);

impl Loader<AccountKey> for ViewLoader {
    type Value = Arc<AccountRow>;
    type Error = ReadError;

    async fn load(&self, keys: &[AccountKey]) -> Result<HashMap<AccountKey, Self::Value>, ReadError> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let rows = accounts::find_many(&self.session, &ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| (AccountKey(row.id), Arc::new(row)))
            .collect())
    }
}

impl Loader<MessageKey> for ViewLoader {
    type Value = Arc<MessageRow>;
    type Error = ReadError;

    async fn load(&self, keys: &[MessageKey]) -> Result<HashMap<MessageKey, Self::Value>, ReadError> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let rows = messages::find_many(&self.session, &ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| (MessageKey(row.id), Arc::new(row)))
            .collect())
    }
}

impl Loader<MessagesKey> for ViewLoader {
    type Value = Slice<MessageRow>;
    type Error = ReadError;

    async fn load(&self, keys: &[MessagesKey]) -> Result<HashMap<MessagesKey, Self::Value>, ReadError> {
        let mut loaded = HashMap::with_capacity(keys.len());
        for (window, accounts) in by_window(keys.iter().map(|key| (key.window, key.account))) {
            let mut rows = messages::windows(&self.session, &accounts, &window).await?;
            for account in accounts {
                let slice = window.slice(rows.remove(&account).unwrap_or_default());
                loaded.insert(MessagesKey { account, window }, slice);
            }
        }
        Ok(loaded)
    }
}

impl Loader<HistoryKey> for ViewLoader {
    type Value = Slice<HistoryRow>;
    type Error = ReadError;

    async fn load(&self, keys: &[HistoryKey]) -> Result<HashMap<HistoryKey, Self::Value>, ReadError> {
        let mut loaded = HashMap::with_capacity(keys.len());
        for (window, accounts) in by_window(keys.iter().map(|key| (key.window, key.account))) {
            let mut rows = history::windows(&self.session, &accounts, &window).await?;
            for account in accounts {
                let slice = window.slice(rows.remove(&account).unwrap_or_default());
                loaded.insert(HistoryKey { account, window }, slice);
            }
        }
        Ok(loaded)
    }
}

impl Loader<MessageCountKey> for ViewLoader {
    type Value = Total;
    type Error = ReadError;

    async fn load(&self, keys: &[MessageCountKey]) -> Result<HashMap<MessageCountKey, Total>, ReadError> {
        let accounts: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let counts = messages::count_by_account(&self.session, &accounts).await?;
        Ok(counts
            .into_iter()
            .map(|(id, total)| (MessageCountKey(id), total))
            .collect())
    }
}

impl Loader<HistoryCountKey> for ViewLoader {
    type Value = Total;
    type Error = ReadError;

    async fn load(&self, keys: &[HistoryCountKey]) -> Result<HashMap<HistoryCountKey, Total>, ReadError> {
        let accounts: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let counts = history::count_by_account(&self.session, &accounts).await?;
        Ok(counts
            .into_iter()
            .map(|(id, total)| (HistoryCountKey(id), total))
            .collect())
    }
}

/// One statement per distinct window: the accounts of one list all ask for the same.
fn by_window<K: Eq + std::hash::Hash>(keys: impl Iterator<Item = (Window<K>, Uuid)>) -> HashMap<Window<K>, Vec<Uuid>> {
    let mut groups: HashMap<Window<K>, Vec<Uuid>> = HashMap::new();
    for (window, account) in keys {
        groups.entry(window).or_default().push(account);
    }
    groups
}
