use chrono::{DateTime, Utc};
use weft_domain::message::{MessageContent, MessageType, TextContent};
use weft_domain::{ConversationId, Sealed};
use weft_log_writer::seal::{ContentToSeal, Sealer, account_subject, conversation_subject, parts};
use weft_log_writer::testing::TestLog;
use weft_platform::clock::Clock;
use weft_platform::config::Secret;
use weft_platform::keys::{KeyStore, KeysError, MonthKey, Opened, SealRequest};

use crate::support::{new_account, new_tenant};

fn march() -> DateTime<Utc> {
    "2026-03-15T00:00:00Z".parse().unwrap()
}

fn request(subject: &str) -> SealRequest {
    SealRequest {
        subject: subject.to_owned(),
        month: None,
        plaintext: subject.as_bytes().to_vec(),
    }
}

fn a_sealer(log: &TestLog) -> Sealer {
    Sealer::new(KeyStore::new(&log.config.keys).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_opens_in_every_process_that_has_the_keys() {
    let log = TestLog::new().await;
    let subject = account_subject(new_account());
    let sealed: Sealed<String> = a_sealer(&log)
        .seal(&subject, &"+86 138 0000 0000".to_owned())
        .await
        .unwrap();
    assert!(!serde_json::to_string(&sealed).unwrap().contains("+86 138"));
    let opened = a_sealer(&log).open(&sealed).await.unwrap();
    assert_eq!(opened, Opened::Open("+86 138 0000 0000".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_to_the_keys_or_with_another_master_key_it_stays_sealed() {
    let log = TestLog::new().await;
    let subject = account_subject(new_account());
    let sealed = a_sealer(&log).seal(&subject, &"secret".to_owned()).await.unwrap();
    let mut other = log.config.keys.clone();
    other.master_key = Secret("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned());
    for keys in [
        KeyStore::without_access(&log.config.keys).unwrap(),
        KeyStore::new(&other).unwrap(),
    ] {
        assert_eq!(Sealer::new(keys).open(&sealed).await.unwrap(), Opened::Sealed);
    }
    let refused = KeyStore::new(&other)
        .unwrap()
        .seal_all(&[request(&subject)])
        .await
        .unwrap_err();
    assert!(matches!(refused, KeysError::WrongMasterKey(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_person_is_erased_everywhere_and_nothing_more_can_be_sealed_for_them() {
    let log = TestLog::new().await;
    let sealer = a_sealer(&log);
    let (forgotten, other) = (account_subject(new_account()), account_subject(new_account()));
    let gone = sealer.seal(&forgotten, &1).await.unwrap();
    let kept = sealer.seal(&other, &2).await.unwrap();
    sealer.keys().destroy_subject(&forgotten).await.unwrap();
    sealer.keys().destroy_subject(&forgotten).await.unwrap();
    for sealer in [sealer.clone(), a_sealer(&log)] {
        assert_eq!(sealer.open::<i32>(&gone).await.unwrap(), Opened::Erased);
        assert_eq!(sealer.open::<i32>(&kept).await.unwrap(), Opened::Open(2));
        let refused = sealer.keys().seal_all(&[request(&forgotten)]).await.unwrap_err();
        assert!(matches!(refused, KeysError::Destroyed(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_may_be_forgotten_before_anything_was_sealed_for_it() {
    let log = TestLog::new().await;
    let keys = a_sealer(&log).keys().clone();
    let subject = account_subject(new_account());
    keys.destroy_subject(&subject).await.unwrap();
    assert!(matches!(
        keys.seal_all(&[request(&subject)]).await,
        Err(KeysError::Destroyed(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_needs_its_conversations_key_and_its_months() {
    let log = TestLog::new().await;
    let sealer = a_sealer(&log);
    let tenant_id = new_tenant();
    let text = |text: &str| MessageContent::Text(TextContent { text: text.to_owned() });
    let contents = [text("a"), text("b"), text("c")];
    let (first, second) = (
        ConversationId(Clock::system().new_id()),
        ConversationId(Clock::system().new_id()),
    );
    let (march, april) = (march(), "2026-04-01T00:00:00Z".parse().unwrap());
    let places = [(first, march), (second, march), (second, april)];
    let to_seal: Vec<_> = contents
        .iter()
        .zip(places)
        .map(|(value, (conversation, at))| ContentToSeal {
            tenant_id,
            conversation,
            at,
            value,
        })
        .collect();
    let sealed = sealer.seal_contents(&to_seal).await.unwrap();
    let open = async |n: usize| {
        a_sealer(&log)
            .open_content(MessageType::Text, &sealed[n])
            .await
            .unwrap()
    };
    assert_eq!(open(1).await, Opened::Open(contents[1].clone()));

    sealer
        .keys()
        .destroy_subject(&conversation_subject(first))
        .await
        .unwrap();
    assert_eq!(open(0).await, Opened::Erased);
    assert_eq!(open(1).await, Opened::Open(contents[1].clone()));
    sealer
        .keys()
        .destroy_month(&MonthKey {
            tenant_id: tenant_id.0,
            at: march,
        })
        .await
        .unwrap();
    assert_eq!(open(1).await, Opened::Erased);
    assert_eq!(open(2).await, Opened::Open(contents[2].clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_creators_that_race_agree_on_one_key_each() {
    let log = TestLog::new().await;
    let subjects: Vec<String> = (0..5).map(|n| format!("account:{n}")).collect();
    let creators = (0..20).map(|n| {
        let keys = KeyStore::new(&log.config.keys).unwrap();
        let mut requests: Vec<SealRequest> = subjects.iter().map(|subject| request(subject)).collect();
        if n % 2 == 0 {
            requests.reverse();
        }
        tokio::spawn(async move { keys.seal_all(&requests).await.unwrap() })
    });
    let sealed: Vec<_> = futures::future::join_all(creators)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    let opened = KeyStore::new(&log.config.keys)
        .unwrap()
        .open_all(&sealed)
        .await
        .unwrap();
    for (parts, opened) in sealed.iter().zip(opened) {
        assert_eq!(opened, Opened::Open(parts.subject.as_bytes().to_vec()));
    }
    let keys: i64 = sqlx::query_scalar("select count(*) from keys")
        .fetch_one(&log.keys.admin_pool().await)
        .await
        .unwrap();
    assert_eq!(keys, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_destroy_again_what_a_restored_backup_brought_back() {
    let log = TestLog::new().await;
    let sealer = a_sealer(&log);
    let subject = account_subject(new_account());
    let sealed = sealer.seal(&subject, &1).await.unwrap();
    let admin = log.keys.admin_pool().await;
    let backup: Vec<u8> = sqlx::query_scalar("select wrapped from keys")
        .fetch_one(&admin)
        .await
        .unwrap();
    sealer.keys().destroy_subject(&subject).await.unwrap();
    sqlx::query("update keys set wrapped = $1, destroyed_at = null")
        .bind(backup)
        .execute(&admin)
        .await
        .unwrap();

    let restored = a_sealer(&log);
    assert_eq!(restored.keys().reapply_tombstones().await.unwrap(), 1);
    assert_eq!(restored.open::<i32>(&sealed).await.unwrap(), Opened::Erased);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ciphertext_does_not_open() {
    let log = TestLog::new().await;
    let sealer = a_sealer(&log);
    let sealed = sealer.seal("account:1", &"a".to_owned()).await.unwrap();
    let mut changed = parts(&sealed);
    changed.ciphertext = changed.ciphertext.chars().rev().collect();
    assert_eq!(sealer.keys().open_all(&[changed]).await.unwrap(), [Opened::Sealed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_reached_are_an_error_not_sealed() {
    let mut log = TestLog::new().await;
    let sealer = a_sealer(&log);
    let sealed = sealer.seal("account:1", &1).await.unwrap();
    log.config.keys.url = Secret("postgres://weft_keys:weft@127.0.0.1:1/keys".to_owned());
    let unreachable = a_sealer(&log).open::<i32>(&sealed).await;
    assert!(unreachable.is_err());
    // What is cached still opens.
    assert_eq!(sealer.open::<i32>(&sealed).await.unwrap(), Opened::Open(1));
}
