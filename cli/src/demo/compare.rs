//! Compares the four tellings message by message, and what WeCom received by a hash of the content too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::sleep;
use weft_platform::config::Config;
use weft_platform::database::lazy_pool;

use super::accounts::Account;
use super::client::{Api, Simulator};
use super::send::SentRow;
use super::sources::{self, LedgerEntry, Telling};
use crate::Failure;

/// What was found.
pub(super) struct Verdict {
    pub(super) log: Telling,
    /// Messages that each place tells, in the order log, GraphQL, ClickHouse, ledger.
    pub(super) counts: [usize; 4],
    pub(super) differences: Vec<String>,
}

/// A view that is still behind after this is not catching up.
const CATCH_UP: Duration = Duration::from_secs(20);

/// Reads all four until they agree; a view may still be catching up, and a server may be away for a while. What differs
/// 20 s after all could be read is a difference.
pub(super) async fn compare(
    api: &Api,
    simulator: &Simulator,
    config: &Config,
    accounts: &[Account],
    sent: &[SentRow],
    patience: Duration,
) -> Result<Verdict, Failure> {
    let logs = config.by_log().into_iter();
    let logs = logs.map(|config| lazy_pool(config.log.url.expose(), "weft-demo", 1));
    let logs = logs.collect::<Result<Vec<_>, _>>().map_err(Failure::new)?;
    let read = || async {
        let mut log = Telling::new();
        for pool in &logs {
            log.extend(sources::log(pool, accounts).await?);
        }
        let graphql = sources::graphql(api, accounts).await?;
        let facts = sources::clickhouse(&config.clickhouse, accounts).await?;
        let ledger = sources::ledger(simulator, accounts).await?;
        Ok::<_, Failure>(judge(accounts, sent, log, &graphql, &facts, &ledger))
    };
    let (started, mut readable) = (Instant::now(), Instant::now());
    loop {
        match read().await {
            Ok(verdict) if verdict.differences.is_empty() || readable.elapsed() > patience.min(CATCH_UP) => {
                return Ok(verdict);
            }
            Ok(_) => {}
            Err(error) if started.elapsed() > patience => return Err(error),
            Err(_) => readable = Instant::now(),
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn judge(
    accounts: &[Account],
    sent: &[SentRow],
    log: Telling,
    graphql: &Telling,
    facts: &Telling,
    ledger: &[LedgerEntry],
) -> Verdict {
    let mut differences = Vec::new();
    let accepted: Vec<(&SentRow, &str)> = sent.iter().filter_map(|row| Some((row, row.message_id()?))).collect();
    let mut counts = [0; 4];
    for (row, id) in &accepted {
        let expected = (accounts[row.account].id.as_str(), row.row.conversation_id.as_str());
        let status = log.get(*id).map(|told| told.status.as_str());
        for (place, (name, telling)) in [("log", &log), ("GraphQL", graphql), ("ClickHouse", facts)]
            .into_iter()
            .enumerate()
        {
            let Some(told) = telling.get(*id) else {
                differences.push(format!("{} ({id}): not in {name}", row.row.reference));
                continue;
            };
            counts[place] += 1;
            let found = (told.account_id.as_str(), told.conversation_id.as_str());
            if found != expected || Some(told.status.as_str()) != status {
                differences.push(format!("{} ({id}): {name} tells {told:?}", row.row.reference));
            }
        }
    }
    counts[3] = against_ledger(accounts, &accepted, &log, graphql, ledger, &mut differences);
    Verdict {
        log,
        counts,
        differences,
    }
}

/// Account, conversation, path and content hash: what identifies a send to WeCom, which knows no message ids.
type SendKey = (String, String, String, String);

/// Every message that was sent stands in the ledger exactly once, beside those of equal content that others sent to the
/// same conversation. Answers how many of these rows do.
fn against_ledger(
    accounts: &[Account],
    accepted: &[(&SentRow, &str)],
    log: &Telling,
    graphql: &Telling,
    ledger: &[LedgerEntry],
    differences: &mut Vec<String>,
) -> usize {
    let mut effective: BTreeMap<SendKey, usize> = BTreeMap::new();
    for entry in ledger.iter().filter(|entry| entry.effective) {
        let key = (
            entry.guid.clone(),
            entry.conversation_id.clone(),
            entry.path.clone(),
            content_hash(&entry.path, &entry.body),
        );
        *effective.entry(key).or_default() += 1;
    }
    // An unknown message may be in the ledger or not.
    let mut expected: HashMap<SendKey, (usize, usize)> = HashMap::new();
    let mut sent = 0;
    for (row, id) in accepted {
        let key = send_key(
            &accounts[row.account],
            &row.row.conversation_id,
            &row.row.message_type,
            &row.row.content(),
        );
        let count = expected.entry(key).or_default();
        let certain = count.0;
        add(log, id, count);
        sent += count.0 - certain;
    }
    // What an earlier run, or somebody else, sent with equal content cannot be told apart by WeCom.
    let ours: HashSet<&str> = accepted.iter().map(|(_, id)| *id).collect();
    for (id, told) in graphql.iter().filter(|(id, _)| !ours.contains(id.as_str())) {
        let account = accounts.iter().find(|account| account.id == told.account_id);
        if let (Some(account), Some((message_type, content))) = (account, &told.content)
            && let Some(count) = expected.get_mut(&send_key(account, &told.conversation_id, message_type, content))
        {
            add(log, id, count);
        }
    }
    for (key, (certain, maybe)) in &expected {
        let found = effective.get(key).copied().unwrap_or_default();
        if found < *certain || found > certain + maybe {
            differences.push(format!(
                "{} {} to {}: sent {certain}, in the ledger {found}",
                key.0, key.2, key.1
            ));
        }
    }
    sent
}

fn send_key(account: &Account, conversation_id: &str, message_type: &str, content: &Value) -> SendKey {
    let (path, body) = wire_form(message_type, content);
    let hash = content_hash(path, &body);
    (account.guid.clone(), conversation_id.to_owned(), path.to_owned(), hash)
}

/// Counts a message as certainly or possibly sent, by its status in the log.
fn add(log: &Telling, id: &str, (certain, maybe): &mut (usize, usize)) {
    match log.get(id).map(|told| told.status.as_str()) {
        Some("sent" | "delivered" | "revoked") => *certain += 1,
        Some("unknown") => *maybe += 1,
        _ => {}
    }
}

/// What the instance protocol carries of a content: the fields that are Weft's to choose.
fn wire_form(message_type: &str, content: &Value) -> (&'static str, Value) {
    let field = |name: &str| content[name].clone();
    match message_type {
        "text" => ("/msg/send_text", json!({"content": field("text")})),
        "at" => {
            let everyone = content["mention_all"] == true;
            let mentions = if everyone {
                vec![json!("0")]
            } else {
                content["mentions"].as_array().cloned().unwrap_or_default()
            };
            let text = content["text"].as_str().unwrap_or_default();
            let marks = if text.contains("{$@}") {
                String::new()
            } else {
                "{$@}".repeat(mentions.len())
            };
            (
                "/msg/send_room_at",
                json!({"content": format!("{marks}{text}"), "at_list": mentions}),
            )
        }
        "image" => ("/msg/send_image", json!({"md5": file_md5(content)})),
        "file" => (
            "/msg/send_file",
            json!({"md5": file_md5(content), "file_name": field("name")}),
        ),
        "link" => ("/msg/send_link", json!({"title": field("title"), "url": field("url")})),
        _ => (
            "/msg/send_weapp",
            json!({"appid": field("appid"), "title": field("title"), "page_path": field("page_path")}),
        ),
    }
}

/// The file's hash; the simulator's upload gives a file the hash of the address it came from.
fn file_md5(content: &Value) -> Value {
    match content["url"].as_str() {
        Some(url) => json!(
            Md5::digest(url.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        ),
        None => content["md5"].clone(),
    }
}

/// The hash of these same fields in a body.
fn content_hash(path: &str, body: &Value) -> String {
    let fields: &[&str] = match path {
        "/msg/send_text" => &["content"],
        "/msg/send_room_at" => &["content", "at_list"],
        "/msg/send_image" => &["md5"],
        "/msg/send_file" => &["md5", "file_name"],
        "/msg/send_link" => &["title", "url"],
        _ => &["appid", "title", "page_path"],
    };
    let kept: Vec<&Value> = fields.iter().map(|field| &body[*field]).collect();
    let digest = Sha256::digest(json!([path, kept]).to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
