//! Enums of the schema: the REST values in capitals.

use async_graphql::Enum;

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "weft_domain::account::AccountStatus")]
pub(crate) enum AccountStatus {
    Created,
    LoggingIn,
    WaitingForQrcodeScan,
    WaitingForConfirmation,
    WaitingForVerification,
    Online,
    Error,
    NetworkError,
    AuthError,
    RateLimited,
    Recovering,
    Offline,
    LoggedOut,
    Disabled,
    Deleted,
}

/// How an account reaches WeCom.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "weft_domain::account::GatewayKind")]
pub(crate) enum Gateway {
    Instance,
    Official,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "weft_domain::message::MessageStatus")]
pub(crate) enum MessageStatus {
    Pending,
    Sending,
    Sent,
    Delivered,
    Failed,
    Cancelled,
    Revoked,
    Unknown,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "weft_domain::message::MessageType")]
pub(crate) enum MessageType {
    Text,
    Image,
    File,
    Link,
    Miniprogram,
    At,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "weft_domain::WecomConversationKind")]
pub(crate) enum ConversationType {
    Private,
    Group,
}

/// Who changed a status: a person, a worker, or a timer.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorType {
    User,
    System,
    Auto,
}

impl OperatorType {
    /// As the views hold it.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "user" => Self::User,
            "auto" => Self::Auto,
            _ => Self::System,
        }
    }
}

/// The length of a bucket of statistics; days are UTC's.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatsInterval {
    Hour,
    Day,
}
