//! A call of the instance protocol as it came in, direct or through the hosted path, and how answers look.

use serde_json::{Map, Value, json};

use super::client::Refusal;
use crate::codes;
use crate::lenient::text;

/// Where hosted calls come in.
pub(super) const HOSTED_PATH: &str = "/open/GuidRequest";
/// A request that lacks what it needs. The protocol's description gives no number for this; this one is ours.
pub(super) const BAD_REQUEST: i64 = -2001;
/// A login is asked for at a client that is online. The protocol's description gives no number; this one is ours.
pub(super) const ALREADY_LOGGED_IN: i64 = -4102;

/// Every path of the protocol that the simulator speaks.
pub(super) const PATHS: [&str; 25] = [
    "/client/create_client",
    "/client/all_clients",
    "/client/get_client_status",
    "/client/set_notify_url",
    "/client/stop_client",
    "/client/remove_client",
    "/client/set_proxy",
    "/client/set_bridge",
    "/client/restore_client",
    "/login/get_login_qrcode",
    "/login/check_login_qrcode",
    "/login/verify_login_qrcode",
    "/user/get_profile",
    "/user/get_corp_info",
    "/user/logout",
    "/session/get_session_list",
    "/msg/send_text",
    "/msg/send_room_at",
    "/msg/send_image",
    "/msg/send_file",
    "/msg/send_link",
    "/msg/send_weapp",
    "/msg/revoke_msg",
    "/cloud/cdn_c2c_upload",
    HOSTED_PATH,
];

#[derive(Debug)]
pub(super) struct Call {
    /// The inner one for hosted calls.
    pub(super) path: String,
    /// Empty where the call names none.
    pub(super) guid: String,
    /// Whole, with the guid; the inner one for hosted calls. A body that is no JSON is a string.
    pub(super) body: Value,
}

impl Call {
    /// Reads the call, or says why it makes none.
    pub(super) fn read(path: &str, body: &[u8]) -> Result<Self, &'static str> {
        let body =
            serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
        if path != HOSTED_PATH {
            return Ok(Self::new(path.to_owned(), body));
        }
        let Value::Object(mut envelope) = body else {
            return Err("the envelope is no JSON object");
        };
        if text(&envelope, "app_key").is_empty() || text(&envelope, "app_secret").is_empty() {
            return Err("app_key and app_secret are needed");
        }
        let path = text(&envelope, "path");
        Ok(Self::new(path, envelope.remove("data").unwrap_or_default()))
    }

    fn new(path: String, body: Value) -> Self {
        let guid = body.as_object().map(|fields| text(fields, "guid")).unwrap_or_default();
        Self { path, guid, body }
    }

    pub(super) fn is_send(&self) -> bool {
        self.path.starts_with("/msg/send_")
    }

    pub(super) fn fields(&self) -> Option<&Map<String, Value>> {
        self.body.as_object()
    }

    /// The field as text, empty when absent.
    pub(super) fn text(&self, field: &str) -> String {
        self.fields().map(|fields| text(fields, field)).unwrap_or_default()
    }
}

pub(super) fn ok(data: Value) -> Value {
    let mut answer = json!({ "error_code": 0, "error_message": "ok" });
    answer["data"] = data;
    answer
}

pub(super) fn fail(code: i64, message: &str) -> Value {
    json!({ "error_code": code, "error_message": message, "data": null })
}

pub(super) fn refuse(refusal: Refusal) -> Value {
    match refusal {
        Refusal::NotReady => fail(codes::NOT_READY, "runtime not ready"),
        Refusal::AlreadyLoggedIn => fail(ALREADY_LOGGED_IN, "already logged in"),
        Refusal::CodeExpired => fail(codes::QR_CODE_EXPIRED, "qrcode expired"),
        Refusal::WrongCode => fail(codes::WRONG_VERIFICATION_CODE, "wrong verification code"),
    }
}
