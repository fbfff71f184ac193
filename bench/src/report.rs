//! The table and the report file.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// One side's figures: the median round's rate, and latencies over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Side {
    /// From each round's length and latencies.
    pub(crate) fn of(rounds: &[(Duration, Vec<Duration>)]) -> Self {
        let mut rates: Vec<f64> = rounds
            .iter()
            .map(|(length, latencies)| latencies.len() as f64 / length.as_secs_f64())
            .collect();
        rates.sort_by(f64::total_cmp);
        let mut latencies: Vec<Duration> = rounds.iter().flat_map(|(_, latencies)| latencies).copied().collect();
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
            latencies
                .get(index)
                .map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
        };
        Self {
            per_second: rates.get(rates.len() / 2).copied().unwrap_or_default(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        }
    }
}

/// Ours beside a peer's.
pub(crate) struct Benchmark {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) ours: Side,
    pub(crate) peer_what: &'static str,
    pub(crate) peer: Side,
}

impl Benchmark {
    fn ratio(&self) -> f64 {
        self.ours.per_second / self.peer.per_second.max(f64::MIN_POSITIVE)
    }
}

pub(crate) fn print(benchmarks: &[Benchmark]) {
    for benchmark in benchmarks {
        println!("{}: {}", benchmark.id, benchmark.what);
        for (name, side) in [("weft", &benchmark.ours), (benchmark.peer_what, &benchmark.peer)] {
            println!(
                "  {name:<24} {:>9.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms",
                side.per_second, side.p50_ms, side.p99_ms
            );
        }
        println!("  ratio {:.2}", benchmark.ratio());
    }
}

pub(crate) fn write(path: &Path, benchmarks: &[Benchmark]) -> std::io::Result<()> {
    let rows: Vec<Value> = benchmarks
        .iter()
        .map(|benchmark| {
            json!({
                "id": benchmark.id,
                "what": benchmark.what,
                "ours": benchmark.ours.per_second,
                "peer": benchmark.peer.per_second,
                "peer_what": benchmark.peer_what,
                "ratio": benchmark.ratio(),
                "unit": "commands/s",
                "p50_ms": benchmark.ours.p50_ms,
                "p99_ms": benchmark.ours.p99_ms,
            })
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let report = json!({"benchmarks": rows, "machine": {"cores": cores, "os": std::env::consts::OS}});
    std::fs::write(path, serde_json::to_vec_pretty(&report)?)
}
