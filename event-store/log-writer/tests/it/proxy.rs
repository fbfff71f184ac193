//! A line to a server that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use weft_platform::config::Secret;
use weft_platform::testing::until;

/// What happens, once, to the next statement that carries the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server carries it out; its answer is lost.
    LoseAnswer,
    /// The server never sees it.
    LoseStatement,
}

pub(crate) struct Proxy {
    server: String,
    pub(crate) address: SocketAddr,
    fault: Option<(Fault, &'static [u8])>,
    fired: Arc<AtomicBool>,
    listening: Option<AbortHandle>,
}

impl Proxy {
    /// Stands in front of the server of `url`, which is changed to lead here.
    pub(crate) async fn before(url: &mut Secret, fault: Option<(Fault, &'static [u8])>) -> Self {
        let mut parsed = url::Url::parse(url.expose()).unwrap();
        let server = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap_or(5432));
        let proxy = Self::in_front_of(&server, fault).await;
        parsed.set_host(Some("127.0.0.1")).unwrap();
        parsed.set_port(Some(proxy.address.port())).unwrap();
        *url = Secret(parsed.to_string());
        proxy
    }

    /// Stands in front of `server`, a host and a port.
    pub(crate) async fn in_front_of(server: &str, fault: Option<(Fault, &'static [u8])>) -> Self {
        let mut proxy = Self {
            server: server.to_owned(),
            address: ([127, 0, 0, 1], 0).into(),
            fault,
            fired: Arc::default(),
            listening: None,
        };
        proxy.start().await;
        proxy
    }

    /// Takes connections, on the same port as before.
    pub(crate) async fn start(&mut self) {
        let listener = until("the port is free", async || TcpListener::bind(self.address).await.ok()).await;
        self.address = listener.local_addr().unwrap();
        let (server, fault, fired) = (self.server.clone(), self.fault, Arc::clone(&self.fired));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(forward(client, server, fault, Arc::clone(&fired)));
            }
        });
        self.listening = Some(task.abort_handle());
    }

    /// Cuts every connection and refuses new ones.
    pub(crate) fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    fault: Option<(Fault, &'static [u8])>,
    fired: Arc<AtomicBool>,
) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(1..) = read else { return };
                let bytes = &from_client[..read.unwrap_or_default()];
                let marked = |marker: &[u8]| bytes.windows(marker.len()).any(|window| window == marker);
                if let Some((fault, marker)) = fault
                    && marked(marker)
                    && !fired.swap(true, Ordering::SeqCst)
                {
                    if fault == Fault::LoseAnswer && server.write_all(bytes).await.is_ok() {
                        // The answer comes after the commit: all of it was one request.
                        let _ = server.read(&mut from_server).await;
                    }
                    return;
                }
                if server.write_all(bytes).await.is_err() { return }
            }
            read = server.read(&mut from_server) => {
                let Ok(1..) = read else { return };
                if client.write_all(&from_server[..read.unwrap_or_default()]).await.is_err() { return }
            }
        }
    }
}
