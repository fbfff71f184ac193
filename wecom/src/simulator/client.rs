//! One client instance: its state, and what each call and each act of the person with the phone makes of it.
//! Pure: time and random come in, callbacks to be made go out.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::rfc3339;
use crate::callbacks::notify;
use crate::gateway::{Profile, QR_CODE_LIFETIME};

const QR_NONE: i64 = 0;
const QR_SCANNED: i64 = 1;
const QR_SUCCEEDED: i64 = 2;
const QR_FAILED: i64 = 3;
const QR_REFUSED: i64 = 4;
const QR_NEEDS_CODE: i64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Stopped,
    /// Running, nobody logged in, no code asked for.
    Idle,
    WaitingScan,
    Scanned,
    NeedCode,
    Online,
}

/// What is kept of a client, on disk as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) guid: String,
    /// Counts clients from 1; the member's id and name come of it.
    pub(super) number: u64,
    pub(super) state: State,
    pub(super) notify_url: Option<String>,
    /// Every send is answered as throttled.
    pub(super) restricted: bool,
    /// A restore brings the client online without a code.
    has_session: bool,
    /// The start has been told (11001) to a notify url.
    announced: bool,
    qr_code: Option<QrCode>,
    /// What a check of the code answers while there is none any more.
    qr_status: i64,
    verification_code: Option<String>,
    /// Messages received so far; their ids come of it.
    pub(super) received: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QrCode {
    pub(super) key: String,
    pub(super) content: String,
    /// Milliseconds since the epoch.
    pub(super) expires_at: i64,
}

/// A callback to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub(super) notify_type: i64,
    pub(super) data: Value,
}

/// The client's state makes no sense of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongState;

/// How a call of the protocol can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotReady,
    AlreadyLoggedIn,
    CodeExpired,
    WrongCode,
}

type Acted = Result<Vec<Notice>, WrongState>;

fn notice(notify_type: i64, data: Value) -> Notice {
    Notice { notify_type, data }
}

impl Client {
    pub(super) fn new(guid: String, number: u64, auto_start: bool) -> Self {
        Self {
            guid,
            number,
            state: if auto_start { State::Idle } else { State::Stopped },
            notify_url: None,
            restricted: false,
            has_session: false,
            announced: false,
            qr_code: None,
            qr_status: QR_NONE,
            verification_code: None,
            received: 0,
        }
    }

    /// The number that `get_client_status` answers.
    pub(super) const fn status(&self) -> i64 {
        match self.state {
            State::Stopped => 0,
            State::Idle | State::WaitingScan | State::Scanned | State::NeedCode => 1,
            State::Online => 2,
        }
    }

    pub(super) fn profile(&self) -> Profile {
        const FAMILY: [&str; 12] = ["王", "李", "张", "刘", "陈", "杨", "黄", "赵", "周", "吴", "徐", "孙"];
        const GIVEN: [&str; 10] = ["芳", "伟", "敏", "静", "磊", "丽", "强", "洋", "婷", "杰"];
        let number = self.number as usize;
        let real_name = format!(
            "{}{}",
            FAMILY[number % FAMILY.len()],
            GIVEN[number / FAMILY.len() % GIVEN.len()]
        );
        Profile {
            user_id: self.user_id(),
            name: format!("{real_name}{:04}", self.number),
            real_name,
            avatar: format!("https://avatar.invalid/{}.png", self.user_id()),
            gender: (1 + self.number % 2).to_string(),
            corp_id: "1970325000000001".to_owned(),
            corp_short_name: "蔚风演示".to_owned(),
            corp_full_name: "蔚风演示科技有限公司".to_owned(),
        }
    }

    pub(super) fn user_id(&self) -> String {
        (1_688_850_000_000_000 + self.number * 7919).to_string()
    }

    /// The code that can still be scanned or confirmed.
    pub(super) fn valid_code(&self, now: i64) -> Option<&QrCode> {
        self.qr_code.as_ref().filter(|code| now < code.expires_at)
    }

    /// As the control API shows it.
    pub(super) fn view(&self) -> Value {
        json!({
            "guid": self.guid,
            "state": self.state,
            "notify_url": self.notify_url,
            "qrcode_content": self.qr_code.as_ref().map(|code| &code.content),
            "qrcode_expires_at": self.qr_code.as_ref().map(|code| rfc3339(code.expires_at)),
            "restricted": self.restricted,
        })
    }

