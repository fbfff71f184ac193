//! What to send: rows of a CSV file, or generated ones.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Failure;

/// One row, as written: it may be wrong, then the API says so.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    /// Names the row in the idempotency key and as `client_reference`.
    pub(super) reference: String,
    pub(super) account_name: String,
    pub(super) conversation_id: String,
    pub(super) message_type: String,
    /// JSON; text that is no JSON is sent as a JSON string, which the API refuses.
    pub(super) content: String,
    #[serde(default)]
    pub(super) priority: Option<i64>,
    /// Planned this many seconds after it is accepted.
    #[serde(default)]
    pub(super) send_after_seconds: Option<u64>,
}

impl Row {
    pub(super) fn content(&self) -> Value {
        serde_json::from_str(&self.content).unwrap_or_else(|_| Value::String(self.content.clone()))
    }
}

/// The rows and the accounts they name, in order of first mention.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) rows: Vec<Row>,
    pub(super) account_names: Vec<String>,
    /// Part of every idempotency key: the same plan sends nothing twice.
    pub(super) key: String,
}

/// Reads a file as `examples/README.md` describes it.
pub(super) fn read(file: &Path) -> Result<Plan, Failure> {
    let bytes = std::fs::read(file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let mut rows = Vec::new();
    for (index, row) in csv::Reader::from_reader(bytes.as_slice()).deserialize().enumerate() {
        rows.push(row.map_err(|error| Failure::new(format!("{} row {}: {error}", file.display(), index + 2)))?);
    }
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(plan(file.display().to_string(), rows, format!("demo-{digest}")))
}

fn plan(name: String, rows: Vec<Row>, key: String) -> Plan {
    let mut account_names: Vec<String> = Vec::new();
    for row in &rows {
        if !account_names.contains(&row.account_name) {
            account_names.push(row.account_name.clone());
        }
    }
    Plan {
        name,
        rows,
        account_names,
        key,
    }
}

/// `messages` rows over `accounts` accounts, the same for the same run name: mostly text, every type, some refusals.
pub(super) fn generate(run: &str, messages: usize, accounts: usize) -> Plan {
    let rows = (0..messages)
        .map(|n| {
            let account = n % accounts;
            let turn = n / accounts;
            let (message_type, content) = generated_content(n, turn);
            let group = message_type == "at" || turn.is_multiple_of(3);
            let conversation_id = if turn % 97 == 96 {
                format!("S:0-refused-{n}")
            } else if group {
                format!("R:1{account:03}{:04}", turn % 40)
            } else {
                format!("S:1{account:03}{:04}", turn % 60)
            };
            Row {
                reference: format!("{run}-{n:06}"),
                account_name: format!("演示账号{:02}", account + 1),
                conversation_id,
                message_type: message_type.to_owned(),
                content: content.to_string(),
                priority: (n.is_multiple_of(11)).then_some(8),
                send_after_seconds: None,
            }
        })
        .collect();
    plan(
        format!("generated run {run}"),
        rows,
        format!("demo-{run}-{messages}-{accounts}"),
    )
}

fn generated_content(n: usize, turn: usize) -> (&'static str, Value) {
    let file = |kind: &str| json!({"file_id": format!("{kind}-{n}"), "aes_key": format!("{n:032x}"), "md5": format!("{:032x}", n * 31), "size": 1024 + n});
    match turn % 20 {
        5 => ("image", file("image")),
        9 => {
            let mut content = file("file");
            content["name"] = json!(format!("报价单-{n}.pdf"));
            ("file", content)
        }
        13 => (
            "link",
            json!({"title": format!("活动通知 {n}"), "url": format!("https://example.com/a/{n}")}),
        ),
        16 => (
            "miniprogram",
            json!({"username": "gh_demo@app", "appid": "wx0000000000000001", "appname": "演示商城", "title": format!("第 {n} 单"), "page_path": format!("pages/order?id={n}")}),
        ),
        19 => (
            "at",
            json!({"text": format!("请查收第 {n} 号通知"), "mentions": ["1688850001"]}),
        ),
        _ => ("text", json!({"text": format!("您好，这是第 {n} 条消息。")})),
    }
}
