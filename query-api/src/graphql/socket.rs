//! The graphql-transport-ws protocol (the `graphql-ws` library's), one task per connection.
//!
//! A slow client is not queued for: its streams are polled only when the last frame was written, and what changes
//! meanwhile is merged where it waits (see [`crate::live`]).

use std::time::Duration;

use async_graphql::{Request, Response as GraphqlResponse};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, interval_at, timeout_at};
use tokio_stream::StreamMap;
use weft_platform::http::{CallContext, Problem};

use super::error::{finish, is_refused};
use crate::state::QueryState;

const PROTOCOL: &str = "graphql-transport-ws";
/// How long a client may take to say who it is.
const INIT_WAIT: Duration = Duration::from_secs(5);
/// Between two pings, so that no proxy takes a quiet connection for a dead one, and a dead one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Operations open at once on one connection.
const MAX_OPERATIONS: usize = 200;
const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// What is read of a message at most: a client that is somewhat over learns why it is closed.
const READ_BYTES: usize = 4 * MAX_FRAME_BYTES;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Incoming {
    ConnectionInit { payload: Option<Value> },
    Subscribe { id: String, payload: Box<Request> },
    Complete { id: String },
    Ping { payload: Option<Value> },
    Pong {},
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Outgoing<'a> {
    ConnectionAck,
    Next {
        id: &'a str,
        payload: &'a GraphqlResponse,
    },
    Error {
        id: &'a str,
        payload: &'a [async_graphql::ServerError],
    },
    Complete {
        id: &'a str,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
}

/// Why the server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    GoingAway,
    InvalidMessage,
    Unauthorized,
    Forbidden,
    SubprotocolNotAcceptable,
    InitTimeout,
    SubscriberExists,
    TooManyInits,
    TooLarge,
}

impl Close {
    const fn frame(self) -> (u16, &'static str) {
        match self {
            Self::GoingAway => (1001, "The server is stopping"),
            Self::TooLarge => (1009, "A message may have 1 MiB"),
            Self::InvalidMessage => (4400, "Invalid message received"),
            Self::Unauthorized => (4401, "Unauthorized"),
            Self::Forbidden => (4403, "Forbidden"),
            Self::SubprotocolNotAcceptable => (4406, "Subprotocol not acceptable"),
            Self::InitTimeout => (4408, "Connection initialisation timeout"),
            Self::SubscriberExists => (4409, "Subscriber for this id already exists"),
            Self::TooManyInits => (4429, "Too many initialisation requests"),
        }
    }
}

/// `Ended(None)`: the client is gone.
struct Ended(Option<Close>);

impl From<axum::Error> for Ended {
    fn from(_: axum::Error) -> Self {
        Self(None)
    }
}

impl From<Close> for Ended {
    fn from(close: Close) -> Self {
        Self(Some(close))
    }
}

/// What one operation's stream brings.
enum Step {
    Next(Box<GraphqlResponse>),
    Done,
}

/// GET `/graphql/ws`.
pub(crate) async fn handler(
    State(state): State<QueryState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => {
            return refusal(&error);
        }
    };
    let offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim() == PROTOCOL);
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(READ_BYTES)
        .max_frame_size(READ_BYTES)
        .on_upgrade(move |mut socket| async move {
            let ended = if offered {
                let shutdown = state.shutdown().clone();
                tokio::select! {
                    ended = Connection { state, socket: &mut socket }.serve() => ended,
                    () = shutdown.cancelled() => Close::GoingAway.into(),
                }
            } else {
                Close::SubprotocolNotAcceptable.into()
            };
            if let Some(close) = ended.0 {
                let (code, reason) = close.frame();
                let frame = CloseFrame {
                    code,
                    reason: reason.into(),
                };
                // The client may have gone first.
                let _ = socket.send(Message::Close(Some(frame))).await;
            }
        })
}

/// 426 for a plain request; 400 for an upgrade that is not well-formed.
fn refusal(error: &WebSocketUpgradeRejection) -> Response {
    match error {
        WebSocketUpgradeRejection::InvalidConnectionHeader(_) | WebSocketUpgradeRejection::InvalidUpgradeHeader(_) => {
            let problem = Problem::new(
                StatusCode::UPGRADE_REQUIRED,
                "request.malformed",
                "this address speaks WebSocket alone, with the protocol graphql-transport-ws",
            );
            (
                [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")],
                problem,
            )
                .into_response()
        }
        error => Problem::new(StatusCode::BAD_REQUEST, "request.malformed", error.body_text()).into_response(),
    }
}

struct Connection<'s> {
    state: QueryState,
    socket: &'s mut WebSocket,
}

