//! Creates the accounts and logs them in by QR code.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use qrcode::QrCode;
use qrcode::render::unicode;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Api, Simulator};
use crate::Failure;

/// An account that is online.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) guid: String,
}

/// The accounts of these names, created where they are missing and logged in where they are not online.
pub(super) async fn online(
    api: &Api,
    scanner: Option<&Simulator>,
    names: &[String],
    patience: Duration,
) -> Result<Vec<Account>, Failure> {
    // One code is enough to look at; a crowd of them helps nobody.
    let draw = names.len() <= 3;
    futures::stream::iter(names)
        .map(|name| one_online(api, scanner, name, draw, patience))
        .buffered(16)
        .try_collect()
        .await
}

async fn one_online(
    api: &Api,
    scanner: Option<&Simulator>,
    name: &str,
    draw: bool,
    patience: Duration,
) -> Result<Account, Failure> {
    let id = create(api, name, patience).await?;
    let started = Instant::now();
    let mut shown = String::new();
    let mut asked = false;
    loop {
        let account = api.get(&format!("api/v1/accounts/{id}")).await?.body;
        let status = account["status"].as_str().unwrap_or_default();
        match status {
            "online" | "rate_limited" if account["guid"].is_string() => {
                outln!("{name} is online");
                let guid = account["guid"].as_str().unwrap_or_default().to_owned();
                return Ok(Account {
                    name: name.to_owned(),
                    id,
                    guid,
                });
            }
            "disabled" | "deleted" => return Err(Failure::new(format!("{name} is {status}"))),
            _ => {}
        }
        let running = status.starts_with("logging") || status.starts_with("waiting");
        if !running || !asked || shown.is_empty() {
            asked = true;
            let login = api.put(&format!("api/v1/accounts/{id}/login")).await?;
            if login.status.is_client_error() {
                return Err(Failure::new(format!(
                    "{name}: {}",
                    login.body["detail"].as_str().unwrap_or("login refused")
                )));
            }
            if let Some(content) = login.body["qrcode_content"].as_str()
                && shown != content
            {
                content.clone_into(&mut shown);
                show(name, content, draw);
            }
        }
        if let (Some(scanner), Some(guid)) = (scanner, account["guid"].as_str()) {
            scanner.act(guid, "scan").await?;
            scanner.act(guid, "confirm").await?;
        }
        if started.elapsed() > patience {
            return Err(Failure::new(format!(
                "{name} is still {status}: scan its code on the simulator's page, or start the demo with --scan"
            )));
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The account's id: created now, or found by its name.
async fn create(api: &Api, name: &str, patience: Duration) -> Result<String, Failure> {
    if let Some(id) = find(api, name).await? {
        return Ok(id);
    }
    let key = format!("demo-account-{}", weft_platform::clock::Clock::system().new_id());
    let created = api
        .post("api/v1/accounts", &json!({"account_name": name}), &key)
        .await?;
    if let (StatusCode::CREATED, Some(id)) = (created.status, created.body["account_id"].as_str()) {
        return Ok(id.to_owned());
    }
    if created.body["code"] != "account.name_taken" {
        return Err(Failure::new(format!(
            "{name} was not created: {}",
            created.body["detail"]
        )));
    }
    // The name is taken, and the view has not caught up with its account yet.
    let started = Instant::now();
    while started.elapsed() < patience {
        if let Some(id) = find(api, name).await? {
            return Ok(id);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new(format!("{name} exists, but the view does not show it")))
}

async fn find(api: &Api, name: &str) -> Result<Option<String>, Failure> {
    let query: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let list = api.get(&format!("api/v1/accounts?q={query}&size=100")).await?.body;
    let found = list["accounts"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|account| account["account_name"] == name);
    Ok(found
        .and_then(|account: &Value| account["account_id"].as_str())
        .map(str::to_owned))
}

fn show(name: &str, content: &str, draw: bool) {
    match QrCode::new(content) {
        Ok(code) if draw => outln!(
            "{name}: scan to log in\n{}",
            code.render::<unicode::Dense1x2>().quiet_zone(true).build()
        ),
        _ => outln!("{name}: scan {content}"),
    }
}
