use super::{Sample, samples};
use crate::FieldChange;
use crate::account::{AccountConfig, AccountEvent as A, AccountStatus, GatewayKind, QuietHours, SessionLossCause};
use crate::tests::fixtures::{at, attempt, sealed_of_account, tenant};

fn busy_config() -> AccountConfig {
    AccountConfig {
        send_interval_ms: 1_500,
        daily_limit: 300,
        auto_reconnect: false,
        auto_reply_enabled: true,
        maintenance_mode: true,
        callback_url: Some("https://crm.example/weft".to_owned()),
        quiet_hours: vec![
            QuietHours {
                start: "22:00".to_owned(),
                end: "08:00".to_owned(),
                days: None,
                time_zone: "Asia/Shanghai".to_owned(),
            },
            QuietHours {
                start: "12:00".to_owned(),
                end: "13:30".to_owned(),
                days: Some(vec![6, 7]),
                time_zone: "Asia/Shanghai".to_owned(),
            },
        ],
    }
}

pub(in crate::tests) fn of_account() -> Vec<Sample> {
    let running = attempt(1);
    let lost = |cause| A::SessionLost {
        cause,
        error_message: Some("heartbeat error".to_owned()),
        at: at(600),
    };
    samples(vec![
        (
            "",
            A::AccountCreated {
                tenant_id: tenant(1),
                account_name: "华东客服一号".to_owned(),
                phone: Some(sealed_of_account("phone")),
                email: Some(sealed_of_account("email")),
                user_id: Some("u-1001".to_owned()),
                gateway: GatewayKind::Instance,
                config: busy_config(),
                at: at(0),
            },
        ),
        (
            "bare",
            A::AccountCreated {
                tenant_id: tenant(1),
                account_name: "通知应用".to_owned(),
                phone: None,
                email: None,
                user_id: None,
                gateway: GatewayKind::Official,
                config: AccountConfig::default(),
                at: at(0),
            },
        ),
        (
            "",
            A::AccountUpdated {
                account_name: Some("华南客服一号".to_owned()),
                phone: FieldChange::Set(sealed_of_account("new-phone")),
                email: FieldChange::Cleared,
                user_id: FieldChange::Set("u-1002".to_owned()),
                config: Some(busy_config()),
                at: at(10),
            },
        ),
        (
            "name_only",
            A::AccountUpdated {
                account_name: Some("华南客服一号".to_owned()),
                phone: FieldChange::Unchanged,
                email: FieldChange::Unchanged,
                user_id: FieldChange::Unchanged,
                config: None,
                at: at(10),
            },
        ),
        (
            "",
            A::InstanceCreated {
                guid: "3d9c0d0e-5f1c-4f6e-9d5b-2f1f5c1a9b10".to_owned(),
                at: at(1),
            },
        ),
        (
            "",
            A::InstanceFailed {
                error_message: "no capacity".to_owned(),
                at: at(1),
            },
        ),
        (
            "",
            A::InstanceRemoved {
                guid: "3d9c0d0e-5f1c-4f6e-9d5b-2f1f5c1a9b10".to_owned(),
                at: at(900),
            },
        ),
        (
            "",
            A::LoginStarted {
                attempt: running,
                restore_first: false,
                at: at(20),
            },
        ),
        (
            "restore_first",
            A::LoginStarted {
                attempt: attempt(2),
                restore_first: true,
                at: at(700),
            },
        ),
        (
            "",
            A::QrCodeIssued {
                attempt: running,
                refresh: 0,
                content: sealed_of_account("qrcode"),
                expires_at: at(142),
                at: at(22),
            },
        ),
        (
            "refreshed",
            A::QrCodeIssued {
                attempt: running,
                refresh: 3,
                content: sealed_of_account("qrcode-3"),
                expires_at: at(502),
                at: at(382),
            },
        ),
        (
            "",
            A::QrCodeScanned {
                attempt: running,
                at: at(30),
            },
        ),
        (
            "",
            A::QrCodeExpired {
                attempt: running,
                at: at(142),
            },
        ),
        (
            "",
            A::LoginRejected {
                attempt: running,
                at: at(35),
            },
        ),
        (
            "",
            A::VerificationRequired {
                attempt: running,
                at: at(35),
            },
        ),
        (
            "",
            A::VerificationCodeSubmitted {
                attempt: running,
                code: sealed_of_account("code"),
                at: at(50),
            },
        ),
        (
            "",
            A::VerificationFailed {
                attempt: running,
                failures: 1,
                at: at(51),
            },
        ),
        (
            "third",
            A::VerificationFailed {
                attempt: running,
                failures: 3,
                at: at(90),
            },
        ),
        (
            "",
            A::LoginConfirmed {
                attempt: running,
                at: at(40),
            },
        ),
        (
            "",
            A::LoginFailed {
                attempt: running,
                reason: "instance_unavailable".to_owned(),
                error_message: Some("connection refused".to_owned()),
                at: at(41),
            },
        ),
        (
            "without_message",
            A::LoginFailed {
                attempt: running,
                reason: "login_rejected".to_owned(),
                error_message: None,
                at: at(41),
            },
        ),
        (
            "",
            A::LoginTimedOut {
                attempt: running,
                at: at(180),
            },
        ),
        (
            "",
            A::LoginCancelled {
                attempt: running,
                at: at(45),
            },
        ),
        (
            "",
            A::ProfileUpdated {
                attempt: Some(running),
                user_info: sealed_of_account("profile"),
                at: at(42),
            },
        ),
        (
            "without_attempt",
            A::ProfileUpdated {
                attempt: None,
                user_info: sealed_of_account("profile"),
                at: at(42),
            },
        ),
        ("", lost(SessionLossCause::Network)),
        ("auth", lost(SessionLossCause::Auth)),
        (
            "other",
            A::SessionLost {
                cause: SessionLossCause::Other,
                error_message: None,
                at: at(600),
            },
        ),
        ("", A::SessionRestored { at: at(630) }),
        (
            "",
            A::AccountRestricted {
                until: at(1_500),
                cooldown: 1,
                at: at(600),
            },
        ),
        ("", A::RestrictionLifted { at: at(1_501) }),
        (
            "",
            A::SignedOutRemotely {
                reason: "other_device".to_owned(),
                error_message: Some("logged in on another device".to_owned()),
                at: at(600),
            },
        ),
        (
            "without_message",
            A::SignedOutRemotely {
                reason: "signed_out".to_owned(),
                error_message: None,
                at: at(600),
            },
        ),
        ("", A::LoggedOut { at: at(600) }),
        ("", A::WentOffline { at: at(700) }),
        (
            "",
            A::RecoveryStarted {
                strategy: "restart_instance".to_owned(),
                attempt: 1,
                at: at(610),
            },
        ),
        ("", A::Recovered { at: at(640) }),
        (
            "",
            A::RecoveryFailed {
                attempts_left: 2,
                error_message: Some("still no answer".to_owned()),
                status: AccountStatus::NetworkError,
                at: at(640),
            },
        ),
        (
            "none_left",
            A::RecoveryFailed {
                attempts_left: 0,
                error_message: None,
                status: AccountStatus::Offline,
                at: at(660),
            },
        ),
        (
            "",
            A::AccountDisabled {
                reason: "员工离职".to_owned(),
                at: at(800),
            },
        ),
        ("", A::AccountEnabled { at: at(810) }),
        ("", A::AccountDeleted { at: at(890) }),
    ])
}
