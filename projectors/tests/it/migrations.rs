use sqlx::Row;
use weft_projectors::migrate;

use crate::support::stores::{Stores, config};

#[tokio::test]
async fn two_migrations_at_once_and_a_third_later_agree() {
    let stores = Stores::with_facts().await;
    let (a, b) = tokio::join!(migrate::views(&stores.config), migrate::views(&stores.config));
    a.unwrap();
    b.unwrap();
    let (a, b) = tokio::join!(migrate::clickhouse(&stores.config), migrate::clickhouse(&stores.config));
    a.unwrap();
    b.unwrap();
    let views: Vec<String> =
        sqlx::query_scalar("select viewname::text from pg_views where schemaname = 'views' order by 1")
            .fetch_all(&stores.engine.pool)
            .await
            .unwrap();
    let expected = [
        "account_heartbeats",
        "account_status_history",
        "accounts",
        "checkpoints",
        "conversations",
        "dead_letters",
        "dirty_hours",
        "messages",
        "statistics_passes",
    ];
    assert_eq!(views, expected);
}

#[tokio::test]
async fn two_first_migrations_at_once_make_one_database() {
    let first = config();
    let (a, b) = tokio::join!(migrate::views(&first), migrate::views(&first));
    a.unwrap();
    b.unwrap();
    Stores::drop_views(&first).await;
}

#[tokio::test]
async fn every_table_has_forced_row_level_security_and_belongs_to_the_projector() {
    let stores = Stores::views().await;
    let tables = sqlx::query(
        "select relname::text as name, relrowsecurity and relforcerowsecurity as forced, relowner::regrole::text as owner
         from pg_class where relnamespace = 'views_g1'::regnamespace and relkind in ('r', 'p')
           and relname <> '_sqlx_migrations'",
    )
    .fetch_all(&stores.engine.pool)
    .await
    .unwrap();
    assert!(tables.len() > 7);
    for table in tables {
        let name: String = table.get("name");
        assert!(table.get::<bool, _>("forced"), "{name}");
        assert_eq!(table.get::<String, _>("owner"), "weft_projector", "{name}");
    }
}

#[tokio::test]
async fn the_query_role_owns_nothing_writes_nothing_and_sees_no_partition() {
    let stores = Stores::views().await;
    let pool = stores.query_pool().await;
    for denied in [
        "insert into views.accounts (id) values (gen_random_uuid())",
        "delete from views_g1.messages",
        "select * from views_g1.messages_default",
        "delete from views_g1.dirty_hours",
        "update views_g1.statistics_passes set ended = 1",
        "select views_g1.ensure_message_partitions(now(), 0, 0)",
        "create table views.mine (id int)",
    ] {
        let error = sqlx::query(denied).execute(&pool).await.unwrap_err();
        assert_eq!(
            error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .as_deref(),
            Some("42501"),
            "{denied}: {error}"
        );
    }
}

#[tokio::test]
async fn a_transaction_that_its_client_forgot_ends_by_itself_whichever_role_it_is_of() {
    let stores = Stores::views().await;
    for (role, pool, expected) in [
        ("weft_projector", stores.engine.pool.clone(), "10s"),
        ("weft_query", stores.query_pool().await, "35s"),
    ] {
        let timeout: String = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(timeout, expected, "{role}");
    }
}

#[tokio::test]
async fn the_months_of_the_ids_are_partitions_and_the_default_gives_up_what_it_holds_of_a_new_one() {
    let stores = Stores::views().await;
    let pool = &stores.engine.pool;
    // 2031-05-15 as the first 48 bits.
    let id = uuid::Uuid::parse_str("01c2d3a5-2c00-7000-8000-000000000001").unwrap();
    let at: chrono::DateTime<chrono::Utc> = {
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        chrono::DateTime::from_timestamp(seconds.cast_signed(), nanos).unwrap()
    };
    sqlx::query(
        "insert into messages (id, tenant_id, account_id, conversation_id, message_type, status, priority, created_at,
           updated_at, version, epoch, transaction_id, position)
         values ($1, $1, $1, 'S:1', 'text', 'pending', 5, $2, $2, 1, 1, 1, 1)",
    )
    .bind(id)
    .bind(at)
    .execute(pool)
    .await
    .unwrap();
    let place = "select tableoid::regclass::text from messages where id = $1";
    let before: String = sqlx::query_scalar(place).bind(id).fetch_one(pool).await.unwrap();
    assert_eq!(before, "messages_default");
    let made: i32 = sqlx::query_scalar("select ensure_message_partitions($1, 1, 1)")
        .bind(at)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(made, 3);
    let after: String = sqlx::query_scalar(place).bind(id).fetch_one(pool).await.unwrap();
    assert_eq!(after, format!("messages_{}", at.format("%Y_%m")));
    let again: i32 = sqlx::query_scalar("select ensure_message_partitions($1, 1, 1)")
        .bind(at)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(again, 0);
}
