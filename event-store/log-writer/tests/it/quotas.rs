//! Limits hold whoever races for them, and on whichever process.

use chrono::{DateTime, Utc};
use weft_domain::account::{Account, AccountCommand, AccountConfig, AccountStatus, GatewayKind};
use weft_domain::message::{AcceptMessage, CancelCause, Message, MessageCommand, MessageType};
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_domain::{AccountId, QuotaKind, Sealed, TenantId};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{Committed, ExecuteError, Executor, QuotaExceeded};
use weft_platform::clock::Clock;

use crate::support::{create_account, new_account, new_tenant};

const LIMITS: TenantLimits = TenantLimits {
    max_accounts: 7,
    max_daily_messages: 25,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn tenant(executor: &Executor) -> TenantId {
    let tenant = new_tenant();
    let create = TenantCommand::Create {
        tenant_code: tenant.to_string(),
        tenant_name: "租户".to_owned(),
        limits: LIMITS,
        time_zone: "Asia/Shanghai".to_owned(),
        now: Clock::system().now(),
    };
    executor
        .execute::<Tenant>(&tenant.to_string(), create, &options(tenant))
        .await
        .unwrap();
    tenant
}

async fn account(executor: &Executor, tenant: TenantId, daily_limit: u32) -> AccountId {
    let id = new_account();
    let create = AccountCommand::Create {
        tenant_id: tenant,
        account_name: id.to_string(),
        phone: None,
        email: None,
        user_id: None,
        gateway: GatewayKind::default(),
        config: AccountConfig {
            daily_limit,
            ..AccountConfig::default()
        },
        now: Clock::system().now(),
    };
    executor
        .execute::<Account>(&id.to_string(), create, &options(tenant))
        .await
        .unwrap();
    id
}

pub(crate) fn message(tenant_id: TenantId, account_id: AccountId, planned: &str) -> MessageCommand {
    MessageCommand::Accept(Box::new(AcceptMessage {
        account_id,
        tenant_id,
        conversation_id: "S:1688850000000001".parse().unwrap(),
        message_type: MessageType::Text,
        content: Sealed::new(
            "s".to_owned(),
            "k".to_owned(),
            "bm9uY2Vub25jZW5v".to_owned(),
            "c2VhbGVk".to_owned(),
        ),
        priority: 5,
        scheduled_time: Some(at(planned)),
        batch_id: None,
        batch_index: None,
        callback_url: None,
        client_reference: None,
        now: at("2026-03-01T00:00:00Z"),
    }))
}

type Ended<A, E> = Result<Committed<A>, ExecuteError<E>>;

async fn send(
    executor: &Executor,
    tenant: TenantId,
    account: AccountId,
    planned: &str,
) -> Ended<Message, weft_domain::message::MessageError> {
    let id = Clock::system().new_id().to_string();
    executor
        .execute::<Message>(&id, message(tenant, account, planned), &options(tenant))
        .await
}

fn exceeded<A: cqrs_es::Aggregate + std::fmt::Debug>(ended: Ended<A, A::Error>) -> QuotaExceeded {
    match ended {
        Err(ExecuteError::QuotaExceeded(exceeded)) => exceeded,
        Err(error) => panic!("{error}"),
        Ok(committed) => panic!("{committed:?}"),
    }
}

async fn used(executor: &Executor, kind: &str) -> Vec<(String, i64)> {
    sqlx::query_as("select period, used from quota_usage where kind = $1 order by period")
        .bind(kind)
        .fetch_all(executor.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_on_two_processes_never_passes_a_limit_and_reaches_it() {
    let log = TestLog::new().await;
    let (one, other) = (log.executor().await, log.executor().await);
    let tenant = tenant(&one).await;
    let (first, second) = (account(&one, tenant, 15).await, account(&one, tenant, 100).await);
    let racers = (0..120).map(|n| {
        let executor = if n % 2 == 0 { one.clone() } else { other.clone() };
        let account = if n % 3 == 0 { second } else { first };
        tokio::spawn(async move { (account, send(&executor, tenant, account, "2026-03-02T01:00:00Z").await) })
    });
    let mut accepted = [0, 0];
    for racer in futures::future::join_all(racers).await {
        let (account, ended) = racer.unwrap();
        match ended {
            Ok(_) => accepted[usize::from(account == second)] += 1,
            ended => {
                let exceeded = exceeded(ended);
                let limit = if exceeded.kind == QuotaKind::AccountMessages {
                    15
                } else {
                    25
                };
                assert_eq!(exceeded.limit, limit);
            }
        }
    }
    assert_eq!(accepted.iter().sum::<i32>(), 25, "{accepted:?}");
    assert!(accepted[0] <= 15, "{accepted:?}");
    let messages: i64 = sqlx::query_scalar("select count(*) from events where aggregate_type = 'message'")
        .fetch_one(one.pool())
        .await
        .unwrap();
    assert_eq!(messages, 25);
    assert_eq!(used(&one, "tenant_messages").await, [("2026-03-02".to_owned(), 25)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_counts_on_the_tenants_own_day_of_its_planned_send() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = tenant(&executor).await;
    let account = account(&executor, tenant, 2).await;
    // 23:59 and 00:00 in Shanghai.
    for planned in ["2026-03-01T15:59:59Z", "2026-03-01T15:00:00Z", "2026-03-01T16:00:00Z"] {
        send(&executor, tenant, account, planned).await.unwrap();
    }
    let refused = exceeded(send(&executor, tenant, account, "2026-03-01T15:59:59Z").await);
    let day = (at("2026-02-28T16:00:00Z"), at("2026-03-01T16:00:00Z"));
    assert_eq!(
        (refused.kind, refused.limit, refused.day),
        (QuotaKind::AccountMessages, 2, Some(day))
    );
    let expected = [("2026-03-01".to_owned(), 2), ("2026-03-02".to_owned(), 1)];
    assert_eq!(used(&executor, "account_messages").await, expected);
    assert_eq!(used(&executor, "tenant_messages").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_closed_or_opened_elsewhere_is_known_at_the_append() {
    let log = TestLog::new().await;
    let (ours, others) = (log.executor().await, log.executor().await);
    let tenant = tenant(&ours).await;
    let account = account(&ours, tenant, 100).await;
    let (planned, now) = ("2026-03-05T01:00:00Z", at("2026-03-02T00:00:00Z"));
    let id = account.to_string();
    let change = async |executor: &Executor, command| {
        let options = options(tenant);
        executor.execute::<Account>(&id, command, &options).await.unwrap();
    };
    let disable = AccountCommand::Disable {
        reason: "r".to_owned(),
        now,
    };
    send(&ours, tenant, account, planned).await.unwrap();
    change(&others, disable.clone()).await;
    // Nobody has told.
    let remembered = ours.recall::<Account>(&id).await.unwrap();
    assert_eq!(remembered.version, 1);
    let refused = send(&ours, tenant, account, planned).await;
    assert!(
        matches!(refused, Err(ExecuteError::AccountClosed(AccountStatus::Disabled))),
        "{refused:?}"
    );
    change(&others, AccountCommand::Enable { now }).await;
    send(&ours, tenant, account, planned).await.unwrap();
    change(&others, AccountCommand::Delete { now }).await;
    let refused = send(&ours, tenant, account, planned).await;
    assert!(
        matches!(refused, Err(ExecuteError::AccountClosed(AccountStatus::Deleted))),
        "{refused:?}"
    );
    assert_eq!(used(&ours, "account_messages").await, [("2026-03-05".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_message_gives_its_place_back_once() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = tenant(&executor).await;
    let account = account(&executor, tenant, 1).await;
    let planned = "2026-03-05T01:00:00Z";
    let sent = send(&executor, tenant, account, planned).await.unwrap();
    exceeded(send(&executor, tenant, account, planned).await);
    let cancel = MessageCommand::Cancel {
        cause: CancelCause::Requested,
        now: at("2026-03-02T00:00:00Z"),
    };
    for _ in 0..2 {
        executor
            .execute::<Message>(&sent.id, cancel.clone(), &options(tenant))
            .await
            .unwrap();
    }
    send(&executor, tenant, account, planned).await.unwrap();
    exceeded(send(&executor, tenant, account, planned).await);
    assert_eq!(
        used(&executor, "account_messages").await,
        [("2026-03-05".to_owned(), 1)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_as_many_accounts_as_it_may_and_a_refused_one_keeps_no_name() {
    let log = TestLog::new().await;
    let (one, other) = (log.executor().await, log.executor().await);
    let tenant = tenant(&one).await;
    let create = |n: usize| {
        let executor = if n.is_multiple_of(2) {
            one.clone()
        } else {
            other.clone()
        };
        async move {
            let id = new_account().to_string();
            let command = create_account(tenant, &format!("账号 {n}"));
            executor.execute::<Account>(&id, command, &options(tenant)).await
        }
    };
    let racers = (0..30).map(|n| tokio::spawn(create(n)));
    let ended = futures::future::join_all(racers).await.into_iter().map(Result::unwrap);
    let (created, refused): (Vec<_>, Vec<_>) = ended.partition(Result::is_ok);
    assert_eq!(created.len(), 7);
    for ended in refused {
        let exceeded = exceeded(ended);
        assert_eq!(
            (exceeded.kind, exceeded.limit, exceeded.day),
            (QuotaKind::TenantAccounts, 7, None)
        );
    }
    let names: i64 = sqlx::query_scalar("select count(*) from claims where kind = 'account_name'")
        .fetch_one(one.pool())
        .await
        .unwrap();
    assert_eq!(names, 7);

    // A deleted one makes room.
    let delete = AccountCommand::Delete {
        now: Clock::system().now(),
    };
    let id = created.into_iter().next().unwrap().unwrap().id;
    one.execute::<Account>(&id, delete, &options(tenant)).await.unwrap();
    create(100).await.unwrap();
    exceeded(create(101).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_changed_on_another_process_holds_at_once() {
    let log = TestLog::new().await;
    let (ours, others) = (log.executor().await, log.executor().await);
    let tenant = tenant(&ours).await;
    let account = account(&ours, tenant, 100).await;
    let planned = "2026-03-05T01:00:00Z";
    send(&ours, tenant, account, planned).await.unwrap();
    let lower = TenantCommand::ChangeLimits {
        limits: TenantLimits {
            max_daily_messages: 1,
            ..LIMITS
        },
        now: Clock::system().now(),
    };
    others
        .execute::<Tenant>(&tenant.to_string(), lower, &options(tenant))
        .await
        .unwrap();
    // Ours remembers the old limit; the append does not.
    assert_eq!(exceeded(send(&ours, tenant, account, planned).await).limit, 1);
}

#[tokio::test]
async fn counters_of_days_long_gone_are_purged_and_the_others_stay() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let today = Clock::system().now().date_naive();
    let day = |ago: u64| (today - chrono::Days::new(ago)).to_string();
    // More than one statement deletes.
    sqlx::query(
        "insert into quota_usage (kind, scope, period, used)
         select 'account_messages', n::text, $1, 1 from generate_series(1, 2500) n
         union all values ('tenant_messages', 'a', $2, 2), ('tenant_messages', 'a', $3, 3), ('tenant_accounts', 'a', '', 4)",
    )
    .bind(day(8))
    .bind(day(7))
    .bind(day(0))
    .execute(executor.pool())
    .await
    .unwrap();
    // One that an append has in hand is left to the next purge.
    let mut append = executor.pool().begin().await.unwrap();
    sqlx::query("update quota_usage set used = 0 where kind = 'account_messages' and scope = '7'")
        .execute(&mut *append)
        .await
        .unwrap();
    assert_eq!(executor.purge_quota_usage().await.unwrap(), 2_499);
    append.commit().await.unwrap();
    assert_eq!(executor.purge_quota_usage().await.unwrap(), 1);
    let left: Vec<i64> = sqlx::query_scalar("select used from quota_usage order by used")
        .fetch_all(executor.pool())
        .await
        .unwrap();
    assert_eq!(left, [2, 3, 4]);
}
