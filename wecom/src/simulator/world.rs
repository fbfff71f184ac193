//! All that the simulator holds, and what calls and acts do to it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::SimulatorError;
use super::call::{BAD_REQUEST, Call, fail};
use super::client::{Client, Notice, State, WrongState};
use super::clock::{SimulatorClock, rfc3339};
use super::delivery::{Deliveries, Pending};
use super::faults::{CallTrouble, CallbackTrouble, CloseAt, FaultRequest, Faults};
use super::journal::ClientJournal;
use super::ledger::{Entry, Ledger, Page};
use super::messages::{Sent, ledger_content};

#[derive(Debug)]
pub(super) struct World {
    state: Mutex<WorldState>,
    deliveries: Deliveries,
    pub(super) clock: SimulatorClock,
    auto_scan: Option<Duration>,
    read_after: Option<Duration>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Debug)]
pub(super) struct WorldState {
    pub(super) clients: BTreeMap<String, Client>,
    journal: ClientJournal,
    /// Clients that were created so far, or what counts for it after a restart.
    last_number: u64,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
}

/// How a call of the protocol ends.
#[derive(Debug)]
pub(super) enum Handled {
    Answer {
        status: u16,
        body: Value,
        after: Option<Duration>,
    },
    Close(CloseAt),
}

/// What carrying out a call came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answer: Value,
    pub(super) then: Then,
}

/// What follows a call.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    Notify(Vec<Notice>),
    /// A login code was issued.
    AwaitScan {
        key: String,
    },
    /// A message was delivered.
    Delivered(Box<Sent>),
}

impl Outcome {
    pub(super) const fn answer(answer: Value) -> Self {
        Self {
            answer,
            then: Then::Nothing,
        }
    }
}

/// How an act of the control API can fail.
#[derive(Debug)]
pub(super) enum ActError {
    NoSuchClient,
    WrongState,
    Disk(io::Error),
}

impl From<io::Error> for ActError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl World {
    pub(super) fn open(
        data_dir: &Path,
        auto_scan: Option<Duration>,
        read_after: Option<Duration>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, SimulatorError> {
        std::fs::create_dir_all(data_dir)?;
        // The ledger first: it holds the lock on the folder.
        let ledger = Ledger::open(&data_dir.join("ledger.ndjson"))?;
        let (journal, clients) = ClientJournal::open(data_dir.join("clients.ndjson"))?;
        let last_number = clients.values().map(|client| client.number).max().unwrap_or_default();
        let world = Arc::new(Self {
            state: Mutex::new(WorldState {
                clients,
                last_number,
                journal,
                ledger,
                faults: Faults::default(),
            }),
            deliveries: Deliveries::new(tasks.clone(), shutdown.clone())?,
            clock: SimulatorClock::default(),
            auto_scan,
            read_after,
            tasks,
            shutdown,
        });
        world.resume_scans();
        Ok(world)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a call out. All of it happens under one lock, so the ledger's order is the order of effects.
    pub(super) fn handle(self: &Arc<Self>, call: &Call) -> io::Result<Handled> {
        let mut guard = self.state();
        let state = &mut *guard;
        let trouble = state.faults.for_call(&call.guid, &call.path);
        if trouble == Some(CallTrouble::Close(CloseAt::BeforeReading)) {
            return Ok(Handled::Close(CloseAt::BeforeReading));
        }
        let (outcome, status) = match trouble {
            Some(CallTrouble::ErrorCode(code)) => (Outcome::answer(fail(code, "fault")), 200),
            Some(CallTrouble::HttpStatus(status)) => (Outcome::answer(json!({ "http_status": status })), status),
            Some(CallTrouble::Latency(_) | CallTrouble::Close(_)) | None => {
                (state.process(call, self.clock.now_ms())?, 200)
            }
        };
        let closes = matches!(trouble, Some(CallTrouble::Close(_)));
        if call.is_send() {
            let answer = if closes { &Value::Null } else { &outcome.answer };
            state.enter(
                call,
                answer,
                matches!(outcome.then, Then::Delivered(_)),
                self.clock.now_ms(),
            )?;
        }
        self.follow(state, &call.guid, outcome.then);
        drop(guard);
        if closes {
            return Ok(Handled::Close(CloseAt::AfterReading));
        }
        let after = match trouble {
            Some(CallTrouble::Latency(latency)) => Some(Duration::from_millis(latency)),
            _ => None,
        };
        Ok(Handled::Answer {
            status,
            body: outcome.answer,
            after,
        })
    }

    /// An act of the person with the phone, or of WeCom. Gives the client as it is then.
    pub(super) fn act(
        &self,
        guid: &str,
        act: impl FnOnce(&mut Client) -> Result<Vec<Notice>, WrongState>,
    ) -> Result<Value, ActError> {
        let mut state = self.state();
        let acted = state.update(guid, act)?.ok_or(ActError::NoSuchClient)?;
        let notices = acted.map_err(|WrongState| ActError::WrongState)?;
        self.notify(&mut state, guid, notices);
        state.clients.get(guid).map(Client::view).ok_or(ActError::NoSuchClient)
    }

    pub(super) fn add_fault(&self, request: FaultRequest) -> Result<String, &'static str> {
        self.state().faults.add(request)
    }

    /// Where the asked-for entries lie; they are read outside of the lock.
    pub(super) fn ledger_page(&self, guid: Option<&str>, after: u64, limit: usize) -> Page {
        self.state().ledger.page(guid, after, limit)
    }

    pub(super) fn reset(&self) -> io::Result<()> {
        let mut state = self.state();
        state.faults.clear();
        state.journal.clear()?;
        state.clients.clear();
        state.last_number = 0;
        state.ledger.clear()?;
        self.deliveries.forget_all();
        Ok(())
    }

    fn follow(self: &Arc<Self>, state: &mut WorldState, guid: &str, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Notify(notices) => self.notify(state, guid, notices),
            Then::AwaitScan { key } => self.scan_later(guid.to_owned(), key),
            Then::Delivered(sent) => {
                self.notify(state, guid, vec![sent.sync()]);
                if let Some(read_after) = self.read_after {
                    let (world, guid) = (Arc::clone(self), guid.to_owned());
                    self.later(read_after, move || {
                        let mut state = world.state();
                        let read = sent.read_by_receiver(world.clock.now_ms());
                        world.notify(&mut state, &guid, vec![read]);
                    });
                }
            }
        }
        if !state.clients.contains_key(guid) {
            self.deliveries.forget(guid);
        }
    }

