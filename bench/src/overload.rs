//! overload: the command API offered twice what it can do. What it accepts keeps its rate and is answered in time, the
//! rest is refused at once.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weft_log_writer::Executor;
use weft_platform::clock::Clock;

use crate::database::Databases;
use crate::http::{api, command, serve};
use crate::open_loop::{Arrivals, Offered, Plan, offer};
use crate::report::{Benchmark, Round, Side};
use crate::workload::Workload;
use crate::{Arguments, Failure};

/// Of the closed loops that find the peak: the better one counts.
const CALLERS: [usize; 2] = [256, 768];
/// Of the open loop: more than are answered at once, or it would wait like a closed one. Who finds none free waits, and
/// the wait counts.
const CONNECTIONS: usize = 6_000;
/// Offered, as a multiple of the peak.
const TIMES: f64 = 2.0;

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Benchmark, Failure> {
    allow_files()?;
    let executor = Executor::connect(&databases.config, Clock::system()).await?;
    let workload = Arc::new(Workload::prepare(&executor).await?);
    let address = serve(api(&databases.config, &executor, &workload)).await?;
    let asked = |connections, arrivals, length| {
        let (workload, plan) = (
            Arc::clone(&workload),
            Plan {
                address,
                connections,
                arrivals,
                length,
            },
        );
        offer(plan, Box::new(move || wire(&workload)))
    };
    let (mut peaks, mut accepted, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=arguments.rounds {
        let length = Duration::from_secs(arguments.seconds);
        let length = if round == 0 {
            length.min(Duration::from_secs(2))
        } else {
            length
        };
        let half = length / 2;
        let mut peaks_found = Vec::new();
        for callers in CALLERS {
            let found = asked(callers, Arrivals::Closed, half).await?;
            peaks_found.push((
                found.cpu.as_secs_f64() / half.as_secs_f64(),
                accepted_round(found, half),
            ));
            databases.settle().await?;
        }
        peaks_found.sort_by(|one, other| one.1.per_second.total_cmp(&other.1.per_second));
        let (peak_cpu, peak) = peaks_found.pop().ok_or("no peak")?;
        let rate = TIMES * peak.per_second;
        let offered = asked(CONNECTIONS, Arrivals::PerSecond(rate), length).await?;
        databases.settle().await?;
        let refusals = Round {
            per_second: offered.refused.len() as f64 / length.as_secs_f64(),
            latencies: offered.refused.clone(),
        };
        println!(
            "overload: peak {:.0}/s; offered {rate:.0}/s, accepted {:.0}/s, refused {:.0}/s, {} waited for a connection; \
             the generator took {:.2} of a core (at the peak {:.2})",
            peak.per_second,
            offered.accepted_in_time as f64 / length.as_secs_f64(),
            refusals.per_second,
            offered.queued,
            offered.cpu.as_secs_f64() / length.as_secs_f64(),
            peak_cpu,
        );
        if round > 0 {
            refused.push(refusals);
            accepted.push(accepted_round(offered, length));
            peaks.push(peak);
        }
    }
    Ok(Benchmark {
        id: "overload",
        what: "commands accepted by the REST API, offered twice its peak at a fixed rate",
        ours: Side {
            refusal_p99_ms: Some(Side::of(&refused).p99_ms),
            ..Side::of(&accepted)
        },
        peer_what: "its peak in the same round, 256 or 768 connections, the same generator",
        peer: Side::of(&peaks),
        goal: 0.9,
        least: None,
        most_p99_ms: Some(500.0),
        unit: "commands/s",
    })
}

/// Both ends of every connection are files of this process.
fn allow_files() -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most)?;
    let needed = 2 * CONNECTIONS as u64 + 1_000;
    if most.current.is_some_and(|most| most < needed) {
        return Err(format!("overload needs {needed} open files; raise the limit (ulimit -Hn)").into());
    }
    Ok(())
}

fn accepted_round(offered: Offered, length: Duration) -> Round {
    Round {
        per_second: offered.accepted_in_time as f64 / length.as_secs_f64(),
        latencies: offered.accepted,
    }
}

/// The workload's next command as bytes.
fn wire(workload: &Workload) -> Vec<u8> {
    let command = command(workload);
    let (path, token, key) = (command.path, command.tenant_id, command.id);
    let (body, length) = (&command.body, command.body.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         authorization: Bearer {token}\r\nidempotency-key: {key}\r\n\r\n{body}"
    )
    .into_bytes()
}
