//! Follows every message to its end over GraphQL subscriptions; a dropped connection is opened again, and what was
//! missed meanwhile is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::task::AbortOnDropHandle;

use super::accounts::Account;
use super::client::Api;
use super::send::{SentRow, progress};
use super::sources;
use crate::Failure;

const SUBSCRIPTION: &str = "subscription ($account: ID!) { messageChanged(accountId: $account) { id status } }";

type Statuses = Arc<Mutex<HashMap<String, String>>>;

/// Holds the subscriptions open while messages are on their way.
pub(super) struct Follower {
    statuses: Statuses,
    accounts: Vec<Account>,
    _subscriptions: Vec<AbortOnDropHandle<()>>,
}

impl Follower {
    /// Subscribes to every account, a few hundred to a connection being no trouble to either side.
    pub(super) fn start(api: &Api, accounts: &[Account]) -> Self {
        let statuses = Statuses::default();
        let subscriptions = accounts
            .chunks(100)
            .map(|chunk| {
                let (api, chunk, statuses) = (api.clone(), chunk.to_vec(), Arc::clone(&statuses));
                AbortOnDropHandle::new(tokio::spawn(async move {
                    loop {
                        // An end of any kind is answered by connecting again.
                        let _ = subscribe(&api, &chunk, &statuses).await;
                        sleep(Duration::from_millis(500)).await;
                    }
                }))
            })
            .collect();
        Self {
            statuses,
            accounts: accounts.to_vec(),
            _subscriptions: subscriptions,
        }
    }

    /// Waits until every accepted message has ended, as the contract defines it, and what was sent is delivered.
    pub(super) async fn until_ended(&self, api: &Api, sent: &[SentRow], patience: Duration) -> Result<(), Failure> {
        let wanted: Vec<&str> = sent.iter().filter_map(SentRow::message_id).collect();
        let bar = progress(wanted.len(), "ended");
        let mut last_change = Instant::now();
        let mut last_asked: Option<Instant> = None;
        let mut before = usize::MAX;
        loop {
            // What happened before we subscribed, or while nobody was connected, is asked for.
            if last_asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(5)) {
                for (id, message) in sources::graphql(api, &self.accounts).await? {
                    self.keep(&id, &message.status);
                }
                last_asked = Some(Instant::now());
            }
            let (ended, settled) = self.count(&wanted);
            bar.set_position(ended as u64);
            if settled == wanted.len() {
                break;
            }
            if settled != before {
                before = settled;
                last_change = Instant::now();
            }
            // A lost delivery callback leaves a message sent, which is an end too.
            if ended == wanted.len() && last_change.elapsed() > Duration::from_secs(15) {
                break;
            }
            if last_change.elapsed() > patience {
                return Err(Failure::new(format!(
                    "{} of {} messages have not ended, and nothing has moved for {} s",
                    wanted.len() - ended,
                    wanted.len(),
                    patience.as_secs()
                )));
            }
            sleep(Duration::from_millis(100)).await;
        }
        bar.finish();
        Ok(())
    }

    fn keep(&self, id: &str, status: &str) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(id.to_owned(), status.to_owned());
    }

    /// How many have ended, and how many of these will not change any more.
    fn count(&self, wanted: &[&str]) -> (usize, usize) {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ended, mut settled) = (0, 0);
        for id in wanted {
            match statuses.get(*id).map(String::as_str) {
                Some("delivered" | "failed" | "cancelled" | "revoked") => {
                    ended += 1;
                    settled += 1;
                }
                Some("sent" | "unknown") => ended += 1,
                _ => {}
            }
        }
        (ended, settled)
    }
}

async fn subscribe(api: &Api, accounts: &[Account], statuses: &Statuses) -> Result<(), Failure> {
    let mut request = api.websocket_url().into_client_request().map_err(Failure::new)?;
    request.headers_mut().insert(
        "Sec-WebSocket-Protocol",
        "graphql-transport-ws"
            .parse()
            .map_err(|_| Failure::new("the protocol's name is no header"))?,
    );
    let (mut socket, _) = connect_async(request).await.map_err(Failure::new)?;
    let say = |value: Value| Message::text(value.to_string());
    let init = json!({"type": "connection_init", "payload": {"Authorization": format!("Bearer {}", api.token)}});
    socket.send(say(init)).await.map_err(Failure::new)?;
    while let Ok(Some(received)) = timeout(Duration::from_mins(1), socket.next()).await {
        let Message::Text(text) = received.map_err(Failure::new)? else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text).map_err(Failure::new)?;
        match frame["type"].as_str() {
            Some("connection_ack") => {
                for account in accounts {
                    let payload = json!({"query": SUBSCRIPTION, "variables": {"account": account.id}});
                    let subscribe = json!({"id": account.id, "type": "subscribe", "payload": payload});
                    socket.send(say(subscribe)).await.map_err(Failure::new)?;
                }
            }
            Some("ping") => socket.send(say(json!({"type": "pong"}))).await.map_err(Failure::new)?,
            Some("next") => {
                let message = &frame["payload"]["data"]["messageChanged"];
                if let (Some(id), Some(status)) = (message["id"].as_str(), message["status"].as_str()) {
                    let mut statuses = statuses.lock().unwrap_or_else(PoisonError::into_inner);
                    statuses.insert(id.to_owned(), status.to_lowercase());
                }
            }
            Some("error" | "complete") => return Err(Failure::new(format!("subscription ended: {frame}"))),
            _ => {}
        }
    }
    Ok(())
}