    /// Queues callbacks to the client's url as it is now, with the faults that are in force.
    fn notify(&self, state: &mut WorldState, guid: &str, notices: Vec<Notice>) {
        let Some(url) = state.clients.get(guid).and_then(|client| client.notify_url.as_deref()) else {
            return;
        };
        for Notice { notify_type, data } in notices {
            let trouble = state.faults.for_callback(guid, notify_type);
            let mut pending = Pending::new(url, notify_type, data);
            match trouble {
                None => self.deliveries.push(guid, pending),
                Some(CallbackTrouble::Drop) => {}
                Some(CallbackTrouble::Duplicate) => {
                    pending.alone = true;
                    self.deliveries.push(guid, pending.clone());
                    self.deliveries.push(guid, pending);
                }
                Some(CallbackTrouble::Delay(delay)) => {
                    let (deliveries, guid) = (self.deliveries.clone(), guid.to_owned());
                    self.later(Duration::from_millis(delay), move || deliveries.push(&guid, pending));
                }
            }
        }
    }

    fn later(&self, delay: Duration, act: impl FnOnce() + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => act(),
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// With `--auto-scan`: somebody scans this very code, and confirms half as long after.
    fn scan_later(self: &Arc<Self>, guid: String, key: String) {
        let Some(delay) = self.auto_scan else { return };
        let world = Arc::clone(self);
        self.later(delay, move || {
            let scanned = world.act(&guid, |client| {
                let now = world.clock.now_ms();
                match client.valid_code(now) {
                    Some(code) if code.key == key => client.scan(now),
                    _ => Err(WrongState),
                }
            });
            if scanned.is_ok() {
                let confirming = Arc::clone(&world);
                world.later(delay / 2, move || {
                    // A person who meanwhile refused or asked for a code has the last word.
                    let _ = confirming.act(&guid, |client| client.confirm(confirming.clock.now_ms()));
                });
            }
        });
    }

    /// Codes that waited when the simulator went down still wait.
    fn resume_scans(self: &Arc<Self>) {
        let waiting: Vec<_> = self
            .state()
            .clients
            .values()
            .filter(|client| client.state == State::WaitingScan)
            .filter_map(|client| Some((client.guid.clone(), client.valid_code(self.clock.now_ms())?.key.clone())))
            .collect();
        for (guid, key) in waiting {
            self.scan_later(guid, key);
        }
    }
}

impl WorldState {
    /// Changes a client; the change is on disk before it holds. `None` where there is no such client.
    pub(super) fn update<R>(&mut self, guid: &str, change: impl FnOnce(&mut Client) -> R) -> io::Result<Option<R>> {
        let Some(client) = self.clients.get_mut(guid) else {
            return Ok(None);
        };
        let mut changed = client.clone();
        let result = change(&mut changed);
        if changed != *client {
            self.journal.put(&changed)?;
            *client = changed;
            self.journal.tidy(&self.clients)?;
        }
        Ok(Some(result))
    }

    /// Creates a client; it is on disk before it exists.
    pub(super) fn create(&mut self, guid: String, auto_start: bool) -> io::Result<()> {
        let client = Client::new(guid, self.last_number + 1, auto_start);
        self.journal.put(&client)?;
        self.last_number = client.number;
        self.clients.insert(client.guid.clone(), client);
        Ok(())
    }

    pub(super) fn remove(&mut self, guid: &str) -> io::Result<()> {
        self.journal.remove(guid)?;
        self.clients.remove(guid);
        Ok(())
    }

    fn enter(&mut self, call: &Call, answer: &Value, effective: bool, now_ms: i64) -> io::Result<()> {
        let seq = self.ledger.next_seq();
        let conversation_id = call.fields().and_then(|fields| fields.get("conversation_id")).cloned();
        self.ledger.append(&Entry {
            seq,
            guid: &call.guid,
            path: &call.path,
            conversation_id: conversation_id.unwrap_or_default(),
            content: ledger_content(call),
            body: &call.body,
            received_at: rfc3339(now_ms),
            answer,
            effective,
        })
    }
}

/// The answer to a call whose envelope makes no sense.
pub(super) fn bad_envelope(why: &str) -> Handled {
    Handled::Answer {
        status: 200,
        body: fail(BAD_REQUEST, why),
        after: None,
    }
}
