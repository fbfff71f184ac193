//! What goes wrong beside processes that die: servers away for a minute, a projection that fails on some events.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{Executor, PgPool};

use super::Chaos;

/// A server of the stack.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    Postgres,
    Kafka,
    ClickHouse,
}

impl Server {
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Kafka, Self::ClickHouse];
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::ClickHouse => "clickhouse",
        })
    }
}

/// Fails for one event of a message in a thousand, the same ones each time, as a defect in a projection would.
const DEFECT: &str = "
    create function views_g1.defect() returns trigger language plpgsql as $$
    begin
        if abs(hashtext(new.id || ':' || new.version)::bigint) % 1000 = 0 then
            raise exception 'planted' using errcode = '22023';
        end if;
        return new;
    end $$;
    create trigger defect before insert or update on views_g1.messages for each row execute function views_g1.defect();";

const PARKED: &str = "
    select projection, aggregate_id::text, fingerprint from views_g1.dead_letters where state = 'parked'";

async fn parked(views: &PgPool) -> Vec<(String, String, String)> {
    sqlx::query_as(PARKED).fetch_all(views).await.expect("the views answer")
}

impl Chaos {
    /// The server is stopped for `length` under load and comes back; `stack` is the folder of the stack's scripts.
    pub async fn outage(&mut self, server: Server, length: Duration, stack: &Path) {
        self.begin_load();
        self.pause(500..1_500).await;
        script(stack, "down", &[&server.to_string()]);
        tokio::time::sleep(length).await;
        script(stack, "up", &[]);
        self.pause(3_000..5_000).await;
        self.notice_crashes();
        self.end_load().await;
    }

    /// The projection `messages` fails on one event in 1,000: their streams are parked and all others go on; after the
    /// repair the parked ones are tried again. Answers how many were parked.
    pub async fn failing_projection(&mut self) -> usize {
        const LONGEST: Duration = Duration::from_secs(90);
        let views = self.cluster.world.views_pool().await;
        views.execute(DEFECT).await.expect("planted");
        self.begin_load();
        let began = Instant::now();
        // A few failures, whichever the dice of the ids give.
        while parked(&views).await.len() < 2 && began.elapsed() < LONGEST {
            self.pause(500..1_000).await;
        }
        self.end_load().await;
        self.settle().await;
        let differences = self.cluster.world.view_differences(Duration::from_secs(15)).await;
        let letters = parked(&views).await;
        if letters.is_empty() {
            self.problems
                .push(format!("no event of {LONGEST:?} was parked by the failing projection"));
        }
        let unparked = differences.into_iter().filter(|difference| {
            !letters
                .iter()
                .any(|(_, stream, _)| difference.contains(stream.as_str()))
        });
        self.problems.extend(unparked);
        views
            .execute("drop function views_g1.defect() cascade")
            .await
            .expect("repaired");
        let mut fingerprints: Vec<&String> = letters.iter().map(|(_, _, fingerprint)| fingerprint).collect();
        fingerprints.sort();
        fingerprints.dedup();
        for fingerprint in fingerprints {
            let (code, output) = self.cluster.weft(&["dead-letters", "retry", fingerprint]);
            if code != Some(0) {
                self.problems.push(format!("weft dead-letters retry: {output}"));
            }
        }
        letters.len()
    }
}

fn script(stack: &Path, name: &str, arguments: &[&str]) {
    let output = Command::new(stack.join(name))
        .args(arguments)
        .output()
        .expect("the stack's scripts can be run");
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
