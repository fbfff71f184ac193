//! The checkers: plain SQL over the log that shares no code with aggregates, projections or workers. Each is shown
//! failing on a planted defect in `chaos/planted.rs`.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;

/// Every message as the log tells it: id, account, conversation, status, type, text of its error code.
const LOG_MESSAGES: &str = r"
    select accepted.aggregate_id, accepted.payload->>'account_id', accepted.payload->>'conversation_id', last.status,
        (select max(sequence) from events where aggregate_type = 'message' and aggregate_id = accepted.aggregate_id)
    from events accepted
    cross join lateral (
        select case event_type
            when 'MessageAccepted' then 'pending' when 'RetryScheduled' then 'pending'
            when 'AttemptStarted' then 'sending' when 'MessageSent' then 'sent'
            when 'MessageDelivered' then 'delivered' when 'MessageFailed' then 'failed'
            when 'MessageCancelled' then 'cancelled' when 'OutcomeUnknown' then 'unknown'
            when 'OutcomeResolved' then
                case payload->>'outcome' when 'sent' then 'sent' when 'failed' then 'failed' else 'pending' end
            end as status
        from events
        where aggregate_type = 'message' and aggregate_id = accepted.aggregate_id and event_type <> 'MessageRead'
        order by sequence desc limit 1
    ) last
    where accepted.aggregate_type = 'message' and accepted.event_type = 'MessageAccepted'
    order by 1";

/// id → (account, conversation, status, version).
type Messages = BTreeMap<String, (String, String, String, i64)>;

async fn log_messages(log: &PgPool) -> Messages {
    let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(LOG_MESSAGES)
        .fetch_all(log)
        .await
        .expect("the log answers");
    rows.into_iter()
        .map(|(id, account, conversation, status, version)| (id, (account, conversation, status, version)))
        .collect()
}

#[derive(Row, Deserialize)]
struct Fact {
    id: String,
    account: String,
    conversation: String,
    status: String,
    version: i64,
}

/// Where read models and facts differ from a recount of the log; empty when they are equal.
pub async fn view_differences(log: &PgPool, views: &PgPool, clickhouse: &clickhouse::Client) -> Vec<String> {
    let expected = log_messages(log).await;
    let mut differences = Vec::new();
    let rows: Vec<(String, String, String, String, i64)> =
        sqlx::query_as("select id::text, account_id::text, conversation_id, status, version from views.messages")
            .fetch_all(views)
            .await
            .expect("the views answer");
    let view: Messages = rows.into_iter().map(|(id, a, c, s, v)| (id, (a, c, s, v))).collect();
    compare("views.messages", &expected, &view, &mut differences);

    let facts = clickhouse
        .query(
            "select toString(message_id) as id, toString(account_id) as account, toString(conversation_id) as conversation, \
             toString(status) as status, toInt64(version) as version from message_facts final",
        )
        .fetch_all::<Fact>()
        .await
        .expect("ClickHouse answers");
    let facts: Messages = facts
        .into_iter()
        .map(|f| (f.id, (f.account, f.conversation, f.status, f.version)))
        .collect();
    compare("message_facts", &expected, &facts, &mut differences);

    differences.extend(account_differences(log, views).await);
    differences
}

fn compare(name: &str, expected: &Messages, found: &Messages, differences: &mut Vec<String>) {
    for (id, wanted) in expected {
        match found.get(id) {
            None => differences.push(format!("{name} lacks {id}")),
            Some(row) if row != wanted => differences.push(format!("{name} {id}: {row:?}, the log tells {wanted:?}")),
            Some(_) => {}
        }
    }
    for id in found.keys().filter(|id| !expected.contains_key(*id)) {
        differences.push(format!("{name} has {id}, which the log does not"));
    }
}

/// Accounts' versions and the number of status changes, by the event names alone.
async fn account_differences(log: &PgPool, views: &PgPool) -> Vec<String> {
    let expected: Vec<(String, i64)> = sqlx::query_as(
        "select aggregate_id, max(sequence) from events where aggregate_type = 'account' group by 1 order by 1",
    )
    .fetch_all(log)
    .await
    .expect("the log answers");
    let found: Vec<(String, i64)> = sqlx::query_as("select id::text, version from views.accounts order by 1")
        .fetch_all(views)
        .await
        .expect("the views answer");
    let mut differences = Vec::new();
    if expected != found {
        differences.push(format!("views.accounts: {found:?}, the log tells {expected:?}"));
    }
    differences
}

/// How often each text went out, by instance and text.
pub(crate) fn received(ledger: &[Value]) -> BTreeMap<(&str, &str), usize> {
    let mut received = BTreeMap::new();
    for entry in ledger.iter().filter(|entry| entry["effective"] == true) {
        let guid = entry["guid"].as_str().unwrap_or_default();
        let text = entry["body"]["content"].as_str().unwrap_or_default();
        *received.entry((guid, text)).or_default() += 1;
    }
    received
}

/// Where what WeCom received differs from what the log tells; empty when it is exactly accounted for.
///
/// A message of the log is known in the ledger by account and text: the caller sends a text only once per account.
/// `texts` gives account id, instance guid, message id and text of every accepted text message.
pub async fn ledger_differences(log: &PgPool, ledger: &[Value], texts: &[(String, String, String)]) -> Vec<String> {
    let messages = log_messages(log).await;
    let received = received(ledger);
    let mut differences = Vec::new();
    for (guid, message_id, text) in texts {
        let times = received
            .get(&(guid.as_str(), text.as_str()))
            .copied()
            .unwrap_or_default();
        let status = messages.get(message_id).map_or("missing", |message| message.2.as_str());
        let accounted = match status {
            "sent" | "delivered" => times == 1,
            "failed" | "cancelled" | "unknown" | "pending" => times == 0,
            _ => false,
        };
        if !accounted {
            differences.push(format!(
                "{message_id} ({text}) is {status} and stands {times} times in the ledger"
            ));
        }
    }
    differences
}
