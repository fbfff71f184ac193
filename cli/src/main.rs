//! The one binary `weft`: every role on its own or all in one process, and the tools of operators.

#[macro_use]
mod output;

mod admin;
mod database;
mod dead_letters;
mod demo;
mod log;
mod migrate;
mod projections;
mod relay;
mod replay;
mod roles;
mod schemas;
mod server;
mod simulator;
mod tenant;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weft_platform::config::{Config, Profile};
use weft_platform::telemetry;

/// Half of an append's work in this process is allocation; the C library's takes three times as long for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Manages many WeCom accounts for many tenants and sends messages through them at scale.
#[derive(Parser)]
#[command(name = "weft", version, about, long_about = None)]
struct Cli {
    /// Configuration file; without it `weft.toml` where there is one. `WEFT__SECTION__KEY` overrides either.
    #[arg(long, global = true, env = "WEFT_CONFIG")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Call,
}

#[derive(Subcommand)]
enum Call {
    /// Every role in one process, on one port
    All,
    /// The REST commands and the callback ingress
    CommandApi,
    /// GraphQL, subscriptions and the REST views
    QueryApi,
    /// Publishes the log to Kafka
    Relay(relay::RelayArgs),
    /// Builds the read models and the facts
    Projectors,
    /// The process managers
    Workers(workers::WorkersArgs),
    /// Creates or updates the databases of log, keys and views, and ClickHouse
    Migrate,
    /// Creates the Kafka topics and checks them
    Topics,
    /// The log itself: tail, show, export, import, verify, archive, adopt
    Log(log::LogArgs),
    /// Where the read models stand, and whether they are what the log says
    Projections(projections::ProjectionsArgs),
    /// Makes read models anew from the log, while the live ones go on; exit code 3 when rows differed
    Replay(replay::ReplayArgs),
    /// Streams that a projection could not go on with
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Creates and lists tenants
    Tenant(tenant::TenantArgs),
    /// Writes the generated contracts under schemas/, or checks that they are clean
    Schemas(schemas::SchemasArgs),
    /// A WeCom to develop against: speaks the instance protocol
    Simulator(simulator::SimulatorArgs),
    /// Logs accounts in, sends a file of messages and compares what everybody saw
    Demo(Box<demo::DemoArgs>),
}

/// One line for the operator and an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something the operator has to change: exit code 1.
    pub(crate) fn new(message: impl ToString) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    pub(crate) fn with_code(message: impl ToString, code: u8) -> Self {
        Self {
            message: message.to_string(),
            code,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Config::load(cli.config.as_deref())
        .map_err(Failure::new)
        .and_then(|config| run(cli.command, config));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("weft: {}", failure.message.replace('\n', " "));
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Call, config: Config) -> Result<(), Failure> {
    let serves = matches!(
        command,
        Call::All
            | Call::CommandApi
            | Call::QueryApi
            | Call::Relay(relay::RelayArgs { from: None, .. })
            | Call::Projectors
            | Call::Workers(workers::WorkersArgs { command: None })
    );
    let filter = if serves {
        "info,librdkafka=off,rdkafka=error,sqlx::postgres::notice=warn"
    } else {
        // How long a statement or transaction of theirs takes is nothing that an operator could act on.
        "warn,librdkafka=off,rdkafka=error,sqlx::query=error,weft_projectors::engine::session=error"
    };
    telemetry::init(filter, config.profile == Profile::Production);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error.to_string()))?;
    runtime.block_on(async move {
        match command {
            Call::All => roles::all(config).await,
            Call::CommandApi => roles::command_api(config).await,
            Call::QueryApi => roles::query_api(config).await,
            Call::Relay(args) => relay::run(args, config).await,
            Call::Projectors => roles::projectors(config).await,
            Call::Workers(args) => workers::run(args, config).await,
            Call::Migrate => migrate::run(&config).await,
            Call::Topics => migrate::topics(&config).await,
            Call::Log(args) => log::run(args, config).await,
            Call::Projections(args) => projections::run(args, config).await,
            Call::Replay(args) => replay::run(args, config).await,
            Call::DeadLetters(args) => dead_letters::run(args, config).await,
            Call::Tenant(args) => tenant::run(args, config).await,
            Call::Schemas(args) => schemas::run(&args),
            Call::Simulator(args) => simulator::run(args).await,
            Call::Demo(args) => demo::run(*args, config).await,
        }
    })
}
