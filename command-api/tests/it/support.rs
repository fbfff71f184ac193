//! One API on a log of its own, called in process, and answers that can be compared.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tower::ServiceExt;
use uuid::Uuid;
use weft_command_api::{CommandState, router};
use weft_domain::TenantId;
use weft_domain::account::{Account, AccountCommand};
use weft_domain::message::{Message, MessageCommand};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{Committed, Executor};
use weft_platform::clock::Clock;
use weft_platform::config::{AuthSection, Config};
use weft_platform::health::Health;
use weft_platform::http::{Authenticator, EnvelopeConfig, envelope};

pub(crate) const TOKEN_A: &str = "dev-token-a";
pub(crate) const TOKEN_B: &str = "dev-token-b";
pub(crate) const TENANT_A: TenantId = TenantId(AuthSection::DEV_TENANT_A);

/// The API over a log that only this test has.
pub(crate) struct Api {
    pub(crate) executor: Executor,
    pub(crate) callback_stored: Arc<Notify>,
    pub(crate) log: TestLog,
    router: Router,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// The API of `config`, over whatever log it names.
pub(crate) async fn router_of(config: Config) -> (Router, Executor, Arc<Notify>) {
    let config = Arc::new(config);
    let clock = Clock::system();
    let executor = Executor::connect(&config, clock.clone()).await.unwrap();
    let callback_stored = Arc::new(Notify::new());
    let state = CommandState::new(
        executor.clone(),
        Arc::clone(&config),
        clock.clone(),
        Authenticator::new(&config.auth.r#static),
        Health::default(),
        vec![Arc::clone(&callback_stored)],
    );
    let http = config.http.clone();
    let router = envelope(router(state).0, EnvelopeConfig { clock, http });
    (router, executor, callback_stored)
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let log = TestLog::new().await;
        let mut config = log.config.clone();
        change(&mut config);
        let (router, executor, callback_stored) = router_of(config).await;
        Self {
            executor,
            callback_stored,
            log,
            router,
        }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// As another process has it, with writers and memory of its own.
    pub(crate) async fn other_process(&self) -> Router {
        router_of(self.log.config.clone()).await.0
    }

    /// Tenant A's call.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(method, path, Some(body), &[]).await
    }

    /// Tenant A's call with more headers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = request(method, path).header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(self.router(), request).await
    }

    /// Creates an account of tenant A; answers its id.
    pub(crate) async fn account(&self, name: &str) -> Uuid {
        let answer = self
            .call("POST", "/api/v1/accounts", json!({"account_name": name}))
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body());
        answer.id("account_id")
    }

    /// An account of tenant B.
    pub(crate) async fn foreign_account(&self) -> Uuid {
        let request = request("POST", "/api/v1/accounts")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN_B}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(json!({"account_name": "B's own"}).to_string()))
            .unwrap();
        self.send(request).await.id("account_id")
    }

    /// What a worker does to an account.
    pub(crate) async fn work(&self, id: Uuid, command: AccountCommand) -> Committed<Account> {
        self.executor
            .execute::<Account>(&id.to_string(), command, &options(TENANT_A))
            .await
            .unwrap()
    }

    /// What the dispatch worker does to a message.
    pub(crate) async fn dispatch(&self, id: Uuid, command: MessageCommand) -> Committed<Message> {
        self.executor
            .execute::<Message>(&id.to_string(), command, &options(TENANT_A))
            .await
            .unwrap()
    }

    pub(crate) async fn account_state(&self, id: Uuid) -> Account {
        self.executor.load::<Account>(&id.to_string()).await.unwrap().state
    }

    pub(crate) async fn message_state(&self, id: Uuid) -> Message {
        self.executor.load::<Message>(&id.to_string()).await.unwrap().state
    }

    /// Disables an account through the API.
    pub(crate) async fn disable(&self, id: Uuid) {
        let answer = self
            .call(
                "POST",
                &format!("/api/v1/accounts/{id}/disable"),
                json!({"reason": "test"}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }

    /// Deletes an account through the API.
    pub(crate) async fn delete(&self, id: Uuid) {
        let answer = self
            .call_with("DELETE", &format!("/api/v1/accounts/{id}"), None, &[])
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }

    /// Sends a text; answers the message's id.
    pub(crate) async fn text(&self, account_id: Uuid, text: &str) -> Uuid {
        let answer = self
            .call("POST", "/api/v1/messages/send", text_message(account_id, text))
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body());
        answer.id("message_id")
    }

    /// The whole log as text, to look for what must not be in it.
    pub(crate) async fn log_text(&self) -> String {
        let rows: Vec<String> = sqlx::query_scalar("select events::text from events order by position")
            .fetch_all(&self.log.log.admin_pool().await)
            .await
            .unwrap();
        rows.join("\n")
    }

    pub(crate) async fn event_count(&self) -> i64 {
        sqlx::query_scalar("select count(*) from events")
            .fetch_one(&self.log.log.admin_pool().await)
            .await
            .unwrap()
    }
}

pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        bytes: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

pub(crate) fn text_message(account_id: Uuid, text: &str) -> Value {
    json!({
        "account_id": account_id,
        "conversation_id": "S:1688850000000001",
        "message_type": "text",
        "content": {"text": text},
    })
}

/// `base` with some members changed; null removes one.
#[allow(clippy::needless_pass_by_value, reason = "callers write json!")]
pub(crate) fn changed(base: &Value, changes: Value) -> Value {
    let mut object = base.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
    Value::Object(object)
}

impl Answer {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn id(&self, field: &str) -> Uuid {
        self.body()[field]
            .as_str()
            .unwrap_or_else(|| panic!("{field} in {}", self.body()))
            .parse()
            .unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn etag(&self) -> &str {
        self.header("etag").unwrap()
    }

    /// Status and problem code.
    pub(crate) fn problem(&self) -> (u16, String) {
        (
            self.status.as_u16(),
            self.body()["code"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// `pointer code` of every error of a problem.
    pub(crate) fn errors(&self) -> Vec<String> {
        let body = self.body();
        let list = body["errors"].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|error| {
                format!(
                    "{} {}",
                    error["pointer"].as_str().unwrap(),
                    error["code"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// Everything a caller sees, with ids, times and tokens replaced.
    pub(crate) fn shown(&self) -> Value {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .filter(|(name, _)| *name != header::CONTENT_LENGTH)
            .map(|(name, value)| {
                let text = match name.as_str() {
                    "weft-consistency" => "[token]".to_owned(),
                    _ => redact(value.to_str().unwrap()),
                };
                (name.to_string(), Value::String(text))
            })
            .collect();
        json!({"status": self.status.as_u16(), "headers": headers, "body": redact_value(self.body())})
    }
}

fn redact_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(&text)),
        Value::Array(items) => items.into_iter().map(redact_value).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| (name, redact_value(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Replaces ids and times inside a text.
fn redact(text: &str) -> String {
    if text.ends_with('Z') && text.len() == 24 {
        return "[time]".to_owned();
    }
    let mut redacted = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        match rest.get(..36) {
            Some(id) if Uuid::parse_str(id).is_ok() => {
                redacted.push_str("[id]");
                rest = &rest[36..];
            }
            _ => {
                let next = rest.chars().next().unwrap();
                redacted.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    redacted
}
