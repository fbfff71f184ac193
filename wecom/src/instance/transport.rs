//! One HTTP exchange, with its ends told apart by whether the request can have had an effect.
//!
//! **A request is written at most once.** Nothing above the connection may write it again:
//! - redirects and reqwest's own retries are off, and only HTTP/1.1 is spoken (HTTP/2 has refusals that clients retry);
//! - hyper-util repeats a request only if the connection gave it back unstarted (`TrySendError { message: Some }`), which
//!   hyper's HTTP/1 dispatcher does only for one it has not yet taken from its queue, so before its head is encoded; once
//!   taken, an error carries no message and there is nothing left to repeat.
//!
//! So connections may be kept and reused. `tests/it/at_most_once.rs` shows it against a peer that closes idle and busy
//! connections at every point. What reuse does cost: a request written while the peer closes an idle connection ends as
//! `Unknown` although nobody read it. That is why idle connections are dropped long before a peer would.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, redirect, retry};

use super::answer::Answer;
use super::config::InstanceConfig;

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Ending {
    Answered(Answer),
    /// HTTP 4xx but 429.
    Refused {
        status: u16,
        message: String,
    },
    /// HTTP 429.
    Throttled {
        retry_after: Option<Duration>,
    },
    /// Not one byte was written.
    NotConnected {
        detail: String,
    },
    /// Written at least in part, and no answer that could be read.
    Unknown {
        detail: String,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: Client,
    max_answer_bytes: usize,
}

/// The longest wait that a gateway may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

impl Transport {
    pub(super) fn new(config: &InstanceConfig) -> Result<Self, reqwest::Error> {
        let builder = Client::builder()
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .tcp_nodelay(true)
            // A connect time-out must always come before the answer's, or it would count as written.
            .connect_timeout(config.connect_timeout.min(config.answer_timeout.mul_f32(0.8)))
            .timeout(config.answer_timeout)
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(256);
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(config.write_timeout);
        Ok(Self {
            http: builder.build()?,
            max_answer_bytes: config.max_answer_bytes,
        })
    }

    pub(super) async fn post(&self, url: reqwest::Url, body: &serde_json::Value) -> Ending {
        match self.http.post(url).json(body).send().await {
            Ok(response) => self.read(response).await,
            Err(error) if error.is_connect() || error.is_builder() => Ending::NotConnected { detail: detail(&error) },
            Err(error) if was_not_acknowledged(&error) => Ending::Unknown {
                detail: "what was written was not acknowledged in time".to_owned(),
            },
            Err(error) if error.is_timeout() => Ending::Unknown {
                detail: "no answer in time".to_owned(),
            },
            Err(error) => Ending::Unknown { detail: broken(&error) },
        }
    }

    async fn read(&self, response: Response) -> Ending {
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Ending::Throttled {
                retry_after: retry_after(&response),
            };
        }
        if !status.is_success() && !status.is_client_error() {
            return Ending::Unknown {
                detail: format!("HTTP {}", status.as_u16()),
            };
        }
        let body = self.body(response).await;
        if status.is_client_error() {
            // Refused by its status, whatever can be read of the rest.
            let message = body
                .ok()
                .and_then(|body| Answer::read(&body))
                .map(|answer| answer.message);
            let message = message.filter(|message| !message.is_empty());
            return Ending::Refused {
                status: status.as_u16(),
                message: message.unwrap_or_else(|| format!("HTTP {}", status.as_u16())),
            };
        }
        match body {
            Ok(body) => match Answer::read(&body) {
                Some(answer) => Ending::Answered(answer),
                None => Ending::Unknown {
                    detail: "the answer cannot be read".to_owned(),
                },
            },
            Err(detail) => Ending::Unknown { detail },
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_answer_bytes => {
                    return Err(format!("the answer is longer than {} bytes", self.max_answer_bytes));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) if error.is_timeout() => return Err("the answer did not end in time".to_owned()),
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

/// `Retry-After` in seconds; its other form, a date, is not understood and left to the caller's own wait.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// The write time-out: the kernel gave the connection up, unlike the client's own time-outs, which know no error number.
fn was_not_acknowledged(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.raw_os_error().is_some()
            && error.kind() == std::io::ErrorKind::TimedOut
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What an operator is told of an exchange that broke off; the library's words are for the log.
fn broken(error: &reqwest::Error) -> String {
    tracing::warn!(error = detail(error), "an exchange with the gateway broke off");
    "the connection broke before the whole answer had come".to_owned()
}

/// The innermost cause: the outer layers only say that a request failed.
fn detail(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}
