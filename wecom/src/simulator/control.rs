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
            Refused::new(StatusCode::NOT_FOUND, format!("nothing at {method} {}", uri.path()))
        })
        .with_state(world)
}

/// Why a request of the control API is refused.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    error: String,
}

impl Refused {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "the simulator cannot use its folder");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<ActError> for Refused {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NoSuchClient => Self::new(StatusCode::NOT_FOUND, "no such client"),
            ActError::WrongState => Self::new(StatusCode::CONFLICT, "the client's state makes no sense of it"),
            ActError::Disk(error) => Self::from(error),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
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
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

async fn act(
    AppState(world): AppState<Arc<World>>,
    Path((guid, action)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
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
                .ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "no such action"))?
        }
    };
    Ok(Json(acted?))
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

async fn ledger(AppState(world): AppState<Arc<World>>, Query(query): Query<LedgerQuery>) -> Result<Response, Refused> {
    let limit = query.limit.unwrap_or(1_000).min(MAX_ENTRIES);
    // `?guid=` as simulator.md writes it means no guid.
    let guid = query.guid.as_deref().filter(|guid| !guid.is_empty());
    let entries = world.ledger_page(guid, query.after.unwrap_or_default(), limit).read()?;
    Ok(([(CONTENT_TYPE, "application/json")], entries).into_response())
}

async fn faults(AppState(world): AppState<Arc<World>>) -> Json<Value> {
    Json(world.state().faults.view())
}

async fn add_fault(AppState(world): AppState<Arc<World>>, body: Bytes) -> Result<(StatusCode, Json<Value>), Refused> {
    let request: FaultRequest = read(&body)?;
    let fault_id = world
        .add_fault(request)
        .map_err(|error| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    Ok((StatusCode::CREATED, Json(json!({ "fault_id": fault_id }))))
}

async fn clear_faults(AppState(world): AppState<Arc<World>>) -> StatusCode {
    world.state().faults.clear();
    StatusCode::NO_CONTENT
}

async fn remove_fault(
    AppState(world): AppState<Arc<World>>,
    Path(fault_id): Path<String>,
) -> Result<StatusCode, Refused> {
    if world.state().faults.remove(&fault_id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refused::new(StatusCode::NOT_FOUND, "no such fault"))
    }
}

async fn reset(AppState(world): AppState<Arc<World>>) -> Result<StatusCode, Refused> {
    world.reset()?;
    Ok(StatusCode::NO_CONTENT)
}
