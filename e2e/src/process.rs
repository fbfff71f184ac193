//! The `weft` binary as child processes.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The binary beside the test's own: `cargo test` puts tests in `deps/`, binaries one folder up.
pub(crate) fn weft_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are run from target/<profile>/deps");
    let binary = folder.join("weft");
    assert!(
        binary.exists(),
        "{} is missing: run `cargo build -p weft-cli` first",
        binary.display()
    );
    binary
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
