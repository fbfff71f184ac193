//! Calls as an integrator makes them.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

/// Weft's REST and GraphQL, as one tenant.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    pub(crate) fn new(base: String, token: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(35))
            .build()
            .expect("a client");
        Self {
            http,
            base,
            token: token.to_owned(),
        }
    }

    /// Where subscriptions are taken.
    pub(crate) fn socket_url(&self) -> String {
        format!("{}/graphql/ws", self.base.replacen("http", "ws", 1))
    }

    /// As the header has it.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The answer, or why none came.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await?;
        Ok(Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_call(Method::GET, path, None, &[]).await.expect("an answer")
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_call(Method::POST, path, Some(&body), &[])
            .await
            .expect("an answer")
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.try_call(Method::PUT, path, Some(&body), &[])
            .await
            .expect("an answer")
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.try_call(Method::DELETE, path, None, &[]).await.expect("an answer")
    }

    /// A query's data; panics on errors.
    pub async fn graphql(&self, query: &str, variables: Value) -> Value {
        let mut answer = self
            .post("/graphql", json!({"query": query, "variables": variables}))
            .await;
        assert!(answer.body.get("errors").is_none(), "{}", answer.body);
        answer.body["data"].take()
    }

    /// Sends a text; answers the message's id.
    pub async fn send_text(&self, account_id: &str, conversation_id: &str, text: &str) -> String {
        let body = json!({
            "account_id": account_id,
            "conversation_id": conversation_id,
            "message_type": "text",
            "content": {"text": text},
        });
        let answer = self.post("/api/v1/messages/send", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["message_id"].as_str().expect("an id").to_owned()
    }
}
