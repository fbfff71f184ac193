//! The four places that must tell the same: the log, GraphQL, ClickHouse and the simulator's ledger.

use std::collections::HashMap;

use clickhouse::Row;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use weft_platform::config::ClickHouseSection;

use super::accounts::Account;
use super::client::{Api, Simulator};
use crate::Failure;

/// What one place tells of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) account_id: String,
    pub(super) conversation_id: String,
    pub(super) status: String,
    /// Absent where the place does not tell it.
    pub(super) read: Option<bool>,
    pub(super) error_code: Option<String>,
    /// Message type and content.
    pub(super) content: Option<(String, Value)>,
}

/// By message id.
pub(super) type Telling = HashMap<String, Told>;

/// From the log, in plain SQL that shares no code with aggregates or projections.
pub(super) async fn log(pool: &PgPool, accounts: &[Account]) -> Result<Telling, Failure> {
    let ids: Vec<String> = accounts.iter().map(|account| account.id.clone()).collect();
    let rows: Vec<(String, String, String, String, bool, Option<String>)> = sqlx::query_as(
        r"with mine as (
            select aggregate_id, payload->>'account_id' as account_id, payload->>'conversation_id' as conversation_id
            from events
            where aggregate_type = 'message' and event_type = 'MessageAccepted' and payload->>'account_id' = any($1)
        )
        select mine.aggregate_id, mine.account_id, mine.conversation_id, last.status, seen.read, last.error_code
        from mine
        cross join lateral (
            select case event_type
                when 'MessageAccepted' then 'pending'
                when 'RetryScheduled' then 'pending'
                when 'AttemptStarted' then 'sending'
                when 'MessageSent' then 'sent'
                when 'MessageDelivered' then 'delivered'
                when 'MessageFailed' then 'failed'
                when 'MessageCancelled' then 'cancelled'
                when 'OutcomeUnknown' then 'unknown'
                when 'OutcomeResolved' then
                    case payload->>'outcome' when 'sent' then 'sent' when 'failed' then 'failed' else 'pending' end
                end as status,
                payload->>'error_code' as error_code
            from events e
            where e.aggregate_type = 'message' and e.aggregate_id = mine.aggregate_id and e.event_type <> 'MessageRead'
            order by sequence desc limit 1
        ) last
        cross join lateral (
            select exists (
                select from events e
                where e.aggregate_type = 'message' and e.aggregate_id = mine.aggregate_id and e.event_type = 'MessageRead'
            ) as read
        ) seen",
    )
    .bind(&ids)
    .fetch_all(pool)
    .await
    .map_err(|error| Failure::new(format!("reading the log: {error}")))?;
    Ok(rows
        .into_iter()
        .map(|(id, account_id, conversation_id, status, read, error_code)| {
            (
                id,
                Told {
                    account_id,
                    conversation_id,
                    status,
                    read: Some(read),
                    error_code,
                    content: None,
                },
            )
        })
        .collect())
}

/// From GraphQL, page by page.
pub(super) async fn graphql(api: &Api, accounts: &[Account]) -> Result<Telling, Failure> {
    const QUERY: &str = "query ($account: ID!, $after: String) { messages(filter: {accountId: $account}, first: 100, after: $after) \
        { edges { node { id account { id } conversationId status readTime errorCode type content } } pageInfo { hasNextPage endCursor } } }";
    let mut told = Telling::new();
    for account in accounts {
        let mut after = Value::Null;
        loop {
            let data = api
                .graphql(QUERY, json!({"account": account.id, "after": after}))
                .await?;
            let connection = &data["messages"];
            for edge in connection["edges"].as_array().into_iter().flatten() {
                let node = &edge["node"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                told.insert(
                    text(&node["id"]),
                    Told {
                        account_id: text(&node["account"]["id"]),
                        conversation_id: text(&node["conversationId"]),
                        status: text(&node["status"]).to_lowercase(),
                        read: Some(!node["readTime"].is_null()),
                        error_code: node["errorCode"].as_str().map(str::to_owned),
                        content: Some((text(&node["type"]).to_lowercase(), node["content"].clone())),
                    },
                );
            }
            if connection["pageInfo"]["hasNextPage"] != true {
                break;
            }
            after = connection["pageInfo"]["endCursor"].clone();
        }
    }
    Ok(told)
}

#[derive(Row, Deserialize)]
struct Fact {
    #[serde(with = "clickhouse::serde::uuid")]
    message_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    account_id: Uuid,
    conversation_id: String,
    status: String,
}

/// From ClickHouse.
pub(super) async fn clickhouse(section: &ClickHouseSection, accounts: &[Account]) -> Result<Telling, Failure> {
    let client = clickhouse::Client::default()
        .with_url(section.url.as_str())
        .with_user(&section.user)
        .with_password(section.password.expose())
        .with_database(&section.database);
    let ids: Vec<&str> = accounts.iter().map(|account| account.id.as_str()).collect();
    let facts = client
        .query(
            "select message_id, account_id, toString(conversation_id) as conversation_id, toString(status) as status \
             from message_facts final where toString(account_id) in ?",
        )
        .bind(ids)
        .fetch_all::<Fact>()
        .await
        .map_err(|error| Failure::new(format!("reading ClickHouse: {error}")))?;
    Ok(facts
        .into_iter()
        .map(|fact| {
            let told = Told {
                account_id: fact.account_id.to_string(),
                conversation_id: fact.conversation_id,
                status: fact.status,
                read: None,
                error_code: None,
                content: None,
            };
            (fact.message_id.to_string(), told)
        })
        .collect())
}

/// One send that the simulator received.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LedgerEntry {
    pub(super) guid: String,
    pub(super) path: String,
    pub(super) conversation_id: String,
    pub(super) body: Value,
    pub(super) effective: bool,
}

/// From the simulator: every send to these accounts' instances.
pub(super) async fn ledger(simulator: &Simulator, accounts: &[Account]) -> Result<Vec<LedgerEntry>, Failure> {
    let mut entries = Vec::new();
    for account in accounts {
        let mut after = 0;
        loop {
            let page = simulator
                .get(&format!("_sim/ledger?guid={}&after={after}&limit=1000", account.guid))
                .await?;
            let rows = page["entries"].as_array().cloned().unwrap_or_default();
            let Some(last) = rows.last() else { break };
            after = last["seq"].as_u64().unwrap_or_default();
            for row in rows {
                entries
                    .push(serde_json::from_value(row).map_err(|error| Failure::new(format!("the ledger: {error}")))?);
            }
        }
    }
    Ok(entries)
}
