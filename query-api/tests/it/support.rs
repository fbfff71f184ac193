//! A views' database, keys and (where a test wants them) facts and topics of a test's own, and the API over them.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use uuid::Uuid;
use weft_log_writer::testing::{self, TestDatabase};
use weft_platform::clock::Clock;
use weft_platform::config::{AuthSection, Config, Secret};
use weft_platform::health::Health;
use weft_platform::http::Authenticator;
use weft_platform::keys::{KeyStore, SealRequest, SealedParts};
use weft_query_api::{QueryState, router};

pub(crate) const TENANT_A: Uuid = AuthSection::DEV_TENANT_A;
pub(crate) const TENANT_B: Uuid = AuthSection::DEV_TENANT_B;

/// The n-th id of a test: a UUID that sorts by n.
pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0000 + n)
}

/// What the test's clock shows.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) health: Health,
    pub(crate) keys: KeyStore,
    pub(crate) admin: PgPool,
    pub(crate) router: Router,
    pub(crate) views: TestDatabase,
    _keys: Option<TestDatabase>,
    _stop: DropGuard,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A migrated views' database.
pub(crate) async fn views_database() -> TestDatabase {
    TestDatabase::clone_of("query_views", &fingerprint("views"), |name| async move {
        let mut config = Config::default();
        config.views.admin_url = weft_platform::testing::postgres_url(None, &name);
        weft_projectors::migrate::views(&config).await.map_err(Into::into)
    })
    .await
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// With another configuration than the usual one.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(None, change).await
    }

    /// With a key database, for those who seal.
    pub(crate) async fn with_keys() -> Self {
        let keys = TestDatabase::clone_of("query_keys", &fingerprint("keys"), |name| async move {
            let config = testing::config_of(&name, &name);
            weft_log_writer::migrate::keys(&config).await.map_err(Into::into)
        })
        .await;
        Self::start(Some(keys), |_| ()).await
    }

    async fn start(keys: Option<TestDatabase>, change: impl FnOnce(&mut Config)) -> Self {
        let views = views_database().await;
        let mut config = testing::config_of("unused", keys.as_ref().map_or("unused", TestDatabase::name));
        config.views.url = Secret(views.url("weft_query"));
        config.views.max_connections = 4;
        change(&mut config);
        let key_store = KeyStore::new(&config.keys).unwrap();
        let stop = CancellationToken::new();
        let health = Health::default();
        let state = QueryState::connect(
            &config,
            key_store.clone(),
            Authenticator::new(&config.auth.r#static),
            health.clone(),
            Clock::fixed(now()),
            stop.clone(),
        )
        .await
        .unwrap();
        Self {
            admin: views.admin_pool().await,
            router: router(state).0,
            health,
            keys: key_store,
            config,
            views,
            _keys: keys,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, "dev-token-a", &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.call(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn graphql_with(&self, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post("/graphql").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.call(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// A query as tenant A, with its whole answer.
    pub(crate) async fn ask(&self, query: &str, variables: Value) -> Value {
        let body = json!({"query": query, "variables": variables});
        let answer = self
            .graphql_with(body, &[("authorization", "Bearer dev-token-a")])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    /// The data of a query as tenant A that must succeed.
    pub(crate) async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    /// Inserts a row, with defaults for what is not given.
    pub(crate) async fn insert(&self, table: &str, defaults: Value, row: Value) {
        let mut columns: Map<String, Value> = defaults.as_object().unwrap().clone();
        columns.extend(row.as_object().unwrap().clone());
        let names: Vec<&str> = columns.keys().map(String::as_str).collect();
        let names = names.join(", ");
        sqlx::query(&format!(
            "insert into views_g1.{table} ({names}) select {names} from jsonb_populate_record(null::views_g1.{table}, $1)"
        ))
        .bind(Value::Object(columns))
        .execute(&self.admin)
        .await
        .unwrap();
    }

    pub(crate) async fn account(&self, account: Uuid, row: Value) {
        let defaults = json!({
            "id": account, "tenant_id": TENANT_A, "account_name": format!("account {account}"), "gateway": "instance",
            "status": "created", "config": config(), "created_at": "2026-02-01T00:00:00Z",
            "updated_at": "2026-02-01T00:00:00Z", "version": 1, "epoch": 1, "transaction_id": 1, "position": 1,
        });
        self.insert("accounts", defaults, row).await;
    }

    pub(crate) async fn message(&self, message: Uuid, row: Value) {
        let defaults = json!({
            "id": message, "tenant_id": TENANT_A, "account_id": id(1), "conversation_id": "S:1001",
            "message_type": "text", "content": {"text": "hello"}, "status": "pending", "priority": 5,
            "created_at": "2026-02-01T00:00:00Z", "updated_at": "2026-02-01T00:00:00Z", "version": 1, "epoch": 1,
            "transaction_id": 1, "position": 1,
        });
        self.insert("messages", defaults, row).await;
    }

    pub(crate) async fn conversation(&self, conversation: Uuid, row: Value) {
        let defaults = json!({
            "id": conversation, "tenant_id": TENANT_A, "account_id": id(1), "conversation_id": "S:1001",
            "conversation_type": "private", "created_at": "2026-02-01T00:00:00Z",
            "updated_at": "2026-02-01T00:00:00Z",
        });
        self.insert("conversations", defaults, row).await;
    }

    pub(crate) async fn history(&self, account: Uuid, sequence: i64, row: Value) {
        let defaults = json!({
            "account_id": account, "sequence": sequence, "tenant_id": TENANT_A, "old_status": "created",
            "new_status": "logging_in", "operator_type": "user", "operator_id": "static:a",
            "created_at": format!("2026-02-01T00:00:{sequence:02}Z"),
        });
        self.insert("account_status_history", defaults, row).await;
    }

    pub(crate) async fn update(&self, statement: &str) {
        sqlx::query(statement).execute(&self.admin).await.unwrap();
    }

    pub(crate) async fn seal(&self, subject: &str, plain: &Value) -> SealedParts {
        let request = SealRequest {
            subject: subject.to_owned(),
            month: None,
            plaintext: serde_json::to_vec(plain).unwrap(),
        };
        self.keys.seal_all(&[request]).await.unwrap().pop().unwrap()
    }
}

/// An account's settings as the domain stores them.
pub(crate) fn config() -> Value {
    serde_json::to_value(weft_domain::account::AccountConfig::default()).unwrap()
}

/// Names a database's migrations by their content, so that a changed one makes a new template.
fn fingerprint(database: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../schemas/postgres")
        .join(database);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in files.iter().flat_map(|file| std::fs::read(file).unwrap()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
