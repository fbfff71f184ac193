//! GET `/api/v1/messages`.

use axum::extract::RawQuery;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use weft_domain::WecomConversationId;
use weft_domain::message::MessageStatus;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::message::Message;
use crate::rest::answer::{PageNumbers, page_of, sort_of};
use crate::state::Read;
use crate::views::messages::{self, MessageFilter, MessageSort};

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct Messages {
    messages: Vec<Message>,
    #[serde(flatten)]
    page: PageNumbers,
}

/// A page of the tenant's messages, newest first; a batch's in the order of its index.
#[utoipa::path(
    get,
    path = "/api/v1/messages",
    tag = "messages",
    operation_id = "list_messages",
    params(
        ("account_id" = Option<String>, Query, description = "Of this account"),
        ("conversation_id" = Option<String>, Query, description = "Of this WeCom conversation"),
        ("status" = Option<String>, Query, description = "In this status"),
        ("batch_id" = Option<String>, Query, description = "Of this batch"),
        ("client_reference" = Option<String>, Query, description = "With this reference of the caller's"),
        ("from" = Option<String>, Query, description = "Created at or after; RFC 3339"),
        ("to" = Option<String>, Query, description = "Created before; RFC 3339"),
        ("sort" = Option<String>, Query, description = "-created_at or created_at"),
        ("page" = Option<i64>, Query, description = "From 1"),
        ("size" = Option<i64>, Query, description = "1 to 100; 20 by default"),
    ),
    responses((status = 200, body = Messages), (status = 422, description = "request.invalid")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.message.list", skip_all)]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    RawQuery(query): RawQuery,
) -> Result<Json<Messages>, Problem> {
    read.call.require(Permission::MessageRead)?;
    let mut params = QueryParams::parse(query.as_deref());
    let filter = MessageFilter {
        account_id: params.uuid("account_id"),
        conversation_id: params.parsed(
            "conversation_id",
            "format",
            "S: or R: and 1 to 98 visible characters",
            |text| text.parse::<WecomConversationId>().ok().map(String::from),
        ),
        status: params.parsed("status", "out_of_range", "a status of a message", MessageStatus::parse),
        batch_id: params.uuid("batch_id"),
        client_reference: params.text("client_reference"),
        from: params.time("from"),
        to: params.time("to"),
    };
    let sort = sort_of(
        &mut params,
        &[
            ("-created_at", MessageSort::NewestFirst),
            ("created_at", MessageSort::OldestFirst),
        ],
    );
    let page = page_of(&mut params);
    params.finish()?;
    let usual = if filter.batch_id.is_some() {
        MessageSort::BatchIndex
    } else {
        MessageSort::NewestFirst
    };
    let (rows, total) = messages::list(&read.session, &filter, sort.unwrap_or(usual), page).await?;
    Ok(Json(Messages {
        messages: rows.into_iter().map(Into::into).collect(),
        page: PageNumbers::new(page, total),
    }))
}
