//! The instance protocol: a logged-in member account driven over HTTP, direct or through a hosted gateway.

mod answer;
mod config;
mod read;
mod transport;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use self::answer::Answer;
pub use self::config::{HostedKeys, InstanceConfig, UploadTypes};
use self::transport::{Ending, Transport};
use crate::callbacks::QrStatus;
use crate::codes::{CodeClass, SERVER_FAILED, classify};
use crate::gateway::{
    CallError, CdnFile, ClientStatus, CorpInfo, CreateClient, Gateway, LoginQrCode, Profile, QrCheck, Receipt,
    RejectClass, RestoreClient, SendOutcome, SendRequest, SessionPage, UploadKind,
};
use crate::lenient::{flag, integer, text, time};

/// Where the hosted variant takes every call.
const HOSTED_PATH: &str = "/open/GuidRequest";

/// The instance protocol's client. Cheap to share: keep one per gateway and put it behind an `Arc`.
#[derive(Clone, Debug)]
pub struct InstanceGateway {
    config: InstanceConfig,
    transport: Transport,
}

#[derive(Debug, thiserror::Error)]
pub enum InstanceConfigError {
    #[error("the gateway's address must be http:// or https:// with a host")]
    BadBaseUrl,
    #[error("this build speaks no TLS; an https:// gateway needs one with the feature `tls`")]
    NoTls,
    #[error("the HTTP client could not be built: {0}")]
    Http(#[from] reqwest::Error),
}

impl InstanceGateway {
    pub fn new(config: InstanceConfig) -> Result<Self, InstanceConfigError> {
        if !matches!(config.base_url.scheme(), "http" | "https") || config.base_url.host().is_none() {
            return Err(InstanceConfigError::BadBaseUrl);
        }
        if config.base_url.scheme() == "https" && !cfg!(feature = "tls") {
            return Err(InstanceConfigError::NoTls);
        }
        let transport = Transport::new(&config)?;
        Ok(Self { config, transport })
    }

    /// One exchange. `fields` is what stands in the body beside the guid.
    async fn exchange(&self, path: &str, guid: Option<&str>, fields: Value) -> Ending {
        let mut body = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        if let Some(guid) = guid {
            body.insert("guid".to_owned(), Value::from(guid));
        }
        let (path, body) = match &self.config.hosted {
            None => (path, Value::Object(body)),
            Some(keys) => (
                HOSTED_PATH,
                json!({ "app_key": keys.app_key, "app_secret": keys.app_secret, "path": path, "data": body }),
            ),
        };
        let mut url = self.config.base_url.clone();
        url.set_path(&format!("{}{path}", self.config.base_url.path().trim_end_matches('/')));
        self.transport.post(url, &body).await
    }

    /// A call other than a send: what the answer carries, or why there is none.
    async fn call(&self, path: &str, guid: Option<&str>, fields: Value) -> Result<Answer, CallError> {
        match self.exchange(path, guid, fields).await {
            Ending::Answered(answer) => match classify(answer.code) {
                CodeClass::Ok => Ok(answer),
                CodeClass::NotReady => Err(CallError::NotReady),
                CodeClass::Throttled => Err(CallError::Throttled { retry_after: None }),
                CodeClass::Rejected(class) => Err(CallError::Rejected {
                    class,
                    code: answer.code,
                    message: answer.message,
                }),
            },
            Ending::Refused { status, message } => Err(CallError::Rejected {
                class: RejectClass::Permanent,
                code: i64::from(status),
                message,
            }),
            Ending::Throttled { retry_after } => Err(CallError::Throttled { retry_after }),
            Ending::NotConnected { detail } => Err(CallError::NotConnected { detail }),
            Ending::Unknown { detail } => Err(CallError::Unknown { detail }),
        }
    }

