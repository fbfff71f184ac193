//! Sends every row by REST, with an idempotency key, so that running it again sends nothing twice.

use chrono::{SecondsFormat, TimeDelta};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use weft_platform::clock::Clock;

use super::accounts::Account;
use super::client::Api;
use super::plan::{Plan, Row};
use crate::Failure;

/// What became of one row at the API.
#[derive(Clone, Debug)]
pub(super) struct SentRow {
    pub(super) row: Row,
    /// Index of its account.
    pub(super) account: usize,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Accepted { message_id: String, replayed: bool },
    Refused { code: String, detail: String },
}

impl SentRow {
    pub(super) fn message_id(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Accepted { message_id, .. } => Some(message_id),
            Outcome::Refused { .. } => None,
        }
    }
}

/// A progress bar with rate and estimate.
pub(super) fn progress(length: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {bar:40} {pos}/{len} {per_sec} ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style).with_message(what)
}

pub(super) async fn all(
    api: &Api,
    plan: &Plan,
    accounts: &[Account],
    concurrency: usize,
) -> Result<Vec<SentRow>, Failure> {
    let bar = progress(plan.rows.len(), "accepting");
    let sent = futures::stream::iter(&plan.rows)
        .map(|row| {
            let bar = bar.clone();
            async move {
                let account = accounts
                    .iter()
                    .position(|account| account.name == row.account_name)
                    .unwrap_or_default();
                let outcome = one(api, plan, row, &accounts[account]).await?;
                bar.inc(1);
                Ok::<_, Failure>(SentRow {
                    row: row.clone(),
                    account,
                    outcome,
                })
            }
        })
        .buffered(concurrency)
        .try_collect()
        .await?;
    bar.finish();
    Ok(sent)
}

async fn one(api: &Api, plan: &Plan, row: &Row, account: &Account) -> Result<Outcome, Failure> {
    let reference = format!("{}-{}", plan.key, row.reference);
    let mut body = json!({
        "account_id": account.id,
        "conversation_id": row.conversation_id,
        "message_type": row.message_type,
        "content": row.content(),
        "client_reference": reference,
    });
    if let Some(priority) = row.priority {
        body["priority"] = json!(priority);
    }
    if let Some(seconds) = row.send_after_seconds {
        // Another time makes another body, which a used key refuses: look for the first run's message instead.
        if let Some(message_id) = find(api, account, &reference).await? {
            return Ok(Outcome::Accepted {
                message_id,
                replayed: true,
            });
        }
        let planned = Clock::system().now() + TimeDelta::seconds(seconds.cast_signed());
        body["send_time"] = json!(planned.to_rfc3339_opts(SecondsFormat::Millis, true));
    }
    let answer = api
        .post("api/v1/messages/send", &body, &format!("{reference}-{}", account.id))
        .await?;
    if let Some(message_id) = answer.body["message_id"].as_str() {
        return Ok(Outcome::Accepted {
            message_id: message_id.to_owned(),
            replayed: answer.replayed,
        });
    }
    if answer.status.is_server_error() || answer.body["code"].is_null() {
        return Err(Failure::new(format!(
            "row {}: {} {}",
            row.reference, answer.status, answer.body
        )));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Outcome::Refused {
        code: text(&answer.body["code"]),
        detail: text(&answer.body["detail"]),
    })
}

async fn find(api: &Api, account: &Account, reference: &str) -> Result<Option<String>, Failure> {
    let path = format!("api/v1/messages?account_id={}&client_reference={reference}", account.id);
    let list = api.get(&path).await?.body;
    Ok(list["messages"][0]["message_id"].as_str().map(str::to_owned))
}
