use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weft_platform::kafka::TopicPartition;
use weft_projectors::checkpoint;
use weft_projectors::generation::Generation;
use weft_projectors::heartbeats::{HeartbeatSample, apply};

use crate::support::stores::Stores;

#[tokio::test]
async fn the_newest_sample_counts_whatever_the_order_and_a_failed_look_keeps_the_last_heartbeat() {
    let stores = Stores::views().await;
    let start: DateTime<Utc> = "2026-04-01T00:00:00Z".parse().unwrap();
    let at = |seconds| start + TimeDelta::seconds(seconds);
    let account = Uuid::from_u128(1);
    let sample = |seconds, alive| HeartbeatSample {
        account_id: account,
        tenant_id: Uuid::from_u128(0xa),
        at: at(seconds),
        alive,
        response_time_ms: Some(seconds as i32),
    };
    let partition = TopicPartition {
        topic: stores.config.kafka.samples_topic(),
        partition: 0,
    };
    let record = |offset, sample| (partition.clone(), offset, serde_json::to_vec(&sample).unwrap());
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        sqlx::query("delete from account_heartbeats")
            .execute(&stores.engine.pool)
            .await
            .unwrap();
        let samples = [sample(10, true), sample(20, true), sample(30, false), sample(25, false)];
        let mut checkpoints = checkpoint::load(
            &stores.engine.pool,
            "account_heartbeats",
            Generation::FIRST,
            std::slice::from_ref(&partition),
        )
        .await
        .unwrap();
        let next = checkpoints[&partition].next_offset;
        for (n, index) in order.into_iter().enumerate() {
            let record = record(next + n as i64, samples[index].clone());
            apply(
                &stores.engine,
                &mut checkpoints,
                &[record, garbage(&partition, next + n as i64)],
            )
            .await
            .unwrap();
        }
        let row: Row =
            sqlx::query_as("select sampled_at, last_heartbeat_time, alive, response_time_ms from account_heartbeats")
                .fetch_one(&stores.engine.pool)
                .await
                .unwrap();
        assert_eq!(row, (at(30), Some(at(20)), false, Some(30)));
    }
}

type Row = (DateTime<Utc>, Option<DateTime<Utc>>, bool, Option<i32>);

fn garbage(partition: &TopicPartition, offset: i64) -> (TopicPartition, i64, Vec<u8>) {
    (partition.clone(), offset, b"no sample".to_vec())
}
