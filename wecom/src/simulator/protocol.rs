//! The calls of the instance protocol, one by one.

use std::io;

use md5::{Digest, Md5};
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{BAD_REQUEST, Call, fail, ok, refuse};
use super::client::{Client, Notice, Refusal, State};
use super::messages::{self, Moment};
use super::qr;
use super::world::{Outcome, Then, WorldState};
use crate::codes;
use crate::lenient::{flag, integer};

/// The longest page of `get_session_list`.
const MAX_SESSIONS: i64 = 1_000;

impl WorldState {
    /// Carries a call out as a real instance would.
    pub(super) fn process(&mut self, call: &Call, now_ms: i64) -> io::Result<Outcome> {
        match call.path.as_str() {
            "/client/create_client" => self.create_client(call),
            "/client/all_clients" => {
                let guids: Vec<_> = self.clients.keys().collect();
                Ok(Outcome::answer(ok(json!(guids))))
            }
            _ => match self.clients.get(&call.guid) {
                Some(_) => self.process_client(call, now_ms),
                None => Ok(Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance"))),
            },
        }
    }

    /// A call to a client that exists.
    fn process_client(&mut self, call: &Call, now_ms: i64) -> io::Result<Outcome> {
        match call.path.as_str() {
            "/client/get_client_status" => Ok(self.read(call, |client| Ok(json!({ "status": client.status() })))),
            "/client/set_notify_url" => {
                let url = call.text("notify_url");
                if url.is_empty() {
                    return Ok(Outcome::answer(fail(BAD_REQUEST, "notify_url is missing")));
                }
                self.change(call, |client| Ok((Value::Null, client.set_notify_url(url))))
            }
            "/client/set_proxy" | "/client/set_bridge" => Ok(self.read(call, |_| Ok(Value::Null))),
            "/client/stop_client" => self.change(call, |client| {
                client.stop();
                Ok((Value::Null, Vec::new()))
            }),
            "/client/remove_client" => {
                self.remove(&call.guid)?;
                Ok(Outcome::answer(ok(Value::Null)))
            }
            "/client/restore_client" => self.change(call, |client| {
                let notices = client.restore();
                Ok((json!({ "status": client.status() }), notices))
            }),
            "/login/get_login_qrcode" => self.issue_code(call, now_ms),
            "/login/check_login_qrcode" => Ok(self.read(call, |client| client.check_code(now_ms))),
            "/login/verify_login_qrcode" => {
                let code = call.text("code");
                self.change(call, |client| {
                    client.verify(&code, now_ms).map(|notices| (Value::Null, notices))
                })
            }
            "/user/get_profile" => Ok(self.read(call, |client| online(client).map(|()| json!(client.profile())))),
            "/user/get_corp_info" => Ok(self.read(call, |client| {
                online(client)?;
                let profile = client.profile();
                Ok(json!({
                    "corp_id": profile.corp_id, "corp_short_name": profile.corp_short_name,
                    "corp_full_name": profile.corp_full_name,
                }))
            })),
            "/user/logout" => self.change(call, |client| client.log_out().map(|notices| (Value::Null, notices))),
            "/session/get_session_list" => Ok(self.session_list(call)),
            "/cloud/cdn_c2c_upload" => Ok(self.read(call, |client| {
                online(client).map(|()| uploaded(&call.text("url"), &call.text("file_type")))
            })),
            "/msg/revoke_msg" => Ok(self.revoke(call, now_ms)),
            _ if call.is_send() => Ok(self.send(call, now_ms)),
            _ => Ok(Outcome::answer(fail(BAD_REQUEST, "unknown path"))),
        }
    }

    fn create_client(&mut self, call: &Call) -> io::Result<Outcome> {
        let Some(fields) = call.fields() else {
            return Ok(Outcome::answer(fail(BAD_REQUEST, "the body is no JSON object")));
        };
        let auto_start = !fields.contains_key("auto_start") || flag(fields, "auto_start");
        let guid = random_id().to_string();
        self.create(guid.clone(), auto_start)?;
        Ok(Outcome::answer(ok(json!({ "guid": guid }))))
    }

    fn issue_code(&mut self, call: &Call, now_ms: i64) -> io::Result<Outcome> {
        let key = random_id().simple().to_string();
        let content = format!("https://wework.invalid/login?key={key}");
        let Some(picture) = qr::png_base64(&content) else {
            return Ok(Outcome::answer(fail(BAD_REQUEST, "the code cannot be drawn")));
        };
        let answer = json!({ "qrcode": picture, "qrcode_content": content, "key": key });
        let issued = self.update(&call.guid, |client| client.issue_code(key.clone(), content, now_ms))?;
        Ok(match issued {
            Some(Ok(())) => Outcome {
                answer: ok(answer),
                then: Then::AwaitScan { key },
            },
            Some(Err(refusal)) => Outcome::answer(refuse(refusal)),
            None => Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance")),
        })
    }

    fn session_list(&self, call: &Call) -> Outcome {
        let Some(client) = self.clients.get(&call.guid) else {
            return Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance"));
        };
        if let Err(refusal) = online(client) {
            return Outcome::answer(refuse(refusal));
        }
        let begin: usize = call.text("begin_seq").parse().unwrap_or_default();
        let limit = call
            .fields()
            .and_then(|fields| integer(fields, "limit"))
            .unwrap_or(100)
            .clamp(1, MAX_SESSIONS);
        let (sessions, next) = self.ledger.conversations(&call.guid, begin, limit as usize);
        Outcome::answer(ok(json!({ "session_list": sessions, "begin_seq": next.to_string() })))
    }

    fn send(&self, call: &Call, now_ms: i64) -> Outcome {
        let Some(client) = self.clients.get(&call.guid) else {
            return Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance"));
        };
        let sends_before = self.ledger.sends_of(&call.guid);
        let moment = Moment {
            now_ms,
            ledger_seq: self.ledger.next_seq(),
            sends_before,
        };
        match messages::judge(client, call, &moment) {
            Ok(sent) => Outcome {
                answer: sent.answer(),
                then: Then::Delivered(Box::new(sent)),
            },
            Err(answer) => Outcome::answer(answer),
        }
    }

    fn revoke(&self, call: &Call, now_ms: i64) -> Outcome {
        let Some(client) = self.clients.get(&call.guid) else {
            return Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance"));
        };
        if let Err(refusal) = online(client) {
            return Outcome::answer(refuse(refusal));
        }
        match messages::revoked(client, call, self.ledger.sends_of(&call.guid), now_ms) {
            Some(notice) => Outcome {
                answer: ok(Value::Null),
                then: Then::Notify(vec![notice]),
            },
            None => Outcome::answer(fail(BAD_REQUEST, "no such message")),
        }
    }

    /// A call that changes nothing.
    fn read(&self, call: &Call, read: impl FnOnce(&Client) -> Result<Value, Refusal>) -> Outcome {
        let answer = match self.clients.get(&call.guid).map(read) {
            Some(Ok(data)) => ok(data),
            Some(Err(refusal)) => refuse(refusal),
            None => fail(codes::NO_SUCH_INSTANCE, "no such instance"),
        };
        Outcome::answer(answer)
    }

    /// A call that changes the client and may have callbacks follow.
    fn change(
        &mut self,
        call: &Call,
        change: impl FnOnce(&mut Client) -> Result<(Value, Vec<Notice>), Refusal>,
    ) -> io::Result<Outcome> {
        Ok(match self.update(&call.guid, change)? {
            Some(Ok((data, notices))) => Outcome {
                answer: ok(data),
                then: Then::Notify(notices),
            },
            Some(Err(refusal)) => Outcome::answer(refuse(refusal)),
            None => Outcome::answer(fail(codes::NO_SUCH_INSTANCE, "no such instance")),
        })
    }
}

fn online(client: &Client) -> Result<(), Refusal> {
    if client.state == State::Online {
        Ok(())
    } else {
        Err(Refusal::NotReady)
    }
}

/// The file is not fetched; what is answered depends on the address alone, so that the same one gives the same file.
fn uploaded(url: &str, file_type: &str) -> Value {
    let digest = |salt: &str| {
        let hash = Md5::new().chain_update(salt).chain_update(url).finalize();
        format!("{:032x}", u128::from_be_bytes(hash.into()))
    };
    json!({
        "file_id": format!("cdn_{file_type}_{}", digest("file")), "file_size": 1_024 + url.len() * 37,
        "file_md5": digest(""), "aes_key": digest("key"),
    })
}

fn random_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
