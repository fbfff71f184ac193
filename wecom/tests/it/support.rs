//! A simulator of one's own, a place that callbacks come to, and raw peers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_wecom::callbacks::{Callback, CallbackEvent};
use weft_wecom::gateway::{CreateClient, Gateway, Receipt, SendBody, SendOutcome, SendRequest};
use weft_wecom::instance::{InstanceConfig, InstanceGateway};
use weft_wecom::simulator::{Simulator, SimulatorConfig};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestSimulator {
    pub(crate) simulator: Simulator,
    pub(crate) gateway: InstanceGateway,
    http: Client,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    folder: tempfile::TempDir,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) auto_scan: Option<Duration>,
    pub(crate) read_after: Option<Duration>,
}

impl TestSimulator {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options).await
    }

    async fn start_in(folder: tempfile::TempDir, options: Options) -> Self {
        let stop = CancellationToken::new();
        let config = SimulatorConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: folder.path().to_path_buf(),
            auto_scan: options.auto_scan,
            read_after: options.read_after,
        };
        let simulator = Simulator::start(config, stop.clone()).await.unwrap();
        Self {
            gateway: gateway(&simulator.base_url()),
            simulator,
            http: Client::new(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            folder,
        }
    }

    /// Stops the simulator and starts another on the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.stop.cancel();
        self.simulator.ended().await;
        Self::start_in(self.folder, Options::default()).await
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.base_url())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.http
            .get(self.url(path))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self
            .http
            .post(self.url(path))
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.http.delete(self.url(path)).send().await.unwrap().status().as_u16()
    }

    /// An act that must succeed; gives the client as it is then.
    pub(crate) async fn act(&self, guid: &str, action: &str, body: Value) -> Value {
        let (status, client) = self.try_act(guid, action, body).await;
        assert_eq!(status, 200, "{action}: {client}");
        client
    }

    pub(crate) async fn try_act(&self, guid: &str, action: &str, body: Value) -> (u16, Value) {
        self.post(&format!("/_sim/clients/{guid}/{action}"), &body).await
    }

    pub(crate) async fn fault(&self, fault: Value) -> String {
        let (status, answer) = self.post("/_sim/faults", &fault).await;
        assert_eq!(status, 201, "{answer}");
        answer["fault_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn ledger(&self) -> Vec<Value> {
        self.get("/_sim/ledger?limit=10000").await["entries"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub(crate) async fn state(&self, guid: &str) -> String {
        let clients = self.get("/_sim/clients").await;
        let client = clients["clients"]
            .as_array()
            .unwrap()
            .iter()
            .find(|client| client["guid"] == guid)
            .cloned();
        client.map_or("gone".to_owned(), |client| client["state"].as_str().unwrap().to_owned())
    }

    /// A running client that tells its callbacks to `inbox`.
    pub(crate) async fn client(&self, inbox: &Inbox) -> String {
        let guid = self.gateway.create_client(&CreateClient::default()).await.unwrap();
        self.gateway.set_notify_url(&guid, &inbox.url).await.unwrap();
        guid
    }

    /// A client that is online; its callbacks so far are taken out of the inbox.
    pub(crate) async fn online_client(&self, inbox: &Inbox) -> String {
        let guid = self.client(inbox).await;
        self.gateway.get_login_qrcode(&guid).await.unwrap();
        self.act(&guid, "scan", json!({})).await;
        self.act(&guid, "confirm", json!({})).await;
        inbox
            .wait_for(|callback| callback.guid == guid && callback.notify_type == 11009)
            .await;
        inbox.clear();
        guid
    }

    pub(crate) async fn send_text(&self, guid: &str, conversation_id: &str, content: &str) -> SendOutcome {
        self.gateway.send(guid, &text(conversation_id, content)).await
    }
}

pub(crate) fn gateway(base_url: &str) -> InstanceGateway {
    gateway_with(base_url, |_| {})
}

pub(crate) fn gateway_with(base_url: &str, change: impl FnOnce(&mut InstanceConfig)) -> InstanceGateway {
    let mut config = InstanceConfig::new(Url::parse(base_url).unwrap());
    change(&mut config);
    InstanceGateway::new(config).unwrap()
}

pub(crate) fn text(conversation_id: &str, content: &str) -> SendRequest {
    SendRequest {
        conversation_id: conversation_id.to_owned(),
        body: SendBody::Text {
            content: content.to_owned(),
        },
    }
}

pub(crate) fn receipt(outcome: SendOutcome) -> Receipt {
    match outcome {
        SendOutcome::Sent(receipt) => receipt,
        other => panic!("not sent: {other:?}"),
    }
}

/// Where callbacks are posted to in tests. Answers with a status that can be set, and keeps all that came.
#[derive(Clone)]
pub(crate) struct Inbox {
    pub(crate) url: String,
    arrived: Arc<watch::Sender<Vec<Arrival>>>,
    answer: Arc<Mutex<StatusCode>>,
    _stop_on_drop: Arc<DropGuard>,
}

#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) callback: Callback,
    pub(crate) at: std::time::Instant,
}

impl Inbox {
    pub(crate) async fn open() -> Self {
        let (arrived, answer) = (Arc::new(watch::Sender::default()), Arc::new(Mutex::new(StatusCode::OK)));
        let (arriving, answering) = (Arc::clone(&arrived), Arc::clone(&answer));
        let receive = move |body: Bytes| async move {
            let callback = Callback::parse(&body).unwrap();
            let at = std::time::Instant::now();
            let status = *answering.lock().unwrap();
            arriving.send_modify(|arrivals: &mut Vec<Arrival>| arrivals.push(Arrival { callback, at }));
            status
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/notify", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let router = Router::new().route("/notify", post(receive));
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped.cancelled_owned())
                .await
                .unwrap();
        });
        Self {
            url,
            arrived,
            answer,
            _stop_on_drop: Arc::new(stop.drop_guard()),
        }
    }

    pub(crate) fn answer_with(&self, status: u16) {
        *self.answer.lock().unwrap() = StatusCode::from_u16(status).unwrap();
    }

    pub(crate) fn clear(&self) {
        self.arrived.send_modify(Vec::clear);
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrived.borrow().clone()
    }

    pub(crate) fn types(&self) -> Vec<i64> {
        self.arrivals()
            .iter()
            .map(|arrival| arrival.callback.notify_type)
            .collect()
    }

    /// Waits until what has arrived is as wanted, and gives all of it.
    pub(crate) async fn wait_until(&self, wanted: impl Fn(&[Arrival]) -> bool) -> Vec<Arrival> {
        let mut arrived = self.arrived.subscribe();
        let waited = tokio::time::timeout(PATIENCE, arrived.wait_for(|arrivals| wanted(arrivals))).await;
        let Ok(arrivals) = waited else {
            panic!("waited in vain; arrived: {:#?}", self.arrivals())
        };
        arrivals.unwrap().clone()
    }

    pub(crate) async fn wait_for(&self, wanted: impl Fn(&Callback) -> bool) -> Callback {
        let arrivals = self
            .wait_until(|arrivals| arrivals.iter().any(|arrival| wanted(&arrival.callback)))
            .await;
        arrivals
            .into_iter()
            .map(|arrival| arrival.callback)
            .find(wanted)
            .unwrap()
    }

    /// Waits for the events of these types, in this order and no others between them.
    pub(crate) async fn wait_for_types(&self, types: &[i64]) -> Vec<CallbackEvent> {
        let arrivals = self.wait_until(|arrivals| arrivals.len() >= types.len()).await;
        assert_eq!(self.types(), types);
        arrivals.into_iter().map(|arrival| arrival.callback.event).collect()
    }
}