    // ---- calls of the protocol ----

    pub(super) fn set_notify_url(&mut self, url: String) -> Vec<Notice> {
        self.notify_url = Some(url);
        self.announce()
    }

    /// Tells once per start that the instance is ready, as soon as there is somebody to tell.
    fn announce(&mut self) -> Vec<Notice> {
        if self.state == State::Stopped || self.announced || self.notify_url.is_none() {
            return Vec::new();
        }
        self.announced = true;
        vec![notice(notify::INSTANCE_READY, json!({}))]
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Stopped;
        self.announced = false;
        self.forget_code(QR_NONE);
    }

    /// Starts a stopped client, and brings any client with a good session online.
    pub(super) fn restore(&mut self) -> Vec<Notice> {
        if self.state == State::Stopped {
            self.state = State::Idle;
        }
        let mut notices = self.announce();
        if self.has_session && self.state != State::Online {
            notices.extend(self.come_online());
        }
        notices
    }

    pub(super) fn issue_code(&mut self, key: String, content: String, now: i64) -> Result<(), Refusal> {
        match self.state {
            State::Stopped => Err(Refusal::NotReady),
            State::Online => Err(Refusal::AlreadyLoggedIn),
            State::Idle | State::WaitingScan | State::Scanned | State::NeedCode => {
                self.forget_code(QR_NONE);
                // Whoever asks for a code starts anew; the old session is given up.
                self.has_session = false;
                self.qr_code = Some(QrCode {
                    key,
                    content,
                    expires_at: now + lifetime_ms(),
                });
                self.state = State::WaitingScan;
                Ok(())
            }
        }
    }

    /// The status of the code, with who scanned it.
    pub(super) fn check_code(&self, now: i64) -> Result<Value, Refusal> {
        match self.state {
            State::Stopped => Err(Refusal::NotReady),
            State::WaitingScan | State::Scanned | State::NeedCode if self.valid_code(now).is_none() => {
                Err(Refusal::CodeExpired)
            }
            State::Idle | State::WaitingScan | State::Scanned | State::NeedCode | State::Online => {
                Ok(self.qr_data(self.qr_status))
            }
        }
    }

    pub(super) fn verify(&mut self, code: &str, now: i64) -> Result<Vec<Notice>, Refusal> {
        match self.state {
            State::NeedCode if self.valid_code(now).is_none() => Err(Refusal::CodeExpired),
            State::NeedCode if self.verification_code.as_deref() == Some(code) => Ok(self.log_in()),
            State::NeedCode => Err(Refusal::WrongCode),
            State::Online => Err(Refusal::AlreadyLoggedIn),
            State::Stopped | State::Idle | State::WaitingScan | State::Scanned => Err(Refusal::NotReady),
        }
    }

    pub(super) fn log_out(&mut self) -> Result<Vec<Notice>, Refusal> {
        self.act_logout().map_err(|WrongState| Refusal::NotReady)
    }

    // ---- acts of the person with the phone, and of WeCom ----

    pub(super) fn scan(&mut self, now: i64) -> Acted {
        self.require(State::WaitingScan)?;
        self.extend_code(now)?;
        self.state = State::Scanned;
        Ok(vec![self.qr_notice(QR_SCANNED)])
    }

    pub(super) fn confirm(&mut self, now: i64) -> Acted {
        self.require(State::Scanned)?;
        self.valid_code(now).ok_or(WrongState)?;
        Ok(self.log_in())
    }

    pub(super) fn refuse(&mut self) -> Acted {
        if !matches!(self.state, State::Scanned | State::NeedCode) {
            return Err(WrongState);
        }
        let refused = self.qr_notice(QR_REFUSED);
        self.forget_code(QR_REFUSED);
        self.state = State::Idle;
        Ok(vec![refused])
    }

    /// Makes the code invalid at once. Nothing is told: WeCom tells nothing either.
    pub(super) fn expire(&mut self, now: i64) -> Acted {
        if self.valid_code(now).is_none() {
            return Err(WrongState);
        }
        if let Some(code) = &mut self.qr_code {
            code.expires_at = now;
        }
        Ok(Vec::new())
    }

