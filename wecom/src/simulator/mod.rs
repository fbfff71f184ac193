//! A WeCom to develop and test against: a real HTTP server that speaks the instance protocol, always a process of its
//! own (or a task of a test). Its control API lets people and tests play the person with the phone, WeCom's moods, and
//! a broken network; its ledger says which sends arrived.

mod call;
mod client;
mod clock;
mod control;
mod delivery;
mod faults;
mod journal;
mod ledger;
mod messages;
mod protocol;
mod qr;
mod server;
mod world;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::world::World;

#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Port 0 takes any free one; see [`Simulator::address`].
    pub listen: SocketAddr,
    /// Clients and ledger live here; one simulator at a time.
    pub data_dir: PathBuf,
    /// Scans every login code after this time, and confirms it half as long after.
    pub auto_scan: Option<Duration>,
    /// Reports every delivered message as read after this time.
    pub read_after: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot use the data folder: {0}")]
    DataDir(#[from] io::Error),
    #[error("cannot build the client for callbacks: {0}")]
    Http(#[from] reqwest::Error),
}

/// Runs a simulator until the shutdown.
pub async fn run(config: SimulatorConfig, shutdown: CancellationToken) -> Result<(), SimulatorError> {
    let simulator = Simulator::start(config, shutdown).await?;
    tracing::info!(address = %simulator.address, "the WeCom simulator listens");
    simulator.ended().await;
    Ok(())
}

/// A running simulator. Ends with its shutdown token.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    server: JoinHandle<()>,
    tasks: TaskTracker,
}

impl Simulator {
    /// Starts a simulator and returns once it can be talked to.
    pub async fn start(config: SimulatorConfig, shutdown: CancellationToken) -> Result<Self, SimulatorError> {
        let listen = |source| SimulatorError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let tasks = TaskTracker::new();
        let world = World::open(
            &config.data_dir,
            config.auto_scan,
            config.read_after,
            tasks.clone(),
            shutdown.clone(),
        )?;
        let router = control::router(Arc::clone(&world));
        let server = tokio::spawn(server::serve(listener, Arc::clone(&world), router, shutdown));
        Ok(Self {
            address,
            world,
            server,
            tasks,
        })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the instance protocol's client takes as its base.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets time pass for the simulator's clock, by which login codes expire.
    pub fn advance_clock(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Waits until the simulator has come to its end after the shutdown.
    pub async fn ended(self) {
        let Self { server, tasks, .. } = self;
        if let Err(error) = server.await {
            tracing::error!(%error, "the simulator's server failed");
        }
        tasks.close();
        tasks.wait().await;
    }
}
