//! What goes wrong beside processes that die: servers away for a minute, a projection that fails on some streams.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::Executor;

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

/// Fails for one message in a thousand, the same ones each time, as a defect in a projection would.
const DEFECT: &str = "
    create function views_g1.defect() returns trigger language plpgsql as $$
    begin
        if abs(hashtext(new.id::text)) % 1000 < $share then raise exception 'planted' using errcode = '22023'; end if;
        return new;
    end $$;
    create trigger defect before insert or update on views_g1.messages for each row execute function views_g1.defect();";

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

    /// The projection `messages` fails for one stream in `1000 / share`: those are parked, all others go on; after the
    /// repair the parked ones are tried again.
    pub async fn failing_projection(&mut self, share: u32) {
        let views = self.cluster.world.views_pool().await;
        let plant = DEFECT.replace("$share", &share.to_string());
        views.execute(plant.as_str()).await.expect("planted");
        self.begin_load();
        self.pause(8_000..10_000).await;
        self.end_load().await;
        self.settle().await;
        views
            .execute("drop function views_g1.defect() cascade")
            .await
            .expect("repaired");
        let (code, output) = self.cluster.weft(&["dead-letters", "retry", "--all"]);
        if code != Some(0) {
            self.problems.push(format!("weft dead-letters retry: {output}"));
        }
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