    pub(super) fn need_code(&mut self, code: String, now: i64) -> Acted {
        self.require(State::Scanned)?;
        self.extend_code(now)?;
        self.state = State::NeedCode;
        self.verification_code = Some(code);
        Ok(vec![self.qr_notice(QR_NEEDS_CODE)])
    }

    /// As [`Self::need_code`], told by 11012 instead of 11002.
    pub(super) fn safe_verify(&mut self, code: String, now: i64) -> Acted {
        self.need_code(code, now)?;
        Ok(vec![notice(notify::SAFE_VERIFY, json!({}))])
    }

    pub(super) fn login_failed(&mut self) -> Acted {
        if !matches!(self.state, State::WaitingScan | State::Scanned | State::NeedCode) {
            return Err(WrongState);
        }
        self.forget_code(QR_FAILED);
        self.state = State::Idle;
        Ok(vec![notice(notify::LOGIN_FAILED, error_data(-1, "login failed"))])
    }

    pub(super) fn act_logout(&mut self) -> Acted {
        self.lose_session(notice(notify::LOGOUT, error_data(0, "logged out")))
    }

    pub(super) fn session_timeout(&mut self) -> Acted {
        self.lose_session(notice(notify::SESSION_TIMEOUT, error_data(-1, "session timeout")))
    }

    pub(super) fn other_device(&mut self) -> Acted {
        self.lose_session(notice(
            notify::OTHER_DEVICE,
            error_data(-1, "logged in on another device"),
        ))
    }

    /// The instance loses its connection and stops; its session stays good.
    pub(super) fn drop_connection(&mut self, silent: bool) -> Acted {
        self.require(State::Online)?;
        self.stop();
        if silent {
            return Ok(Vec::new());
        }
        Ok(vec![notice(notify::HEARTBEAT_ERROR, error_data(-1, "heartbeat error"))])
    }

    // ---- parts ----

    fn require(&self, state: State) -> Result<(), WrongState> {
        if self.state == state { Ok(()) } else { Err(WrongState) }
    }

    /// Whoever scanned a valid code gets the whole time again for the next step.
    fn extend_code(&mut self, now: i64) -> Result<(), WrongState> {
        let code = self
            .qr_code
            .as_mut()
            .filter(|code| now < code.expires_at)
            .ok_or(WrongState)?;
        code.expires_at = now + lifetime_ms();
        Ok(())
    }

    fn forget_code(&mut self, qr_status: i64) {
        self.qr_code = None;
        self.verification_code = None;
        self.qr_status = qr_status;
    }

    fn log_in(&mut self) -> Vec<Notice> {
        self.forget_code(QR_SUCCEEDED);
        let mut notices = vec![self.qr_notice(QR_SUCCEEDED)];
        notices.extend(self.come_online());
        notices
    }

    fn come_online(&mut self) -> Vec<Notice> {
        self.state = State::Online;
        self.has_session = true;
        vec![
            notice(notify::LOGIN, json!(self.profile())),
            notice(notify::INIT_FINISHED, json!({})),
            notice(notify::CONTACTS_SYNCED, json!({})),
        ]
    }

    fn lose_session(&mut self, told: Notice) -> Acted {
        self.require(State::Online)?;
        self.state = State::Idle;
        self.has_session = false;
        self.forget_code(QR_NONE);
        Ok(vec![told])
    }

    fn qr_notice(&mut self, status: i64) -> Notice {
        self.qr_status = status;
        notice(notify::QR_STATUS, self.qr_data(status))
    }

    /// Nobody is known before the scan.
    fn qr_data(&self, status: i64) -> Value {
        if status == QR_NONE {
            return json!({ "status": status, "vid": "", "nickname": "", "avatar": "", "logo": "", "corp_id": "" });
        }
        let profile = self.profile();
        json!({
            "status": status, "vid": profile.user_id, "nickname": profile.name, "avatar": profile.avatar,
            "logo": "https://avatar.invalid/corp.png", "corp_id": profile.corp_id,
        })
    }
}

fn lifetime_ms() -> i64 {
    QR_CODE_LIFETIME.as_millis() as i64
}

fn error_data(code: i64, message: &str) -> Value {
    json!({ "error_code": code, "error_message": message })
}
