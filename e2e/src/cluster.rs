//! Weft as it runs in production: each role a process of its own, most of them twice, so that one can be killed while
//! another goes on.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;

use crate::api::Api;
use crate::process::{Process, free_port, run_to_end};
use crate::wait::until;
use crate::world::{Options, World};

/// What a process of the cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    CommandApi,
    QueryApi,
    Relay,
    Projectors,
    Workers,
}

impl Role {
    const fn command(self) -> &'static str {
        match self {
            Self::CommandApi => "command-api",
            Self::QueryApi => "query-api",
            Self::Relay => "relay",
            Self::Projectors => "projectors",
            Self::Workers => "workers",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

struct Member {
    role: Role,
    admin_port: u16,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// Every role at work on the databases and topics of a `World`.
pub struct Cluster {
    pub world: World,
    /// As the main tenant, by each command API.
    pub commands: Vec<Api>,
    /// As the tenant with a small limit of messages a day, by each command API.
    pub limited: Vec<Api>,
    /// Its id.
    pub limited_tenant: String,
    members: Vec<Member>,
    http: reqwest::Client,
}

/// Beside the command APIs: one query API, two of the others.
const MEMBERS: [Role; 7] = [
    Role::QueryApi,
    Role::Relay,
    Role::Relay,
    Role::Projectors,
    Role::Projectors,
    Role::Workers,
    Role::Workers,
];

impl Cluster {
    /// Migrates, creates two tenants, one of which may send `daily_limit` messages a day, and starts all roles.
    pub async fn start(options: Options, daily_limit: u32) -> Self {
        let mut world = World::prepare(options).await;
        let (commands, queries) = ([free_port(), free_port()], free_port());
        let mut set = |key: &str, value: String| {
            world.environment.retain(|(old, _)| old != key);
            world.environment.push((key.to_owned(), value));
        };
        set("WEFT__HTTP__QUERY_LISTEN", format!("127.0.0.1:{queries}"));
        set("WEFT__HTTP__PUBLIC_URL", format!("http://127.0.0.1:{}", commands[0]));
        for arguments in [["migrate"], ["topics"]] {
            cli(&world, &arguments);
        }
        let tenant = cli(
            &world,
            // A limit that no run reaches.
            &[
                "tenant",
                "create",
                "chaos",
                "混沌测试",
                "--max-daily-messages",
                "10000000",
            ],
        );
        let limit = daily_limit.to_string();
        let limited_tenant = cli(
            &world,
            &[
                "tenant",
                "create",
                "chaos-limited",
                "限量租户",
                "--max-daily-messages",
                &limit,
            ],
        );
        let tokens = format!(
            r#"[{{token="chaos",tenant_id="{tenant}",role="admin"}},{{token="limited",tenant_id="{limited_tenant}",role="admin"}}]"#
        );
        world.environment.push(("WEFT__AUTH__STATIC".to_owned(), tokens));
        let apis = |token| {
            commands
                .map(|port| Api::new(format!("http://127.0.0.1:{port}"), token))
                .to_vec()
        };
        world.api = apis("chaos").swap_remove(0);
        world.views = Api::new(format!("http://127.0.0.1:{queries}"), "chaos");
        let mut cluster = Self {
            commands: apis("chaos"),
            limited: apis("limited"),
            limited_tenant,
            world,
            members: Vec::new(),
            http: reqwest::Client::new(),
        };
        for port in commands {
            let listen = ("WEFT__HTTP__COMMAND_LISTEN".to_owned(), format!("127.0.0.1:{port}"));
            cluster.add(Role::CommandApi, vec![listen]).await;
        }
        for role in MEMBERS {
            cluster.join(role).await;
        }
        cluster
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn role(&self, member: usize) -> Role {
        self.members[member].role
    }

    /// The first process of this role.
    pub fn first(&self, role: Role) -> usize {
        self.members
            .iter()
            .position(|member| member.role == role)
            .expect("a cluster has every role")
    }

    /// One more process, not of the command API, which has addresses to be known by; answers its number.
    pub async fn join(&mut self, role: Role) -> usize {
        self.add(role, Vec::new()).await
    }

    async fn add(&mut self, role: Role, mut environment: Vec<(String, String)>) -> usize {
        let admin_port = free_port();
        environment.push(("WEFT__ADMIN__LISTEN".to_owned(), format!("127.0.0.1:{admin_port}")));
        self.members.push(Member {
            role,
            admin_port,
            environment,
            process: None,
        });
        let number = self.members.len() - 1;
        self.restart(number, &[]).await;
        number
    }

    /// Starts a member that was killed, with further settings, and waits until it is ready.
    pub async fn restart(&mut self, number: usize, settings: &[(&str, &str)]) {
        let log = self.log_file(number);
        let member = &mut self.members[number];
        let mut environment = self.world.environment.clone();
        environment.extend(member.environment.iter().cloned());
        environment.extend(
            settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        member.process = Some(Process::start(&[member.role.command().to_owned()], &environment, &log));
        let url = format!("http://127.0.0.1:{}/readyz", member.admin_port);
        let what = format!("{} is ready; see {}", member.role, log.display());
        until(&what, Duration::from_mins(2), async || {
            let answer = self.http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    fn log_file(&self, number: usize) -> std::path::PathBuf {
        let name = format!("{}-{number}.log", self.members[number].role);
        self.world.folder.path().join(name)
    }

    /// SIGKILL.
    pub fn kill(&mut self, number: usize) {
        if let Some(process) = self.members[number].process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits for the end; false where it had to be killed.
    pub fn stop(&mut self, number: usize) -> bool {
        let Some(process) = self.members[number].process.take() else {
            return true;
        };
        process.signal(Signal::TERM);
        process.finish(Duration::from_secs(20))
    }

    /// SIGSTOP.
    pub fn pause(&self, number: usize) {
        if let Some(process) = &self.members[number].process {
            process.signal(Signal::STOP);
        }
    }

    /// SIGCONT.
    pub fn wake(&self, number: usize) {
        if let Some(process) = &self.members[number].process {
            process.signal(Signal::CONT);
        }
    }

    /// What each process is called, and its resident memory in MiB.
    pub(crate) fn resident(&self) -> Vec<(String, f64)> {
        let members = self.members.iter().enumerate();
        let running = members.filter_map(|(number, member)| {
            let resident = member.process.as_ref()?.resident()?;
            Some((format!("{}-{number}", member.role), resident))
        });
        running.collect()
    }

    /// A member that ended without being asked to, and the end of its log.
    pub fn crashed(&mut self) -> Option<String> {
        let number = self
            .members
            .iter_mut()
            .position(|member| member.process.as_mut().is_some_and(Process::has_ended))?;
        let text = std::fs::read_to_string(self.log_file(number)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        Some(format!(
            "{}-{number} ended by itself:\n{tail}",
            self.members[number].role
        ))
    }

    /// `weft` with the cluster's settings; its exit code and output.
    pub fn weft(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run_to_end(arguments, &self.world.environment)
    }
}

/// A call that must succeed; its output.
fn cli(world: &World, arguments: &[&str]) -> String {
    let (code, output) = run_to_end(arguments, &world.environment);
    assert_eq!(code, Some(0), "weft {}: {output}", arguments.join(" "));
    output.lines().next().unwrap_or_default().trim().to_owned()
}
