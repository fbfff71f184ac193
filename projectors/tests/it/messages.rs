use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;
use weft_domain::message::Message;
use weft_domain::{AccountId, ConversationId, Sealed, TenantId};
use weft_platform::config::{Config, KeysSection};
use weft_platform::keys::{KeyStore, MonthKey, SealRequest};
use weft_projectors::messages::Messages;

use crate::support::history::History;
use crate::support::stores::Stores;
use crate::support::{project, same_rows_in_any_batches};

fn without_keys() -> Messages {
    Messages::new(KeyStore::without_access(&KeysSection::default()).unwrap())
}

#[tokio::test]
async fn messages_are_the_same_rows_in_any_batches_and_agree_with_the_aggregate() {
    let stores = Stores::views().await;
    let fresh = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 4, 4_000);
    let records = history.of("message");
    same_rows_in_any_batches(&stores.engine, &fresh.engine, &without_keys(), "messages", &records).await;

    let rows = sqlx::query("select * from messages")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), history.messages.len());
    for row in rows {
        let message: &Message = &history.messages[&row.get::<Uuid, _>("id")];
        let accepted = message.accepted.as_ref().unwrap();
        let time = |column: &str| row.get::<Option<DateTime<Utc>>, _>(column);
        assert_eq!(row.get::<String, _>("status"), message.status.unwrap().as_str());
        assert_eq!(row.get::<Uuid, _>("tenant_id"), accepted.tenant_id.0);
        assert_eq!(row.get::<Uuid, _>("account_id"), accepted.account_id.0);
        assert_eq!(
            row.get::<String, _>("conversation_id"),
            accepted.conversation_id.as_str()
        );
        assert_eq!(row.get::<String, _>("message_type"), accepted.message_type.as_str());
        assert_eq!(row.get::<i16, _>("priority"), i16::from(accepted.priority));
        assert_eq!(row.get::<Option<Uuid>, _>("batch_id"), accepted.batch_id.map(|id| id.0));
        assert_eq!(
            row.get::<Option<String>, _>("client_reference"),
            accepted.client_reference
        );
        assert_eq!(time("scheduled_time"), accepted.scheduled_time);
        assert_eq!(time("created_at"), Some(accepted.at));
        assert_eq!(time("updated_at"), message.updated_at);
        assert_eq!(time("send_time"), message.sent_at);
        assert_eq!(time("callback_time"), message.delivered_at);
        assert_eq!(time("read_time"), message.read_at);
        assert_eq!(row.get::<i32, _>("attempt"), message.attempt.cast_signed());
        assert_eq!(row.get::<i32, _>("retry_count"), message.retry_count.cast_signed());
        assert_eq!(row.get::<Option<String>, _>("error_code"), message.error_code);
        assert_eq!(row.get::<Option<String>, _>("error_message"), message.error_message);
        let receipt = message.receipt.as_ref().map(|receipt| receipt.wework_msg_id.clone());
        assert_eq!(row.get::<Option<String>, _>("wework_msg_id"), receipt);
    }
}

/// A key database of the test's own, beside its views.
async fn key_store(config: &Config) -> KeyStore {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(config.views.admin_url.expose())
        .await
        .unwrap();
    sqlx::raw_sql(
        "do $$ begin create role weft_keys login password 'weft';
         exception when duplicate_object or unique_violation then null; end $$",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::raw_sql(include_str!("../../../schemas/postgres/keys/0001_keys.sql"))
        .execute(&pool)
        .await
        .unwrap();
    let keys = KeysSection {
        url: config.views.admin_url.clone(),
        ..KeysSection::default()
    };
    KeyStore::new(&keys).unwrap()
}

async fn sealed<T>(keys: &KeyStore, conversation: ConversationId, tenant: TenantId, plain: &Value) -> Sealed<T> {
    let request = SealRequest {
        subject: format!("conversation:{conversation}"),
        month: Some(MonthKey {
            tenant_id: tenant.0,
            at: "2026-04-01T00:00:00Z".parse().unwrap(),
        }),
        plaintext: serde_json::to_vec(plain).unwrap(),
    };
    let parts = keys.seal_all(&[request]).await.unwrap().remove(0);
    Sealed::new(parts.subject, parts.key, parts.nonce, parts.ciphertext)
}

#[tokio::test]
async fn content_is_in_clear_unless_its_key_was_destroyed() {
    let stores = Stores::views().await;
    let keys = key_store(&stores.config).await;
    let (tenant, account) = (TenantId(Uuid::from_u128(0xa)), AccountId(Uuid::from_u128(0xc)));
    let mut history = History::new(&stores.config.kafka, 5);
    let mut ids = Vec::new();
    for (name, text) in [("S:1", "你好 👋"), ("S:2", "to be forgotten")] {
        let conversation = name.parse().unwrap();
        let content = sealed(
            &keys,
            ConversationId::of(account, &conversation),
            tenant,
            &json!({"text": text}),
        )
        .await;
        ids.push(history.new_message_with(tenant, account, conversation, content));
    }
    let forgotten = ConversationId::of(account, &"S:2".parse().unwrap());
    keys.destroy_subject(&format!("conversation:{forgotten}"))
        .await
        .unwrap();
    project(&stores.engine, &Messages::new(keys), &history.records, 10).await;
    let contents: Vec<(Uuid, Option<Value>)> = sqlx::query_as("select id, content from messages")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap();
    assert_eq!(contents.len(), 2);
    for (id, content) in contents {
        assert_eq!(content, (id == ids[0]).then(|| json!({"text": "你好 👋"})));
    }
}
