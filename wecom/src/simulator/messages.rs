//! Messages: which sends WeCom takes, and how messages look in answers and callbacks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::{BAD_REQUEST, Call, fail, ok, refuse};
use super::client::{Client, Notice, Refusal, State};
use crate::callbacks::{MsgType, notify};
use crate::codes;

/// What a field of a send has to be.
#[derive(Clone, Copy)]
enum Need {
    Text,
    Number,
    List,
}

/// The fields that each type cannot do without, and its number in callbacks.
fn type_of(path: &str) -> Option<(MsgType, &'static [(&'static str, Need)])> {
    use Need::{List, Number, Text};
    Some(match path {
        "/msg/send_text" => (MsgType::Text, &[("content", Text)]),
        "/msg/send_room_at" => (MsgType::Text, &[("content", Text), ("at_list", List)]),
        "/msg/send_image" => (
            MsgType::Image,
            &[("file_id", Text), ("size", Number), ("aes_key", Text), ("md5", Text)],
        ),
        "/msg/send_file" => (
            MsgType::File,
            &[
                ("file_id", Text),
                ("size", Number),
                ("file_name", Text),
                ("aes_key", Text),
                ("md5", Text),
            ],
        ),
        "/msg/send_link" => (MsgType::Link, &[("title", Text), ("url", Text)]),
        "/msg/send_weapp" => (
            MsgType::MiniProgram,
            &[
                ("username", Text),
                ("appid", Text),
                ("title", Text),
                ("page_path", Text),
            ],
        ),
        _ => return None,
    })
}

/// A message of this account that WeCom took.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    id: String,
    seq: u64,
    appinfo: String,
    sender: String,
    sender_name: String,
    receiver: String,
    roomid: String,
    sendtime: i64,
    msg_type: MsgType,
    content: Value,
    at_list: Value,
}

/// What is known when a send is judged.
pub(super) struct Moment {
    pub(super) now_ms: i64,
    /// The ledger's number of this send.
    pub(super) ledger_seq: u64,
    /// Sends of this client before this one.
    pub(super) sends_before: u64,
}

/// Takes the send, or gives the answer that refuses it.
pub(super) fn judge(client: &Client, call: &Call, moment: &Moment) -> Result<Sent, Value> {
    if client.state != State::Online {
        return Err(refuse(Refusal::NotReady));
    }
    if client.restricted {
        return Err(fail(codes::THROTTLED, "operation too frequent"));
    }
    let Some((msg_type, needs)) = type_of(&call.path) else {
        return Err(fail(BAD_REQUEST, "unknown path"));
    };
    let Some(fields) = call.fields() else {
        return Err(fail(BAD_REQUEST, "the body is no JSON object"));
    };
    for (field, need) in needs {
        let value = fields.get(*field);
        let given = match need {
            Need::Text => value.and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
            Need::Number => value.and_then(Value::as_u64).is_some(),
            Need::List => value.and_then(Value::as_array).is_some_and(|list| !list.is_empty()),
        };
        if !given {
            return Err(fail(BAD_REQUEST, &format!("{field} is missing or of the wrong type")));
        }
    }
    let conversation = call.text("conversation_id");
    let (receiver, roomid) = match (conversation.strip_prefix("S:"), conversation.strip_prefix("R:")) {
        (Some(user), _) if !user.is_empty() && !user.starts_with('0') => (user, "0"),
        (_, Some(room)) if !room.is_empty() && !room.starts_with('0') => ("0", room),
        _ => return Err(fail(codes::BAD_CONVERSATION_ID, "invalid conversation_id")),
    };
    if call.path == "/msg/send_room_at" && roomid == "0" {
        return Err(fail(codes::BAD_CONVERSATION_ID, "mentions go to rooms only"));
    }
    if roomid == "0" && receiver.starts_with('9') {
        return Err(fail(
            codes::NO_EXTERNAL_PERMISSION,
            "no permission to contact external users",
        ));
    }
    let mut content = fields.clone();
    content.remove("guid");
    content.remove("conversation_id");
    let profile = client.profile();
    Ok(Sent {
        // Ids of different accounts collide, as WeCom's do; sends, their reads and receipts never do within one.
        id: (1_000_000 + 4 * moment.sends_before).to_string(),
        seq: 20_000 + 4 * moment.sends_before,
        appinfo: format!("{}_{}_{}", client.guid, moment.ledger_seq, moment.now_ms),
        sender: profile.user_id,
        sender_name: profile.name,
        receiver: receiver.to_owned(),
        roomid: roomid.to_owned(),
        sendtime: moment.now_ms.div_euclid(1000),
        msg_type,
        content: if call.path == "/msg/send_text" {
            fields.get("content").cloned().unwrap_or_default()
        } else {
            Value::Object(content)
        },
        at_list: fields.get("at_list").cloned().unwrap_or_else(|| json!([])),
    })
}

