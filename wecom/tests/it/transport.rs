//! Ends of exchanges that the simulator does not produce, from raw peers.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use weft_wecom::gateway::{CallError, ClientStatus, Gateway, RejectClass, SendOutcome};

use crate::support::{gateway, gateway_with, text};

/// Reads a request and answers it with these bytes, on every connection.
async fn peer(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                // Waits for the client's end, so that no reset overtakes the answer.
                let _ = stream.read(&mut request).await;
            });
        }
    });
    format!("http://{address}")
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn send_to(base_url: &str) -> SendOutcome {
    gateway(base_url).send("guid", &text("S:1", "x")).await
}

#[tokio::test]
async fn a_refused_connection_is_not_connected() {
    // Bound and not listening: nobody else can take the port, and connections to it are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let base_url = format!("http://{}", socket.local_addr().unwrap());
    let outcome = send_to(&base_url).await;
    assert!(matches!(outcome, SendOutcome::NotConnected { .. }), "{outcome:?}");
    let error = gateway(&base_url).get_client_status("guid").await.unwrap_err();
    assert!(matches!(error, CallError::NotConnected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_connected() {
    let outcome = send_to("http://gateway.invalid").await;
    assert!(matches!(outcome, SendOutcome::NotConnected { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_never_stands_is_not_connected() {
    // A full accept queue: the kernel answers no more connection requests.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..16 {
        let connecting = TcpSocket::new_v4().unwrap().connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connecting).await {
            Ok(stream) => queued.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    assert!(queued.len() < 16, "the queue never filled");
    let gateway = gateway_with(&format!("http://{address}"), |config| {
        config.connect_timeout = Duration::from_millis(300);
    });
    let started = Instant::now();
    let outcome = gateway.send("guid", &text("S:1", "x")).await;
    assert!(matches!(outcome, SendOutcome::NotConnected { .. }), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_request_that_the_peer_does_not_take_is_unknown_after_the_write_timeout() {
    // Takes the connection and not one byte from it: the kernel's buffers fill, and the rest stays unwritten.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let _held = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let gateway = gateway_with(&base_url, |config| {
        config.write_timeout = Duration::from_millis(500);
        config.answer_timeout = Duration::from_mins(1);
    });
    let started = Instant::now();
    let outcome = gateway.send("guid", &text("S:1", &"长".repeat(8_000_000))).await;
    let detail = "what was written was not acknowledged in time".to_owned();
    assert_eq!(outcome, SendOutcome::Unknown { detail });
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_unknown() {
    for answer in [
        String::new(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"error_code\":0".to_owned(),
        http("200 OK", "", ""),
        http("200 OK", "", "<html>welcome</html>"),
        http("200 OK", "", "{}"),
        http("200 OK", "", r#"{"error_code":"none","data":{}}"#),
        http("200 OK", "", r#"{"error_code":0,"data":{}}"#),
        http("200 OK", "", r#"{"error_code":0,"data":null}"#),
        http("200 OK", "", r#"{"error_code":0,"data":{"msg_data":{"seq":1}}}"#),
        http("204 No Content", "", ""),
        http("302 Found", "location: /elsewhere\r\n", ""),
        http(
            "500 Internal Server Error",
            "",
            r#"{"error_code":0,"data":{"msg_data":{"id":"1"}}}"#,
        ),
        http("503 Service Unavailable", "retry-after: 1\r\n", ""),
    ] {
        let outcome = send_to(&peer(answer.clone()).await).await;
        assert!(
            matches!(outcome, SendOutcome::Unknown { .. }),
            "{answer:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off_by_size_and_by_time() {
    let long = http(
        "200 OK",
        "",
        &format!("{{\"error_code\":0,\"error_message\":\"{}\"}}", "x".repeat(100_000)),
    );
    let gateway = gateway_with(&peer(long).await, |config| config.max_answer_bytes = 10_000);
    let outcome = gateway.send("guid", &text("S:1", "x")).await;
    assert_eq!(
        outcome,
        SendOutcome::Unknown {
            detail: "the answer is longer than 10000 bytes".to_owned()
        }
    );

    // Says that more will come, and keeps silent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
            .await;
        let _ = stream.read(&mut [0; 1]).await;
    });
    let gateway = gateway_with(&format!("http://{address}"), |config| {
        config.answer_timeout = Duration::from_millis(300);
    });
    let outcome = gateway.send("guid", &text("S:1", "x")).await;
    assert_eq!(
        outcome,
        SendOutcome::Unknown {
            detail: "the answer did not end in time".to_owned()
        }
    );
}

#[tokio::test]
async fn a_throttle_by_status_may_say_for_how_long() {
    for (headers, retry_after) in [
        ("", None),
        ("retry-after: 7\r\n", Some(Duration::from_secs(7))),
        ("retry-after: 999999999\r\n", Some(Duration::from_hours(24))),
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", None),
    ] {
        let outcome = send_to(&peer(http("429 Too Many Requests", headers, "")).await).await;
        assert_eq!(outcome, SendOutcome::Throttled { retry_after }, "{headers}");
    }
}

#[tokio::test]
async fn a_refusal_by_status_carries_the_answers_words() {
    let body = r#"{"err_code":42,"err_msg":"app_secret is wrong"}"#;
    let outcome = send_to(&peer(http("401 Unauthorized", "", body)).await).await;
    let (class, message) = (RejectClass::Permanent, "app_secret is wrong".to_owned());
    assert_eq!(
        outcome,
        SendOutcome::Rejected {
            class,
            code: 401,
            message
        }
    );
}

#[tokio::test]
async fn a_receipt_is_read_with_numbers_as_text_and_text_as_numbers() {
    let body = r#"{"errcode":"0","errmsg":"ok","data":{"is_svr_fail":0,"msg_data":{
        "id":1026377,"seq":"99","appinfo":"5L2g5aW9","sender":1688850000000001,"receiver":"7881300001","roomid":0,
        "sendtime":"1767225600"}}}"#;
    let outcome = send_to(&peer(http("200 OK", "", body)).await).await;
    let SendOutcome::Sent(receipt) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((receipt.msg_id.as_str(), receipt.seq), ("1026377", 99));
    assert_eq!(
        (receipt.appinfo.as_str(), receipt.appinfo_decoded.as_str()),
        ("5L2g5aW9", "你好")
    );
    assert_eq!(
        (receipt.sender.as_str(), receipt.roomid.as_str()),
        ("1688850000000001", "0")
    );
    assert_eq!(receipt.sendtime, chrono::DateTime::from_timestamp(1_767_225_600, 0));
}

#[tokio::test]
async fn a_message_that_wecoms_server_did_not_take_is_rejected() {
    let body = r#"{"error_code":0,"data":{"is_svr_fail":true,"msg_data":{"id":"1","appinfo":"eA=="}}}"#;
    let outcome = send_to(&peer(http("200 OK", "", body)).await).await;
    assert!(
        matches!(
            outcome,
            SendOutcome::Rejected {
                class: RejectClass::Permanent,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_base_address_may_have_a_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/gateway/v2/", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream
            .write_all(http("200 OK", "", r#"{"error_code":0,"data":{"status":"2"}}"#).as_bytes())
            .await
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let status = gateway(&base_url).get_client_status("guid").await.unwrap();
    assert_eq!(status, ClientStatus::Online);
    assert!(
        asked
            .await
            .unwrap()
            .starts_with("POST /gateway/v2/client/get_client_status HTTP/1.1\r\n")
    );
}