impl Connection<'_> {
    async fn serve(mut self) -> Ended {
        let call = match self.initialise().await {
            Ok(call) => call,
            Err(ended) => return ended,
        };
        match self.operate(&call).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    /// Waits for `connection_init` and checks its token.
    async fn initialise(&mut self) -> Result<CallContext, Ended> {
        let deadline = Instant::now() + INIT_WAIT;
        let payload = loop {
            let message = timeout_at(deadline, receive(self.socket))
                .await
                .map_err(|_| Close::InitTimeout)??;
            match message {
                Incoming::ConnectionInit { payload } => break payload,
                Incoming::Ping { payload } => self.send(&Outgoing::Pong { payload }).await?,
                Incoming::Subscribe { .. } => return Err(Close::Unauthorized.into()),
                Incoming::Complete { .. } | Incoming::Pong {} => {}
            }
        };
        let call = payload
            .as_ref()
            .and_then(|payload| payload.get("Authorization")?.as_str())
            .and_then(|bearer| self.state.authenticator().authenticate_bearer(bearer).ok())
            .ok_or(Close::Forbidden)?;
        self.send(&Outgoing::ConnectionAck).await?;
        Ok(call)
    }

    async fn operate(&mut self, call: &CallContext) -> Result<std::convert::Infallible, Ended> {
        let mut operations: StreamMap<String, BoxStream<'static, Step>> = StreamMap::new();
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            tokio::select! {
                message = receive(self.socket) => match message? {
                    Incoming::ConnectionInit { .. } => return Err(Close::TooManyInits.into()),
                    Incoming::Ping { payload } => self.send(&Outgoing::Pong { payload }).await?,
                    Incoming::Pong {} => {}
                    Incoming::Complete { id } => {
                        operations.remove(&id);
                    }
                    Incoming::Subscribe { id, payload } => {
                        if operations.contains_key(&id) {
                            return Err(Close::SubscriberExists.into());
                        }
                        if operations.len() >= MAX_OPERATIONS {
                            self.refuse(&id).await?;
                            continue;
                        }
                        operations.insert(id, self.start(call, *payload));
                    }
                },
                _ = keep_alive.tick() => self.socket.send(Message::Ping(Bytes::new())).await?,
                Some((id, step)) = operations.next() => match step {
                    Step::Next(response) if is_refused(&response) => {
                        operations.remove(&id);
                        self.send(&Outgoing::Error { id: &id, payload: &response.errors }).await?;
                    }
                    Step::Next(response) => self.send(&Outgoing::Next { id: &id, payload: &response }).await?,
                    Step::Done => {
                        operations.remove(&id);
                        self.send(&Outgoing::Complete { id: &id }).await?;
                    }
                },
            }
        }
    }

    fn start(&self, call: &CallContext, request: Request) -> BoxStream<'static, Step> {
        let request = self.state.prepare(request, call);
        self.state
            .schema()
            .execute_stream(request)
            .map(|response| Step::Next(Box::new(finish(response))))
            .chain(futures::stream::once(async { Step::Done }))
            .boxed()
    }

    async fn refuse(&mut self, id: &str) -> Result<(), Ended> {
        let mut error =
            async_graphql::ServerError::new(format!("a connection may have {MAX_OPERATIONS} operations open"), None);
        super::error::set_code(&mut error, "TOO_MANY_OPERATIONS");
        self.send(&Outgoing::Error { id, payload: &[error] }).await
    }

    async fn send(&mut self, message: &Outgoing<'_>) -> Result<(), Ended> {
        let text = serde_json::to_string(message).map_err(|_| Close::InvalidMessage)?;
        Ok(self.socket.send(Message::Text(text.into())).await?)
    }
}

/// The frame's head said so: the rest of it was not read. The library's own type is not ours to name.
fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().starts_with("Space limit exceeded")
}

/// The next message of the protocol; WebSocket's own pings are answered below us.
async fn receive(socket: &mut WebSocket) -> Result<Incoming, Ended> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) if text.len() > MAX_FRAME_BYTES => return Err(Close::TooLarge.into()),
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|_| Close::InvalidMessage.into());
            }
            Some(Ok(Message::Binary(_))) => return Err(Close::InvalidMessage.into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Err(error)) if is_too_large(&error) => return Err(Close::TooLarge.into()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Ended(None)),
        }
    }
}
