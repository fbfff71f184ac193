//! No request is ever written twice, whatever the peer does to connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_wecom::gateway::{Gateway, SendOutcome, SendRequest};
use weft_wecom::instance::InstanceGateway;

use crate::support::{gateway, text};

/// How often the bytes of each content arrived, whether or not they were answered.
type Seen = Arc<Mutex<HashMap<String, usize>>>;

const ANSWER: &str = r#"{"error_code":0,"data":{"msg_data":{"id":"1","appinfo":"eA=="}}}"#;

/// What the peer does to a connection after having answered some requests on it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Closes with the answer, without having announced it.
    RightAfterAnswer,
    /// Closes after a moment of quiet, when the client may just be writing.
    WhileIdle(Duration),
    /// Reads the next request and closes without an answer.
    AfterReading,
    /// As before, by a reset.
    ResetAfterReading,
    /// Reads some bytes of the next request only.
    InTheMiddle,
}

const ENDINGS: [Ending; 7] = [
    Ending::RightAfterAnswer,
    Ending::WhileIdle(Duration::ZERO),
    Ending::WhileIdle(Duration::from_micros(100)),
    Ending::WhileIdle(Duration::from_millis(2)),
    Ending::AfterReading,
    Ending::ResetAfterReading,
    Ending::InTheMiddle,
];

/// Reads one request, notes its content as soon as it shows, and gives false at the connection's end.
async fn read_request(stream: &mut TcpStream, seen: &Seen, stop_early: bool) -> bool {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let wanted = if stop_early { 40 } else { chunk.len() };
        match stream.read(&mut chunk[..wanted]).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => request.extend_from_slice(&chunk[..length]),
        }
        if stop_early {
            return true;
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((_, rest)) = text.split_once("\"content\":\"")
            && let Some((content, rest)) = rest.split_once('"')
            && rest.ends_with('}')
        {
            *seen.lock().unwrap().entry(content.to_owned()).or_default() += 1;
            return true;
        }
    }
}

async fn serve(mut stream: TcpStream, seen: Seen, answers: usize, ending: Ending) {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
    for number in 0..answers {
        if !read_request(&mut stream, &seen, false).await || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if number + 1 == answers && matches!(ending, Ending::RightAfterAnswer) {
            return;
        }
    }
    match ending {
        Ending::RightAfterAnswer => {}
        Ending::WhileIdle(quiet) => {
            // Not a wait for anything: the peer's own idle time-out.
            let _ = tokio::time::timeout(quiet, stream.peek(&mut [0])).await;
        }
        Ending::AfterReading => {
            read_request(&mut stream, &seen, false).await;
        }
        Ending::ResetAfterReading => {
            read_request(&mut stream, &seen, false).await;
            let _ = stream.set_zero_linger();
        }
        Ending::InTheMiddle => {
            read_request(&mut stream, &seen, true).await;
        }
    }
}

/// Sends 2,400 texts over connections that end in every way, each as `send` does it, and gives what became of them:
/// outcome and how often the text arrived.
async fn outcomes_of<S>(send: S) -> Vec<(SendOutcome, usize)>
where
    S: AsyncFn(&InstanceGateway, &SendRequest) -> SendOutcome,
{
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let noting = Arc::clone(&seen);
    tokio::spawn(async move {
        for number in 0_usize.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let _ = stream.set_nodelay(true);
            let (answers, ending) = (number % 4, ENDINGS[number % ENDINGS.len()]);
            tokio::spawn(serve(stream, Arc::clone(&noting), answers, ending));
        }
    });
    let gateway = gateway(&base_url);
    let senders = (0..16).map(|sender| {
        let (gateway, send) = (&gateway, &send);
        async move {
            let mut outcomes = Vec::new();
            for index in 0..150 {
                let content = format!("{sender}-{index}");
                let outcome = send(gateway, &text("S:1", &content)).await;
                outcomes.push((content, outcome));
            }
            outcomes
        }
    });
    let sent = futures::future::join_all(senders).await;
    let times = |content: &str| seen.lock().unwrap().get(content).copied().unwrap_or_default();
    sent.into_iter()
        .flatten()
        .map(|(content, outcome)| (outcome, times(&content)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_is_written_at_most_once_whatever_happens_to_its_connection() {
    let outcomes = outcomes_of(async |gateway, request| gateway.send("guid", request).await).await;
    let (mut sent, mut unknown_read, mut unknown_unread) = (0, 0, 0);
    for (outcome, times) in &outcomes {
        match (outcome, times) {
            (SendOutcome::Sent(_), 1) => sent += 1,
            (SendOutcome::Unknown { .. }, 1) => unknown_read += 1,
            (SendOutcome::Unknown { .. }, 0) => unknown_unread += 1,
            wrong => panic!("{wrong:?}"),
        }
    }
    println!("sent {sent}, unknown and read {unknown_read}, unknown and not read {unknown_unread}");
    // The peer did what it could.
    assert!(sent > 100 && unknown_read > 100 && unknown_unread > 100);
}

/// The check above would find a second writing: here is a client that tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_tries_again_is_found_out() {
    let outcomes = outcomes_of(async |gateway, request| match gateway.send("guid", request).await {
        SendOutcome::Unknown { .. } => gateway.send("guid", request).await,
        outcome => outcome,
    });
    assert!(outcomes.await.iter().any(|(_, times)| *times > 1));
}
