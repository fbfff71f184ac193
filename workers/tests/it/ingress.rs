//! What the command API does with callbacks: stored sealed, then answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use uuid::Uuid;
use weft_domain::AccountId;
use weft_log_writer::seal::account_subject;
use weft_platform::callback_token::{CallbackAddress, INSTANCE_CALLBACKS};
use weft_platform::clock::Clock;
use weft_platform::keys::{KeyStore, SealRequest};

#[derive(Clone)]
pub(crate) struct Ingress {
    pool: PgPool,
    keys: KeyStore,
    tenant: Uuid,
    /// Of the workers that run now.
    wake: Arc<Mutex<Arc<Notify>>>,
}

impl Ingress {
    /// Serves on `listener` until the test's runtime ends.
    pub(crate) fn serve(listener: TcpListener, pool: PgPool, keys: KeyStore, tenant: Uuid) -> Self {
        let ingress = Self {
            pool,
            keys,
            tenant,
            wake: Arc::default(),
        };
        let router = Router::new()
            .route(&format!("{INSTANCE_CALLBACKS}/{{token}}"), post(take))
            .with_state(ingress.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the ingress serves") });
        ingress
    }

    pub(crate) fn wakes(&self, wake: Arc<Notify>) {
        *self.wake.lock().expect("the lock") = wake;
    }

    pub(crate) async fn store(&self, address: CallbackAddress, body: &[u8]) -> Uuid {
        let subject = account_subject(AccountId(address.account_id));
        let request = SealRequest {
            subject,
            month: None,
            plaintext: body.to_vec(),
        };
        let sealed = self.keys.seal_all(&[request]).await.expect("the keys answer");
        let id = Clock::system().new_id();
        sqlx::query(
            "insert into workers.callback_events (id, tenant_id, account_id, attempt_id, raw_data)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(address.account_id)
        .bind(address.attempt_id)
        .bind(serde_json::json!(sealed[0]))
        .execute(&self.pool)
        .await
        .expect("the callback is stored");
        self.wake.lock().expect("the lock").notify_one();
        id
    }
}

async fn take(State(ingress): State<Ingress>, Path(token): Path<String>, body: Bytes) -> (StatusCode, &'static str) {
    match CallbackAddress::read(&token, &ingress.keys) {
        Some(address) => {
            ingress.store(address, &body).await;
            (StatusCode::OK, "{}")
        }
        None => (StatusCode::NOT_FOUND, "{}"),
    }
}

pub(crate) fn base_url(address: SocketAddr) -> url::Url {
    url::Url::parse(&format!("http://{address}")).expect("an address is a URL")
}
