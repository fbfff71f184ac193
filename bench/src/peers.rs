//! The raw loops that the pipeline's benchmarks are compared with: the same work without what makes it safe.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clickhouse::{Client, RowOwned, RowWrite};
use rdkafka::Message;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;
use weft_platform::clock::Clock;
use weft_platform::config::{ClickHouseSection, KafkaSection};
use weft_platform::kafka::header;
use weft_projectors::clickhouse::message_facts::{MessageFact, MessageTransition};
use weft_projectors::generation::Generation;

use crate::Failure;
use crate::database::Databases;

/// A record of the messages' topic, ready to be sent again.
pub(crate) struct Record {
    partition: i32,
    key: Vec<u8>,
    payload: Vec<u8>,
    headers: OwnedHeaders,
    id: Uuid,
    tenant_id: Uuid,
    sequence: i64,
}

pub(crate) type Consumed = Vec<Record>;

fn consumer(kafka: &KafkaSection) -> Result<StreamConsumer, KafkaError> {
    let consumer: StreamConsumer = kafka
        .client()
        .set("group.id", "weft.bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..kafka.partition_count("message") {
        all.add_partition_offset(&kafka.topic("message"), partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

fn text<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Result<&'m str, Failure> {
    let headers = message.headers().ok_or("a record without headers")?;
    let value = headers
        .iter()
        .find(|header| header.key == name)
        .and_then(|header| header.value);
    Ok(std::str::from_utf8(
        value.ok_or("a record without an expected header")?,
    )?)
}

/// The first `events` records of the messages' topic.
pub(crate) async fn consume(kafka: &KafkaSection, events: usize) -> Result<Consumed, Failure> {
    let consumer = consumer(kafka)?;
    let mut consumed = Vec::with_capacity(events);
    while consumed.len() < events {
        let message = consumer.recv().await?;
        consumed.push(Record {
            partition: message.partition(),
            key: message.key().unwrap_or_default().to_vec(),
            payload: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().ok_or("a record without headers")?.detach(),
            id: text(&message, header::SUBJECT)?.parse()?,
            tenant_id: text(&message, header::TENANT)?.parse()?,
            sequence: text(&message, header::SEQUENCE)?.parse()?,
        });
    }
    Ok(consumed)
}

/// Sends `records` to other topics with the relay's own producer settings, and waits until all are acknowledged.
pub(crate) async fn produce(kafka: &KafkaSection, records: Consumed) -> Result<(), Failure> {
    let topic = kafka.topic("message");
    let producer: ThreadedProducer<DefaultProducerContext> = kafka.producer().create()?;
    let sent = tokio::task::spawn_blocking(move || {
        for record in records {
            let mut next = BaseRecord::to(&topic)
                .partition(record.partition)
                .key(&record.key)
                .payload(&record.payload)
                .headers(record.headers);
            while let Err((error, refused)) = producer.send(next) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                next = refused;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(Duration::from_mins(1))
    });
    Ok(sent.await??)
}

/// A table like the projection's, in a database of its own.
pub(crate) struct RawView {
    pool: PgPool,
}

impl RawView {
    pub(crate) async fn prepare(databases: &Databases) -> Result<Self, Failure> {
        weft_projectors::migrate::views(&databases.peer).await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(databases.peer.views.admin_url.expose())
            .await?;
        // As the projector's own connections.
        sqlx::query(&format!("set search_path to {}", Generation::FIRST.schema()))
            .execute(&pool)
            .await?;
        sqlx::query("set synchronous_commit to off").execute(&pool).await?;
        Ok(Self { pool })
    }

    pub(crate) async fn reset(&self) -> Result<(), Failure> {
        sqlx::query("truncate messages").execute(&self.pool).await?;
        Ok(())
    }

    /// Consumes, upserts, commits, batch by batch, until it has seen `events`.
    pub(crate) async fn run(&self, kafka: &KafkaSection, events: usize, batch: usize) -> Result<(), Failure> {
        let consumer = consumer(kafka)?;
        let mut seen = 0;
        while seen < events {
            // By message: of several events in one batch the last counts, as for the projection.
            let mut rows: BTreeMap<Uuid, (Uuid, Uuid, i64)> = BTreeMap::new();
            let wanted = batch.min(events - seen);
            for _ in 0..wanted {
                let message = consumer.recv().await?;
                let account = std::str::from_utf8(message.key().unwrap_or_default())?.parse()?;
                let row = (
                    text(&message, header::TENANT)?.parse()?,
                    account,
                    text(&message, header::SEQUENCE)?.parse()?,
                );
                rows.insert(text(&message, header::SUBJECT)?.parse()?, row);
            }
            seen += wanted;
            let mut transaction = self.pool.begin().await?;
            sqlx::query(UPSERT)
                .bind(rows.keys().copied().collect::<Vec<_>>())
                .bind(rows.values().map(|row| row.0).collect::<Vec<_>>())
                .bind(rows.values().map(|row| row.1).collect::<Vec<_>>())
                .bind(rows.values().map(|row| row.2).collect::<Vec<_>>())
                .bind(rows.values().map(|row| STATUSES[row.2 as usize - 1]).collect::<Vec<_>>())
                .bind(serde_json::json!({"text": "您好，您预订的沙发已经到店，明天上午九点到十一点送货，请保持电话畅通。"}))
                .bind(Clock::system().now())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

const STATUSES: [&str; 4] = ["pending", "sending", "sent", "delivered"];

const UPSERT: &str = "insert into messages as m (
       id, tenant_id, account_id, conversation_id, message_type, content, priority, created_at, status, wework_msg_id,
       send_time, callback_time, attempt, updated_at, version, epoch, transaction_id, position)
     select id, tenant_id, account_id, 'S:1688850000000001', 'text', $6, 5, $7, status, id::text,
            $7, $7, 1, $7, version, 1, version, version
     from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[])
          as r (id, tenant_id, account_id, version, status)
     on conflict (id) do update set
       status = excluded.status, wework_msg_id = excluded.wework_msg_id, send_time = excluded.send_time,
       callback_time = excluded.callback_time, attempt = excluded.attempt, updated_at = excluded.updated_at,
       version = excluded.version, epoch = excluded.epoch, transaction_id = excluded.transaction_id,
       position = excluded.position
     where m.version < excluded.version";

/// The facts' tables, written without reading them.
pub(crate) struct ClickHouse {
    client: Client,
}

/// Rows of one insert: larger ones are no faster.
const INSERT_ROWS: u64 = 100_000;

impl ClickHouse {
    pub(crate) fn new(section: &ClickHouseSection) -> Self {
        let client = Client::default()
            .with_url(section.url.as_str())
            .with_user(&section.user)
            .with_password(section.password.expose())
            .with_database(Generation::FIRST.facts_database(&section.database));
        Self { client }
    }

    pub(crate) async fn reset(&self) -> Result<(), Failure> {
        for table in ["message_facts", "message_transitions", "message_stats_hourly"] {
            self.client.query(&format!("truncate table {table}")).execute().await?;
        }
        Ok(())
    }

    /// Rows that the server has inserted since it started.
    pub(crate) async fn inserted(&self) -> Result<u64, Failure> {
        let query = self
            .client
            .query("select sum(value) from system.events where event = 'InsertedRows'");
        Ok(query.fetch_one().await?)
    }

    /// A transition for every event, and `facts` facts.
    pub(crate) async fn insert(&self, events: &Consumed, facts: usize) -> Result<(), Failure> {
        let at = Clock::system().now();
        self.rows("message_transitions", events.iter().map(|event| transition(event, at)))
            .await?;
        self.rows(
            "message_facts",
            events.iter().cycle().take(facts).map(|event| fact(event, at)),
        )
        .await
    }

    async fn rows<R: RowOwned + RowWrite>(&self, table: &str, rows: impl Iterator<Item = R>) -> Result<(), Failure> {
        let mut inserter = self.client.inserter::<R>(table).with_max_rows(INSERT_ROWS);
        for row in rows {
            inserter.write(&row).await?;
            inserter.commit().await?;
        }
        inserter.end().await?;
        Ok(())
    }
}

fn transition(event: &Record, at: DateTime<Utc>) -> MessageTransition {
    MessageTransition {
        tenant_id: event.tenant_id,
        account_id: event.tenant_id,
        message_id: event.id,
        sequence: event.sequence.cast_unsigned(),
        event_type: "MessageDelivered".to_owned(),
        old_status: Some("sent".to_owned()),
        new_status: "delivered".to_owned(),
        attempt: 1,
        error_code: None,
        response_time_ms: Some(120),
        at,
        recorded_at: at,
    }
}

fn fact(event: &Record, at: DateTime<Utc>) -> MessageFact {
    MessageFact {
        tenant_id: event.tenant_id,
        account_id: event.tenant_id,
        message_id: event.id,
        conversation_id: "S:1688850000000001".to_owned(),
        message_type: "text".to_owned(),
        priority: 5,
        batch_id: None,
        batch_index: None,
        status: "delivered".to_owned(),
        version: event.sequence.cast_unsigned(),
        accepted_at: at,
        planned_at: at,
        attempted_at: Some(at),
        sent_at: Some(at),
        delivered_at: Some(at),
        read_at: None,
        failed_at: None,
        cancelled_at: None,
        error_code: None,
        attempts: 1,
        retry_count: 0,
        response_time_ms: Some(120),
        updated_at: at,
    }
}
