//! What client instances tell us: `{guid, notify_type, data}`, posted to the notify url.
//!
//! Of the envelope `notify_type` is a number and `data` what the type has: nothing else is acted on. The data is read
//! tolerantly (numbers as strings, missing fields, several spellings). Reading is total: any bytes give a callback or a
//! [`CallbackError`], never a panic. Callbacks are unsigned, so nothing here is to be trusted further than the secret in
//! the url they came to.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use weft_platform::http::with_replacement_characters;

use crate::content::content_key;
use crate::gateway::Profile;
use crate::lenient::{first_text, flag, id, integer, text, texts, time};

/// The numbers of `notify_type`.
pub mod notify {
    pub const INSTANCE_READY: i64 = 11001;
    pub const QR_STATUS: i64 = 11002;
    pub const LOGIN: i64 = 11003;
    pub const LOGOUT: i64 = 11004;
    pub const INIT_FINISHED: i64 = 11005;
    pub const HEARTBEAT_ERROR: i64 = 11006;
    pub const SESSION_TIMEOUT: i64 = 11007;
    pub const LOGIN_FAILED: i64 = 11008;
    pub const CONTACTS_SYNCED: i64 = 11009;
    pub const MESSAGE: i64 = 11010;
    pub const OTHER_DEVICE: i64 = 11011;
    pub const SAFE_VERIFY: i64 = 11012;
    pub const MESSAGE_SYNC: i64 = 11013;
}

/// In a message's `flag`: the send failed.
pub const FLAG_SEND_FAILED: i64 = 4_194_304;

#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    /// Empty where the callback named none.
    pub guid: String,
    pub notify_type: i64,
    pub event: CallbackEvent,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CallbackEvent {
    /// 11001
    InstanceReady,
    /// 11002
    QrStatus(QrReport),
    /// 11003
    Login(Profile),
    /// 11004
    Logout(ErrorReport),
    /// 11005
    InitFinished,
    /// 11006
    HeartbeatError(ErrorReport),
    /// 11007
    SessionTimeout(ErrorReport),
    /// 11008
    LoginFailed(ErrorReport),
    /// 11009
    ContactsSynced,
    /// 11010: one message, received or sent elsewhere, or a read report (see [`CallbackMessage::read_report`]).
    Message(Box<CallbackMessage>),
    /// 11011
    OtherDevice(ErrorReport),
    /// 11012
    SafeVerify,
    /// 11013: messages that this account sent or received, in order.
    MessageSync(SyncedMessages),
    /// A type that Weft does not act on.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncedMessages {
    pub messages: Vec<CallbackMessage>,
    /// Items that were no message objects.
    pub unreadable: usize,
}

/// Data of 11002.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QrReport {
    pub status: QrStatus,
    pub vid: String,
    pub nickname: String,
    pub avatar: String,
    pub logo: String,
    pub corp_id: String,
}

/// How far the scan of a login code has come. The same four exist for a scan by WeCom and by WeChat; they mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QrStatus {
    /// 0
    None,
    /// 1, 5: scanned, waits for the person's confirmation.
    Scanned,
    /// 2, 6: confirmed; the login callback follows.
    Succeeded,
    /// 3, 7
    Failed,
    /// 4, 8
    Refused,
    /// 9
    Authorised,
    /// 10: WeCom shows a code that has to be typed in.
    NeedsCode,
    Other(i64),
}

impl From<i64> for QrStatus {
    fn from(status: i64) -> Self {
        match status {
            0 => Self::None,
            1 | 5 => Self::Scanned,
            2 | 6 => Self::Succeeded,
            3 | 7 => Self::Failed,
            4 | 8 => Self::Refused,
            9 => Self::Authorised,
            10 => Self::NeedsCode,
            other => Self::Other(other),
        }
    }
}

/// Data of the callbacks that say what went wrong; both may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    pub error_code: Option<i64>,
    pub error_message: String,
}