/// What the ledger shows as a send's content: as the sync callback does.
pub(super) fn ledger_content(call: &Call) -> Value {
    let Some(fields) = call.fields() else {
        return Value::Null;
    };
    if call.path == "/msg/send_text" {
        return fields.get("content").cloned().unwrap_or_default();
    }
    let mut content = fields.clone();
    content.remove("guid");
    content.remove("conversation_id");
    Value::Object(content)
}

impl Sent {
    /// The answer to the send: its `appinfo` is in base64, unlike the callback's.
    pub(super) fn answer(&self) -> Value {
        let mut message = self.message();
        message["appinfo"] = json!(STANDARD.encode(&self.appinfo));
        ok(json!({ "is_svr_fail": false, "msg_data": message }))
    }

    /// 11013, as a list of one.
    pub(super) fn sync(&self) -> Notice {
        Notice {
            notify_type: notify::MESSAGE_SYNC,
            data: json!([self.message()]),
        }
    }

    fn message(&self) -> Value {
        json!({
            "seq": self.seq, "id": self.id, "appinfo": self.appinfo, "sender": self.sender,
            "sender_name": self.sender_name, "receiver": self.receiver, "roomid": self.roomid,
            "sendtime": self.sendtime, "content_type": self.msg_type.number(), "flag": 0, "content": self.content,
            "at_list": self.at_list, "send_flag": 1, "msg_type": self.msg_type.number(),
        })
    }

    /// 11010 with a read report (1012): what was read stands in `content`, ids and decoded appinfos in the same order.
    pub(super) fn read_by_receiver(&self, now_ms: i64) -> Notice {
        let reader = if self.roomid == "0" {
            self.receiver.as_str()
        } else {
            "1688851999999999"
        };
        let data = json!({
            "seq": self.seq + 1, "id": (1 + self.id.parse::<u64>().unwrap_or_default()).to_string(),
            "appinfo": format!("{}_read", self.appinfo), "sender": reader, "sender_name": "", "receiver": self.sender,
            "roomid": self.roomid, "sendtime": now_ms.div_euclid(1000),
            "content_type": MsgType::ReadReport.number(), "flag": 0,
            "content": { "msgids": [self.id], "appinfos": [self.appinfo] },
            "at_list": [], "send_flag": 0, "msg_type": MsgType::ReadReport.number(),
        });
        Notice {
            notify_type: notify::MESSAGE,
            data,
        }
    }
}

/// A message from outside, as the control API asks for it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Incoming {
    conversation_id: String,
    #[serde(default)]
    sender: String,
    #[serde(default)]
    sender_name: String,
    content: Value,
}

impl Incoming {
    /// 11010; `None` where the conversation id is none.
    pub(super) fn notice(self, client: &Client, now_ms: i64) -> Option<Notice> {
        let id = self
            .conversation_id
            .strip_prefix("S:")
            .or_else(|| self.conversation_id.strip_prefix("R:"))?;
        let is_room = self.conversation_id.starts_with("R:");
        if id.is_empty() {
            return None;
        }
        let number = client.received;
        let data = json!({
            "seq": 20_002 + 4 * number, "id": (1_000_002 + 4 * number).to_string(),
            "appinfo": format!("{}_in_{number}_{now_ms}", client.guid),
            "sender": if self.sender.is_empty() { id } else { self.sender.as_str() }, "sender_name": self.sender_name,
            "receiver": client.user_id(), "roomid": if is_room { id } else { "0" },
            "sendtime": now_ms.div_euclid(1000), "content_type": MsgType::Text.number(), "flag": 0,
            "content": self.content, "at_list": [], "send_flag": 0, "msg_type": MsgType::Text.number(),
        });
        Some(Notice {
            notify_type: notify::MESSAGE,
            data,
        })
    }
}

/// 11013 for a message that this account took back; `None` for one that it never sent.
pub(super) fn revoked(client: &Client, call: &Call, sends: u64, now_ms: i64) -> Option<Notice> {
    let id: u64 = call.text("msgid").parse().ok()?;
    let number = id.checked_sub(1_000_000).filter(|offset| offset % 4 == 0)? / 4;
    if number >= sends {
        return None;
    }
    let conversation = call.text("conversation_id");
    let (receiver, roomid) = match (conversation.strip_prefix("S:"), conversation.strip_prefix("R:")) {
        (Some(user), _) => (user, "0"),
        (_, Some(room)) => ("0", room),
        _ => return None,
    };
    let data = json!([{
        "seq": 20_003 + 4 * number, "id": (id + 3).to_string(),
        "appinfo": format!("{}_revoke_{id}_{now_ms}", client.guid), "sender": client.user_id(), "sender_name": "",
        "receiver": receiver, "roomid": roomid, "sendtime": now_ms.div_euclid(1000),
        "content_type": MsgType::Revoke.number(), "flag": 0, "content": { "msgid": id.to_string() },
        "at_list": [], "send_flag": 1, "msg_type": MsgType::Revoke.number(),
    }]);
    Some(Notice {
        notify_type: notify::MESSAGE_SYNC,
        data,
    })
}
