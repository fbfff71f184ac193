//! The `weft` binary as child processes.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The binary beside our own; `cargo test` puts tests in `deps/`, binaries one folder up.
pub(crate) fn weft_binary() -> PathBuf {
    let ours = std::env::current_exe().expect("a running program has a path");
    let found = ours.ancestors().skip(1).take(2).map(|folder| folder.join("weft"));
    found
        .into_iter()
        .find(|binary| binary.is_file())
        .unwrap_or_else(|| panic!("no weft beside {}: run `cargo build -p weft-cli` first", ours.display()))
}

/// Runs it to its end; answers its exit code and what it printed.
pub(crate) fn run_to_end(arguments: &[&str], environment: &[(String, String)]) -> (Option<i32>, String) {
    let output = Command::new(weft_binary())
        .args(arguments)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// A process that is ended with its owner.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(arguments: &[String], environment: &[(String, String)], log: &Path) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file in the test's folder");
        let child = Command::new(weft_binary())
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .current_dir(log.parent().expect("the log has a folder"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        Self { child }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Resident memory in MiB; nothing where it has ended.
    pub(crate) fn resident(&self) -> Option<f64> {
        let pid = self.child.id().to_string();
        let output = Command::new("ps")
            .args(["-o", "rss=", "-p", &pid])
            .output()
            .expect("ps runs");
        let kib: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
        Some(kib / 1024.0)
    }

    /// Such as `Signal::STOP`; nothing where it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Our own child, not waited for yet, so the pid is still its.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end, at most `patience`; kills it then. Answers whether it ended by itself.
    pub(crate) fn finish(mut self, patience: Duration) -> bool {
        let started = Instant::now();
        while !self.has_ended() {
            if started.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// SIGKILL: no destructor, no flush.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has ports")
        .port()
}