/// A message as instances tell it. Absent fields are empty or 0.
#[derive(Clone, Debug, PartialEq)]
pub struct CallbackMessage {
    /// Unique only inside one account.
    pub id: String,
    /// Unique only inside one account.
    pub seq: i64,
    /// Decoded; a send's receipt carries the same text as `appinfo_decoded`.
    pub appinfo: String,
    pub sender: String,
    pub sender_name: String,
    pub receiver: String,
    /// `"0"` or empty in a private conversation.
    pub roomid: String,
    /// `None` where none came, or one outside of the years 2000 to 2199.
    pub sendtime: Option<DateTime<Utc>>,
    pub content_type: i64,
    pub flag: i64,
    /// A string for texts, an object for other types.
    pub content: Value,
    pub at_list: Vec<String>,
    /// Sent by this account.
    pub is_own: bool,
    pub msg_type: MsgType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MsgType {
    Revoke,
    Text,
    Location,
    Link,
    Image,
    Voice,
    Video,
    File,
    MiniProgram,
    Mixed,
    System,
    ReadReport,
    Other(i64),
}

impl From<i64> for MsgType {
    fn from(number: i64) -> Self {
        match number {
            1 => Self::Revoke,
            2 => Self::Text,
            3 => Self::Location,
            4 => Self::Link,
            5 => Self::Image,
            6 => Self::Voice,
            7 => Self::Video,
            8 => Self::File,
            12 => Self::MiniProgram,
            13 => Self::Mixed,
            1011 => Self::System,
            1012 => Self::ReadReport,
            other => Self::Other(other),
        }
    }
}

impl MsgType {
    /// The number on the wire.
    pub const fn number(self) -> i64 {
        match self {
            Self::Revoke => 1,
            Self::Text => 2,
            Self::Location => 3,
            Self::Link => 4,
            Self::Image => 5,
            Self::Voice => 6,
            Self::Video => 7,
            Self::File => 8,
            Self::MiniProgram => 12,
            Self::Mixed => 13,
            Self::System => 1011,
            Self::ReadReport => 1012,
            Self::Other(number) => number,
        }
    }
}

/// A message of type 1012: somebody has read messages of this account.
///
/// Public descriptions name the type but not its fields. The simulator, and so this reader, puts them into `content`:
/// `{"msgids": ["…"], "appinfos": ["…"]}`, both lists in the same order, one entry per message read; the report's own
/// `sendtime` is when they were read and its `sender` who read them. `msgid` or `id` with a single value, and a
/// `content` that is this object written as a string, are read too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReport {
    /// As in the receipts' `msg_id`: unique only inside one account.
    pub msg_ids: Vec<String>,
    /// As in the receipts' `appinfo_decoded`.
    pub appinfos: Vec<String>,
    pub reader: String,
    /// As [`CallbackMessage::sendtime`].
    pub read_at: Option<DateTime<Utc>>,
}

/// Why bytes are no callback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    #[error("not JSON")]
    NotJson,
    #[error("not a JSON object")]
    NotAnObject,
    #[error("malformed: no notify_type that is a whole number")]
    NoNotifyType,
    #[error("malformed: notify_type {notify_type} came without the data it needs")]
    BadData { notify_type: i64 },
}

impl Callback {
    /// Reads a callback's body. What no text can hold (a lone surrogate, where somebody cut an emoji) is U+FFFD: one
    /// person's name must not lose a login or a sync.
    pub fn parse(body: &[u8]) -> Result<Self, CallbackError> {
        let body = with_replacement_characters(body);
        let value = serde_json::from_slice(&body).map_err(|_| CallbackError::NotJson)?;
        Self::from_value(&value)
    }

    /// Reads a callback that is JSON already.
    pub fn from_value(value: &Value) -> Result<Self, CallbackError> {
        let object = value.as_object().ok_or(CallbackError::NotAnObject)?;
        let notify_type = object.get("notify_type").and_then(Value::as_i64);
        let notify_type = notify_type.ok_or(CallbackError::NoNotifyType)?;
        let data = object.get("data").unwrap_or(&Value::Null);
        let event = event(notify_type, data).ok_or(CallbackError::BadData { notify_type })?;
        Ok(Self {
            guid: text(object, "guid"),
            notify_type,
            event,
        })
    }
}

/// `None` when the type is known and its data is not what it must be: a list for a sync, an object (which some types may
/// lack) for all others.
fn event(notify_type: i64, data: &Value) -> Option<CallbackEvent> {
    let is_known = (notify::INSTANCE_READY..=notify::MESSAGE_SYNC).contains(&notify_type);
    let is_formed = data.is_object() || data.is_null() || (notify_type == notify::MESSAGE_SYNC && data.is_array());
    if is_known && !is_formed {
        return None;
    }
    Some(match notify_type {
        notify::INSTANCE_READY => CallbackEvent::InstanceReady,
        notify::QR_STATUS => CallbackEvent::QrStatus(QrReport::read(data.as_object()?)?),
        notify::LOGIN => CallbackEvent::Login(profile(data.as_object()?)),
        notify::LOGOUT => CallbackEvent::Logout(ErrorReport::read(data)),
        notify::INIT_FINISHED => CallbackEvent::InitFinished,
        notify::HEARTBEAT_ERROR => CallbackEvent::HeartbeatError(ErrorReport::read(data)),
        notify::SESSION_TIMEOUT => CallbackEvent::SessionTimeout(ErrorReport::read(data)),
        notify::LOGIN_FAILED => CallbackEvent::LoginFailed(ErrorReport::read(data)),
        notify::CONTACTS_SYNCED => CallbackEvent::ContactsSynced,
        notify::MESSAGE => CallbackEvent::Message(Box::new(CallbackMessage::read(data)?)),
        notify::OTHER_DEVICE => CallbackEvent::OtherDevice(ErrorReport::read(data)),
        notify::SAFE_VERIFY => CallbackEvent::SafeVerify,
        notify::MESSAGE_SYNC => CallbackEvent::MessageSync(SyncedMessages::read(data)?),
        _ => CallbackEvent::Unknown,
    })
}

