//! GET `/api/v1/accounts/{id}/conversations`.

use axum::extract::RawQuery;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_platform::http::Problem;

use super::list_of_account;
use crate::rest::answer::PageNumbers;
use crate::rest::path::AccountPath;
use crate::state::Read;
use crate::timestamp::Timestamp;
use crate::views::conversations;

/// One conversation of an account.
#[derive(Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the contract's names")]
struct Conversation {
    id: Uuid,
    conversation_id: String,
    /// Masked without the permission to read personal data.
    conversation_name: Option<String>,
    /// `private` or `group`.
    conversation_type: String,
    avatar_url: Option<String>,
    member_count: Option<i64>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    last_msg_time: Option<Timestamp>,
    /// Masked without the permission to read personal data.
    last_msg_content: Option<String>,
    unread_count: i64,
    is_active: bool,
    is_pinned: bool,
    tags: Vec<String>,
    /// Whether events are missing here, because a stream that they belong to was put aside.
    is_incomplete: bool,
}

/// A page of an account's conversations.
#[derive(Serialize, ToSchema)]
pub(crate) struct Conversations {
    conversations: Vec<Conversation>,
    #[serde(flatten)]
    page: PageNumbers,
}

/// An account's conversations, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/conversations",
    tag = "accounts",
    operation_id = "list_account_conversations",
    params(
        ("id" = String, Path, description = "The account's id"),
        ("sort" = Option<String>, Query, description = "-created_at or created_at"),
        ("page" = Option<i64>, Query, description = "From 1"),
        ("size" = Option<i64>, Query, description = "1 to 100; 20 by default"),
    ),
    responses(
        (status = 200, body = Conversations),
        (status = 404, description = "account.not_found"),
        (status = 422, description = "request.invalid"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.conversations", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    AccountPath(id): AccountPath,
    RawQuery(query): RawQuery,
) -> Result<Json<Conversations>, Problem> {
    let (oldest_first, page) = list_of_account(&read, id, query.as_deref()).await?;
    let (rows, total) = conversations::list(&read.session, id, oldest_first, page).await?;
    let shown = conversations::open(rows, read.session.vault()).await?;
    let conversations = shown.into_iter().map(|shown| Conversation {
        id: shown.row.id,
        conversation_id: shown.row.conversation_id,
        conversation_name: shown.name,
        conversation_type: shown.row.conversation_type.as_str().to_owned(),
        avatar_url: shown.avatar_url,
        member_count: shown.row.member_count,
        last_msg_time: shown.row.last_msg_time.map(Timestamp),
        last_msg_content: shown.last_content,
        unread_count: shown.row.unread_count,
        is_active: shown.row.is_active,
        is_pinned: shown.row.is_pinned,
        is_incomplete: shown.row.is_incomplete,
        tags: shown.row.tags,
    });
    Ok(Json(Conversations {
        conversations: conversations.collect(),
        page: PageNumbers::new(page, total),
    }))
}
