//! The control API under `/_sim`, with which tests and people play WeCom's part, and the page at `/`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as AppState};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, State, WrongState};
use super::faults::FaultRequest;
use super::messages::Incoming;
use super::qr;
use super::world::{ActError, World};

/// The longest page of the ledger, and the most codes that the page shows.
const MAX_ENTRIES: usize = 10_000;
const MAX_SHOWN: usize = 60;

pub(super) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/_sim/clients", get(clients))
        .route("/_sim/waiting", get(waiting))
        .route("/_sim/clients/{guid}/{action}", post(act))
        .route("/_sim/ledger", get(ledger))
        .route("/_sim/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_sim/faults/{fault_id}", delete(remove_fault))
        .route("/_sim/reset", post(reset))
        .fallback(async |method: Method, uri: Uri| {
            problem(StatusCode::NOT_FOUND, &format!("nothing at {method} {}", uri.path()))
        })
        .with_state(world)
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

fn disk(error: &std::io::Error) -> Response {
    tracing::error!(%error, "the simulator cannot write its folder");
    problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

async fn clients(AppState(world): AppState<Arc<World>>) -> Json<Value> {
    let state = world.state();
    let mut clients: Vec<_> = state.clients.values().collect();
    clients.sort_unstable_by_key(|client| client.number);
    Json(json!({ "clients": clients.into_iter().map(Client::view).collect::<Vec<_>>() }))
}

/// The clients that somebody with a phone is waited for, with their codes as pictures: what the page shows.
async fn waiting(AppState(world): AppState<Arc<World>>) -> Json<Value> {
    let waiting: Vec<_> = {
        let state = world.state();
        let mut clients: Vec<_> = state.clients.values().collect();
        clients.sort_unstable_by_key(|client| client.number);
        clients
            .into_iter()
            .filter(|client| matches!(client.state, State::WaitingScan | State::Scanned | State::NeedCode))
            .filter_map(|client| {
                let content = client.valid_code(world.clock.now_ms())?.content.clone();
                Some((client.view(), client.profile().name, content))
            })
            .take(MAX_SHOWN)
            .collect()
    };
    let shown: Vec<_> = waiting
        .into_iter()
        .map(|(mut view, name, content)| {
            view["name"] = json!(name);
            view["png"] = json!(qr::png_base64(&content));
            view
        })
        .collect();
    Json(json!({ "clients": shown }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    code: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Drop {
    silent: bool,
}

/// An empty body stands for `{}`.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()))
}

async fn act(
    AppState(world): AppState<Arc<World>>,
    Path((guid, action)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Response> {
    let now = world.clock.now_ms();
    let acted = match action.as_str() {
        "need_code" => {
            let Code { code } = read(&body)?;
            world.act(&guid, |client| client.need_code(code, now))
        }
        "safe_verify" => {
            let Code { code } = read(&body)?;
            world.act(&guid, |client| client.safe_verify(code, now))
        }
        "drop" => {
            let Drop { silent } = read(&body)?;
            world.act(&guid, |client| client.drop_connection(silent))
        }
        "incoming" => {
            let incoming: Incoming = read(&body)?;
            world.act(&guid, |client| {
                if client.state != State::Online {
                    return Err(WrongState);
                }
                let notice = incoming.notice(client, now).ok_or(WrongState)?;
                client.received += 1;
                Ok(vec![notice])
            })
        }
        plain => {
            let NoBody {} = read(&body)?;
            world
                .act_plain(&guid, plain, now)
                .ok_or_else(|| problem(StatusCode::NOT_FOUND, "no such action"))?
        }
    };
    match acted {
        Ok(client) => Ok(Json(client).into_response()),
        Err(ActError::NoSuchClient) => Err(problem(StatusCode::NOT_FOUND, "no such client")),
        Err(ActError::WrongState) => Err(problem(StatusCode::CONFLICT, "the client's state makes no sense of it")),
        Err(ActError::Disk(error)) => Err(disk(&error)),
    }
}

impl World {
    /// The acts that need no words; `None` for one that does not exist.
    fn act_plain(&self, guid: &str, action: &str, now: i64) -> Option<Result<Value, ActError>> {
        Some(match action {
            "scan" => self.act(guid, |client| client.scan(now)),
            "confirm" => self.act(guid, |client| client.confirm(now)),
            "refuse" => self.act(guid, Client::refuse),
            "expire" => self.act(guid, |client| client.expire(now)),
            "login_failed" => self.act(guid, Client::login_failed),
            "logout" => self.act(guid, Client::act_logout),
            "session_timeout" => self.act(guid, Client::session_timeout),
            "other_device" => self.act(guid, Client::other_device),
            "restrict" | "lift" => self.act(guid, |client| {
                client.restricted = action == "restrict";
                Ok(Vec::new())
            }),
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    guid: Option<String>,
    #[serde(default)]
    after: Option<u64>,
    limit: Option<usize>,
}

async fn ledger(AppState(world): AppState<Arc<World>>, Query(query): Query<LedgerQuery>) -> Response {
    let limit = query.limit.unwrap_or(1_000).min(MAX_ENTRIES);
    // `?guid=` as simulator.md writes it means no guid.
    let guid = query.guid.as_deref().filter(|guid| !guid.is_empty());
    match world.ledger_page(guid, query.after.unwrap_or_default(), limit).read() {
        Ok(entries) => ([(CONTENT_TYPE, "application/json")], entries).into_response(),
        Err(error) => disk(&error),
    }
}

async fn faults(AppState(world): AppState<Arc<World>>) -> Json<Value> {
    Json(world.state().faults.view())
}

async fn add_fault(AppState(world): AppState<Arc<World>>, body: Bytes) -> Result<Response, Response> {
    let request: FaultRequest = read(&body)?;
    match world.add_fault(request) {
        Ok(fault_id) => Ok((StatusCode::CREATED, Json(json!({ "fault_id": fault_id }))).into_response()),
        Err(error) => Err(problem(StatusCode::UNPROCESSABLE_ENTITY, error)),
    }
}

async fn clear_faults(AppState(world): AppState<Arc<World>>) -> StatusCode {
    world.state().faults.clear();
    StatusCode::NO_CONTENT
}

async fn remove_fault(AppState(world): AppState<Arc<World>>, Path(fault_id): Path<String>) -> Response {
    match world.state().faults.remove(&fault_id) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => problem(StatusCode::NOT_FOUND, "no such fault"),
    }
}

async fn reset(AppState(world): AppState<Arc<World>>) -> Response {
    match world.reset() {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => disk(&error),
    }
}
