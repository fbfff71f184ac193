//! `weft simulator`: always a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use weft_platform::shutdown;
use weft_wecom::simulator::{self, SimulatorConfig};

use crate::Failure;

#[derive(Args)]
pub(crate) struct SimulatorArgs {
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where clients and ledger are kept
    #[arg(long, default_value = ".weft/simulator")]
    data_dir: PathBuf,
    /// Scan and confirm every login code by itself after this time, such as `2s`
    #[arg(long, value_parser = parse_duration)]
    auto_scan: Option<Duration>,
    /// Send read reports after this time, such as `2s`
    #[arg(long, value_parser = parse_duration)]
    read_after: Option<Duration>,
}

/// `2s`, `500ms`, or seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text}: write it like 2s or 500ms"))?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        _ => Err(format!("{text}: write it like 2s or 500ms")),
    }
}

pub(crate) async fn run(args: SimulatorArgs) -> Result<(), Failure> {
    let shutdown = shutdown::on_signal().map_err(Failure::new)?;
    outln!("simulator on http://{}", args.listen);
    let config = SimulatorConfig {
        listen: args.listen,
        data_dir: args.data_dir,
        auto_scan: args.auto_scan,
        read_after: args.read_after,
    };
    simulator::run(config, shutdown).await.map_err(Failure::new)
}
