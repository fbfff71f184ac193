//! POST /api/v1/callbacks/instance/{token}
//!
//! Stored as it came, sealed, before it is answered; interpreted by a worker after. What it says is not looked at here
//! beyond two columns that help an operator find it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use weft_domain::account::{Account, AccountStatus};
use weft_domain::{AccountId, TenantId};
use weft_log_writer::seal::account_subject;
use weft_platform::callback_token::CallbackAddress;
use weft_platform::http::{Problem, read_body, with_replacement_characters};
use weft_platform::keys::{KeysError, SealRequest};
use weft_wecom::lenient::{integer, text};

use crate::refusal::{defect, keys_problem, problem_of};
use crate::state::CommandState;

/// Longest guid and user agent that are kept as columns.
const MAX_COLUMN: usize = 255;

/// Takes a callback of a client instance. Any content; the token in the path says whose it is.
#[utoipa::path(
    post,
    path = "/api/v1/callbacks/instance/{token}",
    tag = "callbacks",
    operation_id = "receive_instance_callback",
    params(("token" = String, Path, description = "Set as notify url by the login worker")),
    request_body(content = Value, description = "What the instance says; stored as it came", content_type = "*/*"),
    responses(
        (status = 200, description = "Stored", body = Value, example = json!({})),
        (status = 404, description = "callback.not_found"),
    )
)]
#[tracing::instrument(name = "callback.instance", skip_all, fields(callback.id, account.id))]
pub(crate) async fn handler(State(app): State<CommandState>, request: Request) -> Result<Json<Value>, Problem> {
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &app).await.ok();
    let token = params
        .as_ref()
        .and_then(|params| params.iter().find(|(name, _)| *name == "token"));
    let address = token
        .and_then(|(_, token)| CallbackAddress::read(token, app.keys()))
        .ok_or_else(not_found)?;
    let account_id = AccountId(address.account_id);
    tracing::Span::current().record("account.id", tracing::field::display(account_id));
    let bytes = read_body(&parts.headers, body, app.config.http.max_body_bytes).await?;
    let tenant_id = tenant_of(&app, account_id).await?;
    let received = Received {
        address,
        tenant_id,
        source_ip: parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|peer| peer.0.ip().to_string()),
        user_agent: user_agent(&parts.headers),
    };
    store(&app, received, &bytes).await?;
    app.tell_callback(tenant_id);
    Ok(Json(json!({})))
}

/// A callback's envelope.
struct Received {
    address: CallbackAddress,
    tenant_id: TenantId,
    source_ip: Option<String>,
    user_agent: Option<String>,
}

async fn store(app: &CommandState, received: Received, body: &[u8]) -> Result<(), Problem> {
    let Received {
        address,
        tenant_id,
        source_ip,
        user_agent,
    } = received;
    let request = SealRequest {
        subject: account_subject(AccountId(address.account_id)),
        month: None,
        plaintext: body.to_vec(),
    };
    let sealed = match app.keys().seal_all(&[request]).await {
        Ok(sealed) => sealed,
        Err(KeysError::Destroyed(_)) => return Err(not_found()),
        Err(error) => return Err(keys_problem(error)),
    };
    let raw_data = sealed
        .first()
        .map(|sealed| json!(sealed))
        .ok_or_else(|| defect(&"nothing was sealed"))?;
    let (guid, notify_type) = columns(body);
    let id = app.clock.new_id();
    tracing::Span::current().record("callback.id", tracing::field::display(id));
    sqlx::query(
        "insert into workers.callback_events
           (id, tenant_id, account_id, attempt_id, guid, notify_type, raw_data, received_time, source_ip, user_agent)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(id)
    .bind(tenant_id.0)
    .bind(address.account_id)
    .bind(address.attempt_id)
    .bind(guid)
    .bind(notify_type)
    .bind(raw_data)
    .bind(app.clock.now())
    .bind(source_ip)
    .bind(user_agent)
    .execute(app.executor(tenant_id).pool())
    .await
    .map_err(|error| {
        tracing::warn!(%error, "a callback could not be stored");
        Problem::log_unavailable()
    })?;
    Ok(())
}

fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "callback.not_found",
        "there is no such callback address",
    )
}

/// The account's tenant; remembered, for it never changes. An account that was deleted takes no more callbacks.
async fn tenant_of(app: &CommandState, id: AccountId) -> Result<TenantId, Problem> {
    if let Some(tenant_id) = app.tenants.get(&id).await {
        return Ok(tenant_id);
    }
    // The address does not tell the tenant, and so not the log.
    let mut unknown = not_found();
    for executor in app.logs.all() {
        let account = match executor.load::<Account>(&id.to_string()).await {
            Ok(loaded) => loaded.state,
            Err(error) => {
                unknown = problem_of(error);
                continue;
            }
        };
        match (account.tenant_id, account.status) {
            (None, _) => {}
            (_, Some(AccountStatus::Deleted)) => return Err(not_found()),
            (Some(tenant_id), _) => {
                app.tenants.insert(id, tenant_id).await;
                return Ok(tenant_id);
            }
        }
    }
    Err(unknown)
}

/// guid and notify_type, where the body has them in a form that the columns can hold. More than is acted on is found
/// here: a `notify_type` in quotes is one to look for.
fn columns(body: &[u8]) -> (Option<String>, Option<i32>) {
    let value: Value = serde_json::from_slice(&with_replacement_characters(body)).unwrap_or_default();
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    let guid = text(object, "guid");
    let storable = !guid.is_empty() && guid.len() <= MAX_COLUMN;
    let notify_type = integer(object, "notify_type").and_then(|number| i32::try_from(number).ok());
    (storable.then_some(guid), notify_type)
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let agent = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes()).into_owned();
    Some(agent.chars().take(MAX_COLUMN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_from_whatever_came() {
        let guid = Some("g-1".to_owned());
        assert_eq!(
            columns(br#"{"guid":"g-1","notify_type":11002,"data":{}}"#),
            (guid.clone(), Some(11_002))
        );
        assert_eq!(
            columns(br#"{"guid":"g-1","notify_type":"11002"}"#),
            (guid.clone(), Some(11_002))
        );
        assert_eq!(columns(br#"{"guid":"g-1","notify_type":99999999999}"#), (guid, None));
        assert_eq!(
            columns(br#"{"guid":"g-1","notify_type":11003,"data":{"name":"\ud83d"}}"#),
            (Some("g-1".to_owned()), Some(11_003))
        );
        assert_eq!(columns(br#"{"guid":"\u0000"}"#), (Some("\u{fffd}".to_owned()), None));
        for other in [b"".as_slice(), b"hello", b"[1]", b"\xff\xfe", b"null"] {
            assert_eq!(columns(other), (None, None));
        }
    }
}
