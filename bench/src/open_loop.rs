//! HTTP requests from a thread of their own: so many as connections can carry, or at a fixed rate, whatever becomes of
//! the answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::Failure;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    /// The next as soon as a connection has its answer.
    Closed,
    /// So many a second. One that finds no connection free waits for one, and its wait counts.
    PerSecond(f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) arrivals: Arrivals,
    pub(crate) length: Duration,
}

/// What came of it. Latencies count from when a request was due.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// Answered 2xx.
    pub(crate) accepted: Vec<Duration>,
    /// Of those, how many within the time.
    pub(crate) accepted_in_time: usize,
    /// Answered 503 with Retry-After.
    pub(crate) refused: Vec<Duration>,
    /// Requests that found no connection free.
    pub(crate) queued: usize,
    /// Of the generator's thread.
    pub(crate) cpu: Duration,
}

/// Whole requests as they go over the wire.
type Requests = Box<dyn FnMut() -> Vec<u8> + Send>;

const PRIORITY: i32 = -10;

/// Fails on any answer that is neither 2xx nor 503 with Retry-After.
pub(crate) async fn offer(plan: Plan, requests: Requests) -> Result<Offered, Failure> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || {
        // It stands for other machines, so it should not wait for a core of this one. Only root may; else it waits.
        let _ = setpriority_process(None, PRIORITY);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let offered = runtime
            .map_err(Failure::from)
            .and_then(|runtime| runtime.block_on(run(plan, requests)));
        // Nobody listens any more: the benchmark was given up.
        let _ = answer.send(offered);
    });
    answered.await?
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

async fn run(plan: Plan, requests: Requests) -> Result<Offered, Failure> {
    let mut streams = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (before, started) = (cpu(), Instant::now());
    let generator = Arc::new(Generator {
        closed: matches!(plan.arrivals, Arrivals::Closed),
        until: started + plan.length,
        state: Mutex::new(State {
            requests,
            idle: (0..plan.connections).collect(),
            waiting: VecDeque::new(),
            offered: Offered::default(),
        }),
    });
    let (turns, tasks): (Vec<_>, Vec<_>) = streams
        .into_iter()
        .enumerate()
        .map(|(number, stream)| {
            let (turn, turns) = mpsc::unbounded_channel();
            (turn, tokio::spawn(serve(Arc::clone(&generator), number, stream, turns)))
        })
        .unzip();
    match plan.arrivals {
        Arrivals::Closed => {
            for turn in &turns {
                turn.send(started)?;
            }
        }
        Arrivals::PerSecond(rate) => {
            let mut timer = tokio::time::interval(Duration::from_millis(1));
            let arrivals = (plan.length.as_secs_f64() * rate) as u64;
            for number in 0..arrivals {
                let due = started + Duration::from_secs_f64(number as f64 / rate);
                while Instant::now() < due {
                    timer.tick().await;
                }
                if let Some(free) = generator.arrived(due) {
                    turns[free].send(due)?;
                }
            }
        }
    }
    // Each ends when it has no turn left.
    drop(turns);
    for task in tasks {
        task.await??;
    }
    let mut offered = std::mem::take(&mut generator.lock().offered);
    offered.cpu = cpu().saturating_sub(before);
    Ok(offered)
}

struct Generator {
    closed: bool,
    until: Instant,
    state: Mutex<State>,
}

struct State {
    requests: Requests,
    /// The last one to have become free is the next to be used.
    idle: Vec<usize>,
    /// When requests were due that no connection was free for.
    waiting: VecDeque<Instant>,
    offered: Offered,
}

impl Generator {
    fn lock(&self) -> MutexGuard<'_, State> {
        // All on one thread, and nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is to carry it, if one is free.
    fn arrived(&self, due: Instant) -> Option<usize> {
        let mut state = self.lock();
        let free = state.idle.pop();
        if free.is_none() {
            state.waiting.push_back(due);
            state.offered.queued += 1;
        }
        free
    }

    /// Records an answer; answers when this connection's next request was due, if it is to carry one at once.
    fn answered(&self, number: usize, due: Instant, accepted: bool) -> Option<Instant> {
        let (now, mut state) = (Instant::now(), self.lock());
        let offered = &mut state.offered;
        if accepted {
            offered.accepted.push(now - due);
            offered.accepted_in_time += usize::from(now <= self.until);
        } else {
            offered.refused.push(now - due);
        }
        if self.closed {
            return (now < self.until).then_some(now);
        }
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.idle.push(number);
        }
        next
    }
}

/// One connection.
async fn serve(
    generator: Arc<Generator>,
    number: usize,
    mut stream: TcpStream,
    mut turns: mpsc::UnboundedReceiver<Instant>,
) -> Result<(), Failure> {
    let mut buffer = Vec::with_capacity(4_096);
    while let Some(due) = turns.recv().await {
        let mut turn = Some(due);
        while let Some(due) = turn {
            let request = (generator.lock().requests)();
            stream.write_all(&request).await?;
            let accepted = read_answer(&mut stream, &mut buffer).await?;
            turn = generator.answered(number, due, accepted);
        }
    }
    Ok(())
}

/// Whether it is a 2xx; `false` for a 503 with Retry-After.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
    const END: &[u8] = b"\r\n\r\n";
    buffer.clear();
    let body = loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if let Some(head) = buffer.windows(END.len()).position(|window| window == END) {
            break head + END.len();
        }
    };
    let head = std::str::from_utf8(&buffer[..body])?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let status = head.get(9..12).unwrap_or_default();
    let verdict = match (status.starts_with('2'), status) {
        (true, _) => Some(true),
        (false, "503") if field("retry-after").is_some() => Some(false),
        _ => None,
    };
    let length: usize = field("content-length").unwrap_or("0").parse()?;
    while buffer.len() < body + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed a connection".into());
        }
    }
    verdict.ok_or_else(|| format!("neither accepted nor refused: {}", String::from_utf8_lossy(buffer)).into())
}