/// The member's fields, as 11003 and `/user/get_profile` carry them.
pub(crate) fn profile(data: &Map<String, Value>) -> Profile {
    Profile {
        user_id: first_text(data, &["user_id", "vid", "userid"]),
        name: first_text(data, &["name", "nickname"]),
        real_name: text(data, "real_name"),
        avatar: text(data, "avatar"),
        gender: text(data, "gender"),
        corp_id: text(data, "corp_id"),
        corp_short_name: text(data, "corp_short_name"),
        corp_full_name: text(data, "corp_full_name"),
    }
}

impl QrReport {
    pub(crate) fn read(data: &Map<String, Value>) -> Option<Self> {
        Some(Self {
            status: QrStatus::from(integer(data, "status")?),
            vid: text(data, "vid"),
            nickname: text(data, "nickname"),
            avatar: text(data, "avatar"),
            logo: text(data, "logo"),
            corp_id: text(data, "corp_id"),
        })
    }
}

impl ErrorReport {
    fn read(data: &Value) -> Self {
        data.as_object().map_or_else(Self::default, |data| Self {
            error_code: integer(data, "error_code").or_else(|| integer(data, "err_code")),
            error_message: first_text(data, &["error_message", "err_msg", "message"]),
        })
    }
}

impl SyncedMessages {
    fn read(data: &Value) -> Option<Self> {
        let items = match data {
            Value::Array(items) => items.as_slice(),
            // A vendor that sends a single message bare.
            Value::Object(_) => std::slice::from_ref(data),
            _ => return None,
        };
        let messages: Vec<_> = items.iter().filter_map(CallbackMessage::read).collect();
        let unreadable = items.len() - messages.len();
        Some(Self { messages, unreadable })
    }
}

impl CallbackMessage {
    /// `None` for what is no object or names neither an id nor an appinfo, so that nothing could be done with it, and
    /// for one with an id that is none.
    pub fn read(value: &Value) -> Option<Self> {
        let data = value.as_object()?;
        let msg_id = Some(id(data, "id")?).filter(|id| !id.is_empty());
        let (msg_id, appinfo) = (msg_id.or_else(|| id(data, "msgid"))?, id(data, "appinfo")?);
        if msg_id.is_empty() && appinfo.is_empty() {
            return None;
        }
        Some(Self {
            id: msg_id,
            seq: integer(data, "seq").unwrap_or_default(),
            appinfo,
            sender: id(data, "sender")?,
            sender_name: text(data, "sender_name"),
            receiver: id(data, "receiver")?,
            roomid: id(data, "roomid")?,
            sendtime: time(data, "sendtime"),
            content_type: integer(data, "content_type").unwrap_or_default(),
            flag: integer(data, "flag").unwrap_or_default(),
            content: data.get("content").cloned().unwrap_or_default(),
            at_list: texts(data, "at_list"),
            is_own: flag(data, "send_flag"),
            msg_type: MsgType::from(integer(data, "msg_type").unwrap_or_default()),
        })
    }

    /// The conversation as sends name it, `S:…` or `R:…`; `None` where the message names nobody.
    pub fn conversation_id(&self) -> Option<String> {
        let prefixed = |prefix: &str, id: &str| match id.strip_prefix(prefix) {
            Some(_) => id.to_owned(),
            None => format!("{prefix}{id}"),
        };
        if !matches!(self.roomid.as_str(), "" | "0") {
            return Some(prefixed("R:", &self.roomid));
        }
        let other = if self.is_own { &self.receiver } else { &self.sender };
        (!other.is_empty()).then(|| prefixed("S:", other))
    }

    /// WeCom says that this own message was not delivered after all.
    pub const fn send_failed(&self) -> bool {
        self.flag & FLAG_SEND_FAILED != 0
    }

    /// Equal to [`crate::gateway::SendRequest::content_key`] of the send that this message is the echo of.
    pub fn content_key(&self) -> String {
        content_key(&self.content)
    }

    /// What was read, if this message is a read report that names it.
    pub fn read_report(&self) -> Option<ReadReport> {
        if self.msg_type != MsgType::ReadReport {
            return None;
        }
        let parsed = match &self.content {
            Value::String(text) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let content = parsed.as_ref().unwrap_or(&self.content).as_object()?;
        let mut msg_ids = texts(content, "msgids");
        if msg_ids.is_empty() {
            msg_ids = ["msgid", "id"]
                .iter()
                .map(|field| texts(content, field))
                .find(|ids| !ids.is_empty())?;
        }
        Some(ReadReport {
            msg_ids,
            appinfos: texts(content, "appinfos"),
            reader: self.sender.clone(),
            read_at: time(content, "read_time").or(self.sendtime),
        })
    }
}
