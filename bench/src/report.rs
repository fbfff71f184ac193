//! The table and the report file.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// One round of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) latencies: Vec<Duration>,
}

/// One side's figures: the median round's rate, and latencies over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of what was refused, where something was meant to be.
    pub(crate) refusal_p99_ms: Option<f64>,
}

/// Whoever is refused is told within this.
const REFUSED_WITHIN_MS: f64 = 50.0;

impl Side {
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let mut rates: Vec<f64> = rounds.iter().map(|round| round.per_second).collect();
        rates.sort_by(f64::total_cmp);
        let mut latencies: Vec<Duration> = rounds.iter().flat_map(|round| &round.latencies).copied().collect();
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
            refusal_p99_ms: None,
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
    /// The least ratio.
    pub(crate) goal: f64,
    /// The least rate of ours, where there is one.
    pub(crate) least: Option<f64>,
    /// The greatest p99, where there is one.
    pub(crate) most_p99_ms: Option<f64>,
    pub(crate) unit: &'static str,
}

impl Benchmark {
    fn ratio(&self) -> f64 {
        self.ours.per_second / self.peer.per_second.max(f64::MIN_POSITIVE)
    }

    fn met(&self) -> bool {
        self.ratio() >= self.goal
            && self.least.is_none_or(|least| self.ours.per_second >= least)
            && self.most_p99_ms.is_none_or(|most| self.ours.p99_ms < most)
            && self.ours.refusal_p99_ms.is_none_or(|p99| p99 <= REFUSED_WITHIN_MS)
    }
}

pub(crate) fn print(benchmarks: &[Benchmark]) {
    println!(
        "{:<9} {:>10} {:>10} {:>6} {:>6}     {:>8} {:>8}  unit",
        "id", "ours", "peer", "ratio", "goal", "p50 ms", "p99 ms"
    );
    for benchmark in benchmarks {
        println!(
            "{:<9} {:>10.0} {:>10.0} {:>6.2} {:>6.2} {} {:>8.2} {:>8.2}  {}",
            benchmark.id,
            benchmark.ours.per_second,
            benchmark.peer.per_second,
            benchmark.ratio(),
            benchmark.goal,
            if benchmark.met() { "met" } else { "no " },
            benchmark.ours.p50_ms,
            benchmark.ours.p99_ms,
            benchmark.unit,
        );
    }
    for benchmark in benchmarks {
        println!("{}: {}; peer: {}", benchmark.id, benchmark.what, benchmark.peer_what);
        if let Some(p99) = benchmark.ours.refusal_p99_ms {
            println!(
                "{}: p99 of refusals {p99:.2} ms, at most {REFUSED_WITHIN_MS} ms",
                benchmark.id
            );
        }
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
                "goal": benchmark.goal,
                "least": benchmark.least,
                "met": benchmark.met(),
                "unit": benchmark.unit,
                "p50_ms": benchmark.ours.p50_ms,
                "p99_ms": benchmark.ours.p99_ms,
                "refusal_p99_ms": benchmark.ours.refusal_p99_ms,
            })
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let report = json!({"benchmarks": rows, "machine": {"cores": cores, "os": std::env::consts::OS}});
    std::fs::write(path, serde_json::to_vec_pretty(&report)?)
}