    /// A call whose answer says nothing but that it was done.
    async fn order(&self, path: &str, guid: &str, fields: Value) -> Result<(), CallError> {
        self.call(path, Some(guid), fields).await.map(drop)
    }
}

/// An answer with code 0 that lacks what it was asked for.
fn lacks(what: &str) -> CallError {
    CallError::Unknown {
        detail: format!("the answer lacks {what}"),
    }
}

#[async_trait]
impl Gateway for InstanceGateway {
    async fn create_client(&self, request: &CreateClient) -> Result<String, CallError> {
        let fields = json!({
            "client_type": request.client_type, "proxy": request.proxy, "bridge": request.bridge,
            "auto_start": request.auto_start,
        });
        let answer = self.call("/client/create_client", None, fields).await?;
        read::guid(&answer.data).ok_or_else(|| lacks("a guid"))
    }

    async fn stop_client(&self, guid: &str) -> Result<(), CallError> {
        self.order("/client/stop_client", guid, json!({})).await
    }

    async fn remove_client(&self, guid: &str) -> Result<(), CallError> {
        self.order("/client/remove_client", guid, json!({})).await
    }

    async fn all_clients(&self) -> Result<Vec<String>, CallError> {
        let answer = self.call("/client/all_clients", None, json!({})).await?;
        read::guids(&answer.data).ok_or_else(|| lacks("a list of clients"))
    }

    async fn set_notify_url(&self, guid: &str, notify_url: &str) -> Result<(), CallError> {
        self.order("/client/set_notify_url", guid, json!({ "notify_url": notify_url }))
            .await
    }

    async fn restore_client(&self, guid: &str, request: &RestoreClient) -> Result<(), CallError> {
        let fields = json!({
            "proxy": request.proxy, "bridge": request.bridge, "sync_history_msg": request.sync_history_msg,
            "force_online": request.force_online, "auto_start": request.auto_start,
        });
        self.order("/client/restore_client", guid, fields).await
    }

    async fn get_client_status(&self, guid: &str) -> Result<ClientStatus, CallError> {
        let answer = self.call("/client/get_client_status", Some(guid), json!({})).await?;
        read::status(&answer.data)
            .map(ClientStatus::from)
            .ok_or_else(|| lacks("a status"))
    }

    async fn get_login_qrcode(&self, guid: &str) -> Result<LoginQrCode, CallError> {
        let answer = self
            .call("/login/get_login_qrcode", Some(guid), json!({ "verify_login": false }))
            .await?;
        let fields = answer.fields().ok_or_else(|| lacks("a login code"))?;
        let code = LoginQrCode {
            png: read::png(&text(fields, "qrcode")),
            content: text(fields, "qrcode_content"),
            key: text(fields, "key"),
        };
        if code.png.is_none() && code.content.is_empty() {
            return Err(lacks("a login code"));
        }
        Ok(code)
    }

    async fn check_login_qrcode(&self, guid: &str) -> Result<QrCheck, CallError> {
        let answer = match self.call("/login/check_login_qrcode", Some(guid), json!({})).await {
            Ok(answer) => answer,
            Err(CallError::Rejected {
                class: RejectClass::QrCodeExpired,
                ..
            }) => {
                let (nickname, avatar) = Default::default();
                return Ok(QrCheck {
                    status: QrStatus::None,
                    expired: true,
                    nickname,
                    avatar,
                });
            }
            Err(error) => return Err(error),
        };
        let fields = answer.fields().ok_or_else(|| lacks("a status"))?;
        let status = integer(fields, "status").ok_or_else(|| lacks("a status"))?;
        Ok(QrCheck {
            status: QrStatus::from(status),
            expired: false,
            nickname: text(fields, "nickname"),
            avatar: text(fields, "avatar"),
        })
    }

    async fn verify_login_qrcode(&self, guid: &str, code: &str) -> Result<(), CallError> {
        self.order("/login/verify_login_qrcode", guid, json!({ "code": code }))
            .await
    }

    async fn logout(&self, guid: &str) -> Result<(), CallError> {
        self.order("/user/logout", guid, json!({})).await
    }

    async fn get_profile(&self, guid: &str) -> Result<Profile, CallError> {
        let answer = self.call("/user/get_profile", Some(guid), json!({})).await?;
        answer
            .fields()
            .map(crate::callbacks::profile)
            .ok_or_else(|| lacks("a profile"))
    }

    async fn get_corp_info(&self, guid: &str) -> Result<CorpInfo, CallError> {
        let answer = self.call("/user/get_corp_info", Some(guid), json!({})).await?;
        answer
            .fields()
            .map(read::corp_info)
            .ok_or_else(|| lacks("the corporation"))
    }

