//! A whole account, as the list and the single answer show it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::account::UserInfo;

use crate::error::ReadError;
use crate::personal::{Batch, Vault, mask_email, mask_phone, mask_user_info};
use crate::timestamp::Timestamp;
use crate::views::accounts::AccountRow;

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the contract's names")]
pub(in crate::rest) struct Account {
    account_id: Uuid,
    tenant_id: Uuid,
    user_id: Option<String>,
    account_name: String,
    /// Masked without the permission to read personal data.
    phone: Option<String>,
    /// Masked without the permission to read personal data.
    email: Option<String>,
    gateway: String,
    guid: Option<String>,
    status: String,
    /// Absolute path of the login code's picture, while a code is shown.
    qrcode_url: Option<String>,
    /// Who is logged in, as WeCom tells it; names are masked without the permission to read personal data.
    user_info: Option<PublicUserInfo>,
    config: Value,
    /// 0–1.
    health_score: Option<f64>,
    health_level: Option<String>,
    health_indicators: Vec<String>,
    can_send: bool,
    login_retry_count: i64,
    error_message: Option<String>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    last_login_time: Option<Timestamp>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    last_heartbeat_time: Option<Timestamp>,
    #[schema(value_type = DateTime<Utc>)]
    created_at: Timestamp,
    #[schema(value_type = DateTime<Utc>)]
    updated_at: Timestamp,
    version: i64,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserInfo)]
struct PublicUserInfo {
    user_id: Option<String>,
    name: Option<String>,
    real_name: Option<String>,
    corp_id: Option<String>,
    corp_short_name: Option<String>,
    corp_full_name: Option<String>,
    gender: Option<i32>,
    avatar: Option<String>,
}

impl From<UserInfo> for PublicUserInfo {
    fn from(info: UserInfo) -> Self {
        Self {
            user_id: info.user_id,
            name: info.name,
            real_name: info.real_name,
            corp_id: info.corp_id,
            corp_short_name: info.corp_short_name,
            corp_full_name: info.corp_full_name,
            gender: info.gender,
            avatar: info.avatar,
        }
    }
}

/// Opens the rows' sealed fields together.
pub(super) async fn show(rows: Vec<AccountRow>, vault: &Vault, now: DateTime<Utc>) -> Result<Vec<Account>, ReadError> {
    let mut batch = Batch::default();
    let slots: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                batch.add(row.phone.as_ref()),
                batch.add(row.email.as_ref()),
                batch.add(row.user_info.as_ref()),
            )
        })
        .collect();
    let mut opened = vault.open(batch).await?;
    let accounts = rows.into_iter().zip(slots).map(|(row, (phone, email, user_info))| {
        let info: Option<UserInfo> = opened.take(user_info);
        let info = if opened.clear { info } else { info.map(mask_user_info) };
        Account {
            account_id: row.id,
            tenant_id: row.tenant_id,
            phone: opened.text(phone, mask_phone),
            email: opened.text(email, mask_email),
            gateway: row.gateway.as_str().to_owned(),
            status: row.status.as_str().to_owned(),
            qrcode_url: row.qrcode_url(now),
            user_info: info.map(Into::into),
            can_send: row.can_send(now),
            health_score: row.health_score,
            health_level: row.health_level,
            health_indicators: Vec::new(),
            login_retry_count: row.login_retry_count,
            last_login_time: row.last_login_time.map(Timestamp),
            last_heartbeat_time: row.last_heartbeat_time.map(Timestamp),
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            version: row.version,
            user_id: row.user_id,
            account_name: row.account_name,
            guid: row.guid,
            config: row.config,
            error_message: row.error_message,
        }
    });
    Ok(accounts.collect())
}
