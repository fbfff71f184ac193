//! What a gateway to WeCom can be asked, and how each call can end.
//!
//! The ends are typed by what the caller may do next, not by what went wrong on the wire: a send whose end is
//! [`SendOutcome::Unknown`] may have reached WeCom and must never be repeated blindly; every other end is certain.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::callbacks::QrStatus;
use crate::content::content_key;

/// The mention that means everybody in the room.
pub const MENTION_ALL: &str = "0";
/// Marks in a [`SendBody::RoomAt`] text where a mention stands.
pub const MENTION_MARK: &str = "{$@}";
/// How long a login code can be scanned.
pub const QR_CODE_LIFETIME: Duration = Duration::from_mins(2);

/// A way to WeCom. One implementation per kind of access; every call names the client instance by its `guid`.
#[async_trait]
pub trait Gateway: Send + Sync {
    /// Creates a client instance and returns its guid. Not idempotent: after `Unknown` look into [`Self::all_clients`].
    async fn create_client(&self, request: &CreateClient) -> Result<String, CallError>;
    async fn stop_client(&self, guid: &str) -> Result<(), CallError>;
    async fn remove_client(&self, guid: &str) -> Result<(), CallError>;
    async fn all_clients(&self) -> Result<Vec<String>, CallError>;
    /// Where the instance posts its callbacks from now on.
    async fn set_notify_url(&self, guid: &str, notify_url: &str) -> Result<(), CallError>;
    /// Starts the instance again with the session it last had. Success does not mean that the session was still good:
    /// ask [`Self::get_client_status`] afterwards.
    async fn restore_client(&self, guid: &str, request: &RestoreClient) -> Result<(), CallError>;
    async fn get_client_status(&self, guid: &str) -> Result<ClientStatus, CallError>;

    /// A fresh login code, valid for [`QR_CODE_LIFETIME`]; an earlier one of the same instance becomes invalid.
    async fn get_login_qrcode(&self, guid: &str) -> Result<LoginQrCode, CallError>;
    /// Polled every 3 s while a code waits to be scanned.
    async fn check_login_qrcode(&self, guid: &str) -> Result<QrCheck, CallError>;
    /// Types in the verification code that WeCom shows on a new device. A wrong one is
    /// `Rejected { class: WrongVerificationCode }`.
    async fn verify_login_qrcode(&self, guid: &str, code: &str) -> Result<(), CallError>;
    async fn logout(&self, guid: &str) -> Result<(), CallError>;

    async fn get_profile(&self, guid: &str) -> Result<Profile, CallError>;
    async fn get_corp_info(&self, guid: &str) -> Result<CorpInfo, CallError>;
    /// One page of the account's conversations; begin with `"0"`, go on with the page's `next_seq`.
    async fn get_session_list(&self, guid: &str, begin_seq: &str, limit: u32) -> Result<SessionPage, CallError>;

    /// Has the instance fetch `url` and put it where images, files and mini-program covers are sent from.
    async fn cdn_c2c_upload(&self, guid: &str, kind: UploadKind, url: &str) -> Result<CdnFile, CallError>;
    /// Writes the message at most once and never tries again by itself. A caller that drops the future before its end
    /// has to take the outcome as [`SendOutcome::Unknown`].
    async fn send(&self, guid: &str, request: &SendRequest) -> SendOutcome;
    async fn revoke_msg(&self, guid: &str, conversation_id: &str, msg_id: &str) -> Result<(), CallError>;
}

/// How a send ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// WeCom took the message.
    Sent(Receipt),
    /// WeCom refused the message; it was not delivered.
    Rejected {
        class: RejectClass,
        code: i64,
        message: String,
    },
    /// The account or the gateway is throttled; the message was not delivered.
    Throttled {
        /// What the gateway asked for; without it the caller's own cool-down holds.
        retry_after: Option<Duration>,
    },
    /// No connection came about, so not one byte was written: safe to try again.
    NotConnected { detail: String },
    /// The instance's runtime is not ready (1014): not delivered, try again in a few seconds.
    NotReady,
    /// The request was, at least in part, written and no answer could be read: delivered or not, nobody can tell.
    Unknown { detail: String },
}

/// How a call other than a send failed. Same meaning as in [`SendOutcome`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("not connected: {detail}")]
    NotConnected { detail: String },
    #[error("no answer, the call may have been carried out: {detail}")]
    Unknown { detail: String },
    #[error("refused with {code}: {message}")]
    Rejected {
        class: RejectClass,
        code: i64,
        message: String,
    },
    #[error("throttled")]
    Throttled { retry_after: Option<Duration> },
    #[error("the instance's runtime is not ready")]
    NotReady,
}

/// What a refusal means for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectClass {
    /// The same request would always be refused; the account itself is fine.
    Permanent,
    /// The account is not logged in any more; its requests can go on after a login.
    SessionInvalid,
    /// The rented instance has run out: stop the account and alert somebody.
    InstanceExpired,
    /// The gateway knows no such instance: stop the account and alert somebody.
    InstanceGone,
    /// The verification code of a login was wrong; another may be typed in.
    WrongVerificationCode,
    /// The login code has expired; another has to be fetched.
    QrCodeExpired,
}

/// WeCom's receipt for a message it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// `msg_data.id`: unique only inside one account.
    pub msg_id: String,
    /// `msg_data.seq`: unique only inside one account.
    pub seq: i64,
    /// `msg_data.appinfo` as replied: base64.
    pub appinfo: String,
    /// `appinfo` decoded: what the sync callback of this message carries as its `appinfo`. Match on this one.
    pub appinfo_decoded: String,
    pub sender: String,
    pub receiver: String,
    /// `"0"` for a private conversation.
    pub roomid: String,
    /// By WeCom's clock; `None` where none came, or one outside of the years 2000 to 2199.
    pub sendtime: Option<DateTime<Utc>>,
}

