//! A newtype per id, so that an account's id can never be passed where a message's is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

uuid_id!(
    /// A tenant: one enterprise. UUIDv7.
    TenantId
);
uuid_id!(
    /// One WeCom account that Weft manages. UUIDv7.
    AccountId
);
uuid_id!(
    /// One message to send. UUIDv7.
    MessageId
);
uuid_id!(
    /// The messages accepted by one `batch-send`. UUIDv7.
    BatchId
);
uuid_id!(
    /// One attempt to log an account in; what callbacks and verification codes refer to. UUIDv7.
    LoginAttemptId
);
uuid_id!(
    /// A conversation's stream: UUIDv5 of the account and the WeCom conversation id.
    ConversationId
);

impl ConversationId {
    /// The stream id of `conversation` as seen by `account`; the same pair always gives the same id.
    pub fn of(account: AccountId, conversation: &WecomConversationId) -> Self {
        Self(Uuid::new_v5(&account.0, conversation.as_str().as_bytes()))
    }
}

/// Whether a WeCom conversation is with one person (`S:`) or a group (`R:`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WecomConversationKind {
    Private,
    Group,
}

impl WecomConversationKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Group => "group",
        }
    }
}

/// WeCom's own conversation id: `S:` (private) or `R:` (group) and 1 to 98 visible characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = r"^[SR]:\S{1,98}$")))]
#[serde(try_from = "String", into = "String")]
pub struct WecomConversationId(String);

/// Why a text is no WeCom conversation id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a conversation id is `S:` or `R:` and 1 to 98 visible characters")]
pub struct InvalidWecomConversationId;

impl WecomConversationId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn kind(&self) -> WecomConversationKind {
        if self.0.starts_with("S:") {
            WecomConversationKind::Private
        } else {
            WecomConversationKind::Group
        }
    }
}

impl TryFrom<String> for WecomConversationId {
    type Error = InvalidWecomConversationId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let rest = text
            .strip_prefix("S:")
            .or_else(|| text.strip_prefix("R:"))
            .ok_or(InvalidWecomConversationId)?;
        let length = rest.chars().count();
        let visible = rest.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if (1..=98).contains(&length) && visible {
            Ok(Self(text))
        } else {
            Err(InvalidWecomConversationId)
        }
    }
}

impl FromStr for WecomConversationId {
    type Err = InvalidWecomConversationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<WecomConversationId> for String {
    fn from(id: WecomConversationId) -> Self {
        id.0
    }
}

impl fmt::Display for WecomConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
