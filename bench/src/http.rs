//! P1_http: the commands of P1 through the REST API, over real sockets. The peer is what would be left if HTTP and the
//! commands took turns: the commands in process and a bare JSON echo, both measured here with the same callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use uuid::Uuid;
use weft_command_api::{CommandState, router};
use weft_domain::TenantId;
use weft_log_writer::Executor;
use weft_platform::clock::Clock;
use weft_platform::config::{Config, Secret, StaticToken};
use weft_platform::health::Health;
use weft_platform::http::{Authenticator, EnvelopeConfig, envelope};

use crate::database::Databases;
use crate::load::closed_loop;
use crate::report::{Benchmark, Round, Side};
use crate::workload::Workload;
use crate::{Arguments, Failure};

const CONNECTIONS: usize = 256;

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Benchmark, Failure> {
    let length = Duration::from_secs(arguments.seconds);
    let executor = Executor::connect(&databases.config, Clock::system()).await?;
    let workload = Arc::new(Workload::prepare(&executor).await?);
    let api = serve(api(&databases.config, &executor, &workload)).await?;
    let echo = serve(Router::new().route("/", post(|Json(body): Json<Value>| async { Json(body) }))).await?;
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for round in 0..=arguments.rounds {
        let length = if round == 0 {
            length.min(Duration::from_secs(2))
        } else {
            length
        };
        let (in_process, commands) = (executor.clone(), Arc::clone(&workload));
        let measured = [
            through_http(api, &workload, length, Requests::Commands).await?,
            closed_loop(CONNECTIONS, length, move || {
                let (executor, workload) = (in_process.clone(), Arc::clone(&commands));
                async move { workload.execute(&executor).await }
            })
            .await?,
            through_http(echo, &workload, length, Requests::Echo).await?,
        ];
        databases.settle().await?;
        if round > 0 {
            for (all, one) in rounds.iter_mut().zip(measured) {
                all.push(one);
            }
        }
    }
    let [ours, commands, echo] = rounds.map(|rounds| Side::of(&rounds));
    Ok(Benchmark {
        id: "P1_http",
        what: "commands through the REST API, 256 connections",
        ours,
        peer_what: "1/(1/P1 + 1/a bare axum JSON echo), the same callers",
        peer: Side {
            per_second: 1.0 / (1.0 / commands.per_second + 1.0 / echo.per_second),
            ..Side::default()
        },
        goal: 0.85,
        least: None,
        most_p99_ms: None,
        unit: "commands/s",
    })
}

/// The command API with a token for each of the workload's tenants: the tenant's id.
pub(crate) fn api(config: &Config, executor: &Executor, workload: &Workload) -> Router {
    let tokens: Vec<StaticToken> = workload
        .tenants()
        .map(|tenant_id| StaticToken {
            token: Secret(tenant_id.to_string()),
            tenant_id: tenant_id.0,
            role: "admin".to_owned(),
        })
        .collect();
    let mut config = config.clone();
    config.accounts.daily_limit = u32::MAX;
    let config = Arc::new(config);
    let state = CommandState::new(
        executor.clone(),
        Arc::clone(&config),
        Clock::system(),
        Authenticator::new(&tokens),
        Health::default(),
        Vec::new(),
    );
    let clock = Clock::system();
    let http = config.http.clone();
    envelope(router(state).0, EnvelopeConfig { clock, http })
}

pub(crate) async fn serve(router: Router) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

#[derive(Clone, Copy)]
enum Requests {
    Commands,
    Echo,
}

type Connection = Mutex<SendRequest<Full<Bytes>>>;

async fn through_http(
    address: SocketAddr,
    workload: &Arc<Workload>,
    length: Duration,
    requests: Requests,
) -> Result<Round, Failure> {
    let mut connections: Vec<Connection> = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        tokio::spawn(connection);
        connections.push(Mutex::new(sender));
    }
    let connections = Arc::new(connections);
    let next = Arc::new(AtomicU64::new(0));
    let workload = Arc::clone(workload);
    closed_loop(CONNECTIONS, length, move || {
        let (connections, workload) = (Arc::clone(&connections), Arc::clone(&workload));
        // As many callers as connections: whoever takes its turn finds one free, or waits for its neighbour's answer.
        let place = next.fetch_add(1, Ordering::Relaxed) as usize % CONNECTIONS;
        async move {
            let request = request(&workload, requests)?;
            let mut connection = connections[place].lock().await;
            let answer = connection.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            if !matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED) {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
            }
            Ok(())
        }
    })
    .await
}

/// A command for the API.
pub(crate) struct Command {
    pub(crate) path: &'static str,
    /// Also the caller's token.
    pub(crate) tenant_id: TenantId,
    /// Also the idempotency key.
    pub(crate) id: Uuid,
    /// JSON.
    pub(crate) body: String,
}

/// Four of five accept a message, one creates an account.
pub(crate) fn command(workload: &Workload) -> Command {
    let (number, tenant_id, account_id) = workload.turn();
    let id = Clock::system().new_id();
    let (path, body) = if number.is_multiple_of(5) {
        ("/api/v1/accounts", format!(r#"{{"account_name":"{id}"}}"#))
    } else {
        let body = format!(
            r#"{{"account_id":"{account_id}","conversation_id":"S:1688850000000001","message_type":"text",
"content":{{"text":"您好，您预订的沙发已经到店，明天上午九点到十一点送货，请保持电话畅通。"}}}}"#
        );
        ("/api/v1/messages/send", body)
    };
    Command {
        path,
        tenant_id,
        id,
        body,
    }
}

fn request(workload: &Workload, requests: Requests) -> Result<Request<Full<Bytes>>, Failure> {
    let command = command(workload);
    let path = match requests {
        Requests::Commands => command.path,
        Requests::Echo => "/",
    };
    Ok(Request::post(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", command.tenant_id))
        .header("idempotency-key", command.id.to_string())
        .body(Full::from(command.body))?)
}