/// One message to one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// `S:<userid>` or `R:<roomid>`.
    pub conversation_id: String,
    pub body: SendBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendBody {
    Text {
        content: String,
    },
    /// A text with mentions, to rooms only.
    RoomAt {
        /// Holds one [`MENTION_MARK`] per mention.
        content: String,
        /// User ids, or [`MENTION_ALL`].
        at_list: Vec<String>,
    },
    Image {
        file: CdnFile,
        width: u32,
        height: u32,
        is_hd: bool,
    },
    File {
        file: CdnFile,
        file_name: String,
    },
    Link {
        title: String,
        description: String,
        url: String,
        image_url: String,
    },
    /// A mini program.
    Weapp {
        username: String,
        appid: String,
        appname: String,
        appicon: String,
        title: String,
        page_path: String,
        /// Its picture, if it has one.
        cover: Option<CdnFile>,
    },
}

/// A file where WeCom sends from, as [`Gateway::cdn_c2c_upload`] left it there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdnFile {
    pub file_id: String,
    /// Bytes.
    pub size: u64,
    pub aes_key: String,
    pub md5: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UploadKind {
    Image,
    File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateClient {
    /// The vendor's number for the kind of client; 0 where it has but one.
    pub client_type: i64,
    /// `socks5://…` or empty.
    pub proxy: String,
    pub bridge: String,
    pub auto_start: bool,
}

impl Default for CreateClient {
    fn default() -> Self {
        Self {
            client_type: 0,
            proxy: String::new(),
            bridge: String::new(),
            auto_start: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreClient {
    pub proxy: String,
    pub bridge: String,
    pub sync_history_msg: bool,
    pub force_online: bool,
    pub auto_start: bool,
}

impl Default for RestoreClient {
    fn default() -> Self {
        Self {
            proxy: String::new(),
            bridge: String::new(),
            sync_history_msg: false,
            force_online: true,
            auto_start: true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientStatus {
    Stopped,
    /// Running, nobody logged in.
    NotLoggedIn,
    Online,
    /// A number that the protocol's description does not name.
    Other(i64),
}

impl From<i64> for ClientStatus {
    fn from(status: i64) -> Self {
        match status {
            0 => Self::Stopped,
            1 => Self::NotLoggedIn,
            2 => Self::Online,
            other => Self::Other(other),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginQrCode {
    /// The picture, where the gateway sent one that is a PNG.
    pub png: Option<Vec<u8>>,
    /// The text in the code, from which a picture can be drawn anywhere.
    pub content: String,
    /// The gateway's name for this code.
    pub key: String,
}

/// How far the scan of a login code has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QrCheck {
    pub status: QrStatus,
    /// The code can no longer be used; `status` is then [`QrStatus::None`] or whatever it had come to.
    pub expired: bool,
    /// Who scanned it, as far as known.
    pub nickname: String,
    pub avatar: String,
}

/// The member logged in at an instance. Absent fields are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub user_id: String,
    pub name: String,
    pub real_name: String,
    pub avatar: String,
    pub gender: String,
    pub corp_id: String,
    pub corp_short_name: String,
    pub corp_full_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpInfo {
    pub corp_id: String,
    pub short_name: String,
    pub full_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// `S:…` and `R:…`.
    pub conversation_ids: Vec<String>,
    /// Where the next page begins; equal to the asked one at the end.
    pub next_seq: String,
}

impl SendRequest {
    /// The instance protocol's path for this type of message.
    pub const fn path(&self) -> &'static str {
        match self.body {
            SendBody::Text { .. } => "/msg/send_text",
            SendBody::RoomAt { .. } => "/msg/send_room_at",
            SendBody::Image { .. } => "/msg/send_image",
            SendBody::File { .. } => "/msg/send_file",
            SendBody::Link { .. } => "/msg/send_link",
            SendBody::Weapp { .. } => "/msg/send_weapp",
        }
    }

    /// What stands in the instance protocol's body beside `guid` and `conversation_id`.
    pub fn fields(&self) -> Value {
        match &self.body {
            SendBody::Text { content } => json!({ "content": content }),
            SendBody::RoomAt { content, at_list } => json!({ "content": content, "at_list": at_list }),
            SendBody::Image {
                file,
                width,
                height,
                is_hd,
            } => json!({
                "file_id": file.file_id, "size": file.size, "aes_key": file.aes_key, "md5": file.md5,
                "image_width": width, "image_height": height, "is_hd": is_hd,
            }),
            SendBody::File { file, file_name } => json!({
                "file_id": file.file_id, "size": file.size, "aes_key": file.aes_key, "md5": file.md5,
                "file_name": file_name,
            }),
            SendBody::Link {
                title,
                description,
                url,
                image_url,
            } => json!({
                "title": title, "description": description, "url": url, "image_url": image_url,
            }),
            SendBody::Weapp {
                username,
                appid,
                appname,
                appicon,
                title,
                page_path,
                cover,
            } => {
                let cover = cover.clone().unwrap_or_default();
                json!({
                    "username": username, "appid": appid, "appname": appname, "appicon": appicon,
                    "title": title, "page_path": page_path,
                    "file_id": cover.file_id, "size": cover.size, "aes_key": cover.aes_key, "md5": cover.md5,
                })
            }
        }
    }

    /// A text that is equal where the contents of a send and of a sync callback are equal (hash it, it may be long). See
    /// [`crate::callbacks::CallbackMessage::content_key`].
    pub fn content_key(&self) -> String {
        match &self.body {
            SendBody::Text { content } => content.clone(),
            _ => content_key(&self.fields()),
        }
    }
}