    async fn get_session_list(&self, guid: &str, begin_seq: &str, limit: u32) -> Result<SessionPage, CallError> {
        let fields = json!({ "begin_seq": begin_seq, "limit": limit });
        let answer = self.call("/session/get_session_list", Some(guid), fields).await?;
        answer
            .fields()
            .and_then(read::session_page)
            .ok_or_else(|| lacks("a session list"))
    }

    async fn cdn_c2c_upload(&self, guid: &str, kind: UploadKind, url: &str) -> Result<CdnFile, CallError> {
        let file_type = match kind {
            UploadKind::Image => self.config.upload_types.image,
            UploadKind::File => self.config.upload_types.file,
        };
        let fields = json!({ "file_type": file_type, "url": url });
        let answer = self.call("/cloud/cdn_c2c_upload", Some(guid), fields).await?;
        answer
            .fields()
            .and_then(read::cdn_file)
            .ok_or_else(|| lacks("a file id"))
    }

    async fn send(&self, guid: &str, request: &SendRequest) -> SendOutcome {
        let mut fields = request.fields();
        if let Some(fields) = fields.as_object_mut() {
            fields.insert(
                "conversation_id".to_owned(),
                Value::from(request.conversation_id.as_str()),
            );
        }
        match self.exchange(request.path(), Some(guid), fields).await {
            Ending::Answered(answer) => match classify(answer.code) {
                CodeClass::Ok => receipt(&answer),
                CodeClass::NotReady => SendOutcome::NotReady,
                CodeClass::Throttled => SendOutcome::Throttled { retry_after: None },
                CodeClass::Rejected(class) => SendOutcome::Rejected {
                    class,
                    code: answer.code,
                    message: answer.message,
                },
            },
            Ending::Refused { status, message } => SendOutcome::Rejected {
                class: RejectClass::Permanent,
                code: i64::from(status),
                message,
            },
            Ending::Throttled { retry_after } => SendOutcome::Throttled { retry_after },
            Ending::NotConnected { detail } => SendOutcome::NotConnected { detail },
            Ending::Unknown { detail } => SendOutcome::Unknown { detail },
        }
    }

    async fn revoke_msg(&self, guid: &str, conversation_id: &str, msg_id: &str) -> Result<(), CallError> {
        self.order(
            "/msg/revoke_msg",
            guid,
            json!({ "conversation_id": conversation_id, "msgid": msg_id }),
        )
        .await
    }
}

/// Reads the receipt of a send that was answered with code 0.
fn receipt(answer: &Answer) -> SendOutcome {
    let Some(fields) = answer.fields() else {
        return SendOutcome::Unknown {
            detail: "taken, but the answer lacks the receipt".to_owned(),
        };
    };
    if flag(fields, "is_svr_fail") {
        let message = "WeCom's server did not take the message (is_svr_fail)".to_owned();
        return SendOutcome::Rejected {
            class: RejectClass::Permanent,
            code: SERVER_FAILED,
            message,
        };
    }
    let Some(message) = fields.get("msg_data").and_then(Value::as_object) else {
        return SendOutcome::Unknown {
            detail: "taken, but the answer lacks the receipt".to_owned(),
        };
    };
    let (msg_id, appinfo) = (text(message, "id"), text(message, "appinfo"));
    if msg_id.is_empty() && appinfo.is_empty() {
        return SendOutcome::Unknown {
            detail: "taken, but the receipt names no message".to_owned(),
        };
    }
    SendOutcome::Sent(Receipt {
        appinfo_decoded: decode_appinfo(&appinfo),
        msg_id,
        seq: integer(message, "seq").unwrap_or_default(),
        appinfo,
        sender: text(message, "sender"),
        receiver: text(message, "receiver"),
        roomid: text(message, "roomid"),
        sendtime: time(message, "sendtime"),
    })
}

/// What the sync callback will carry; a vendor that replies it plain is taken at its word.
fn decode_appinfo(appinfo: &str) -> String {
    let decoded = STANDARD
        .decode(appinfo)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| appinfo.to_owned())
}
