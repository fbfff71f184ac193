//! Speaks to Weft and to the simulator as any integrator would; waits out what does not answer.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use url::Url;

use crate::Failure;

/// An answer: status, body, and whether it was a replay.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) replayed: bool,
}

/// Weft's APIs.
#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    pub(super) token: String,
    patience: Duration,
}

fn http_client() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(35))
        .connect_timeout(Duration::from_secs(3))
        .build()
        .map_err(Failure::new)
}

impl Api {
    pub(super) fn new(base: Url, token: String, patience: Duration) -> Result<Self, Failure> {
        Ok(Self {
            http: http_client()?,
            base,
            token,
            patience,
        })
    }

    /// Where `graphql-transport-ws` is served.
    pub(super) fn websocket_url(&self) -> String {
        format!("{}graphql/ws", self.base.as_str().replacen("http", "ws", 1))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, None).await
    }

    pub(super) async fn put(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::PUT, path, Some(&json!({})), None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value, idempotency_key: &str) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), Some(idempotency_key)).await
    }

    /// Asks until it is answered: no answer, 429 and 503 are tried again until patience ends. Safe for POST, because
    /// every one carries an idempotency key.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, Failure> {
        let url = self.base.join(path).map_err(Failure::new)?;
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let mut request = self.http.request(method.clone(), url.clone()).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(key) = idempotency_key {
                request = request.header("Idempotency-Key", key);
            }
            let problem = match answer(request).await {
                Ok(answer) if !is_temporary(&answer) => return Ok(answer),
                Ok(answer) => format!(
                    "{}: {}",
                    answer.status,
                    answer.body["detail"].as_str().unwrap_or_default()
                ),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > self.patience {
                return Err(Failure::new(format!("{method} {url}: {problem}")));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The data of a GraphQL query; its errors end the demo.
    pub(super) async fn graphql(&self, query: &str, variables: Value) -> Result<Value, Failure> {
        let mut answer = self
            .call(
                Method::POST,
                "graphql",
                Some(&json!({"query": query, "variables": variables})),
                None,
            )
            .await?;
        match answer.body.get("errors") {
            None if answer.status.is_success() => Ok(answer.body["data"].take()),
            _ => Err(Failure::new(format!("GraphQL: {} {}", answer.status, answer.body))),
        }
    }
}

fn is_temporary(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => true,
        // A day's quota does not come back while somebody waits.
        StatusCode::TOO_MANY_REQUESTS => answer.body["code"] != "quota.exceeded",
        _ => false,
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let replayed = response.headers().contains_key("idempotent-replayed");
    let bytes = response.bytes().await?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Answer { status, body, replayed })
}

/// The simulator's control API.
#[derive(Clone)]
pub(super) struct Simulator {
    http: reqwest::Client,
    base: Url,
    patience: Duration,
}

impl Simulator {
    pub(super) fn new(base: Url, patience: Duration) -> Result<Self, Failure> {
        Ok(Self {
            http: http_client()?,
            base,
            patience,
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let url = self.base.join(path).map_err(Failure::new)?;
        let started = Instant::now();
        loop {
            match answer(self.http.get(url.clone())).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer.body),
                Ok(answer) => return Err(Failure::new(format!("GET {url}: {} {}", answer.status, answer.body))),
                Err(error) if started.elapsed() > self.patience => {
                    return Err(Failure::new(format!("GET {url}: {error}")));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Does something to a client; a state that makes no sense of it is no error here.
    pub(super) async fn act(&self, guid: &str, action: &str) -> Result<(), Failure> {
        let url = self
            .base
            .join(&format!("_sim/clients/{guid}/{action}"))
            .map_err(Failure::new)?;
        self.http
            .post(url)
            .json(&json!({}))
            .send()
            .await
            .map_err(Failure::new)?;
        Ok(())
    }
}
