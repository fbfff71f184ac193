//! The graphql-transport-ws protocol as a client sees it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{World, id};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the server did.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Frame(Value),
    Closed(u16),
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, protocol: &str) -> Self {
        let mut request = format!("ws://{address}/graphql/ws").into_client_request().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        Self { socket }
    }

    /// Connected and acknowledged.
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Self {
        let mut client = Self::connect(address, "graphql-transport-ws").await;
        client
            .send(json!({"type": "connection_init", "payload": {"Authorization": format!("Bearer {token}")}}))
            .await;
        assert_eq!(client.next().await, Seen::Frame(json!({"type": "connection_ack"})));
        client
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({"id": id, "type": "subscribe", "payload": {"query": query, "variables": variables}}))
            .await;
    }

    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("the server says something");
            match message.unwrap().unwrap() {
                Message::Text(text) => return Seen::Frame(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return Seen::Closed(frame.unwrap().code.into()),
                _ => {}
            }
        }
    }

    /// The data of the next payload of any operation.
    pub(crate) async fn next_data(&mut self) -> Value {
        match self.next().await {
            Seen::Frame(mut frame) => {
                assert_eq!(frame["type"], "next", "{frame}");
                assert!(frame["payload"].get("errors").is_none(), "{frame}");
                frame["payload"]["data"].take()
            }
            Seen::Closed(code) => panic!("closed with {code}"),
        }
    }
}

/// Serves the world's API on a port of its own.
pub(crate) async fn serve(world: &World) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn strangers_are_closed_as_forbidden() {
    let world = World::new().await;
    let address = serve(&world).await;
    for init in [
        json!({"type": "connection_init"}),
        json!({"type": "connection_init", "payload": {}}),
        json!({"type": "connection_init", "payload": {"Authorization": "Bearer wrong"}}),
        json!({"type": "connection_init", "payload": {"Authorization": "dev-token-a"}}),
    ] {
        let mut client = Client::connect(address, "graphql-transport-ws").await;
        client.send(init).await;
        assert_eq!(client.next().await, Seen::Closed(4403));
    }
}

#[tokio::test]
async fn a_subscription_has_one_field_at_its_root() {
    let world = World::new().await;
    let mut client = Client::open(serve(&world).await, "dev-token-a").await;
    for query in [
        "subscription { messageChanged { id } again: messageChanged { id } }",
        "subscription { messageChanged { id } ... { again: messageChanged { id } } }",
        "subscription { ...A } fragment A on Subscription { ...B messageChanged { id } } \
         fragment B on Subscription { again: messageChanged { id } }",
    ] {
        client.subscribe("1", query, json!({})).await;
        let Seen::Frame(frame) = client.next().await else {
            panic!("closed")
        };
        assert_eq!(
            (&frame["type"], &frame["id"]),
            (&json!("error"), &json!("1")),
            "{query}"
        );
        assert_eq!(
            frame["payload"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED",
            "{frame}"
        );
    }
}

#[tokio::test]
async fn who_does_not_say_who_he_is_is_closed_after_five_seconds() {
    let world = World::new().await;
    let mut client = Client::connect(serve(&world).await, "graphql-transport-ws").await;
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.next().await, Seen::Frame(json!({"type": "pong"})));
    let asked = std::time::Instant::now();
    assert_eq!(client.next().await, Seen::Closed(4408));
    assert!((4.0..7.0).contains(&asked.elapsed().as_secs_f64()));
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_closed_with_its_code() {
    let world = World::new().await;
    let address = serve(&world).await;
    let mut client = Client::connect(address, "graphql-transport-ws").await;
    client.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(client.next().await, Seen::Closed(4401));

    for text in [
        "{",
        "7",
        "{\"type\": \"shout\"}",
        "{\"type\": \"subscribe\", \"id\": \"1\"}",
    ] {
        let mut client = Client::open(address, "dev-token-a").await;
        client.send_text(text).await;
        assert_eq!(client.next().await, Seen::Closed(4400), "{text}");
    }

    let mut client = Client::open(address, "dev-token-a").await;
    client.send(json!({"type": "connection_init"})).await;
    assert_eq!(client.next().await, Seen::Closed(4429));

    let mut client = Client::open(address, "dev-token-a").await;
    let query = "subscription { messageChanged { id } }";
    client.subscribe("1", query, json!({})).await;
    client.subscribe("1", query, json!({})).await;
    assert_eq!(client.next().await, Seen::Closed(4409));
}

#[tokio::test]
async fn another_protocol_is_not_acceptable() {
    let world = World::new().await;
    let listener = serve(&world).await;
    let mut request = format!("ws://{listener}/graphql/ws").into_client_request().unwrap();
    request.headers_mut().remove("sec-websocket-protocol");
    let (socket, _) = connect_async(request).await.unwrap();
    let mut client = Client { socket };
    assert_eq!(client.next().await, Seen::Closed(4406));
}

#[tokio::test]
async fn queries_are_answered_and_wrong_ones_refused_without_ending_the_connection() {
    let world = World::new().await;
    world.account(id(1), json!({"account_name": "销售一部"})).await;
    let mut client = Client::open(serve(&world).await, "dev-token-a").await;
    client.subscribe("wrong", "{ colour }", json!({})).await;
    let Seen::Frame(frame) = client.next().await else {
        panic!("closed")
    };
    assert_eq!((&frame["type"], &frame["id"]), (&json!("error"), &json!("wrong")));
    assert_eq!(
        frame["payload"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED",
        "{frame}"
    );

    client
        .subscribe(
            "query",
            "query ($id: ID!) { account(id: $id) { name } }",
            json!({"id": id(1)}),
        )
        .await;
    assert_eq!(client.next_data().await, json!({"account": {"name": "销售一部"}}));
    assert_eq!(
        client.next().await,
        Seen::Frame(json!({"type": "complete", "id": "query"}))
    );

    client.send(json!({"type": "ping", "payload": {"n": 1}})).await;
    assert_eq!(
        client.next().await,
        Seen::Frame(json!({"type": "pong", "payload": {"n": 1}}))
    );
    // An id may be used again when its operation is over.
    client.subscribe("query", "{ __typename }", json!({})).await;
    assert_eq!(client.next_data().await, json!({"__typename": "Query"}));
}

#[tokio::test]
async fn the_server_says_when_it_goes() {
    let world = World::new().await;
    let mut client = Client::open(serve(&world).await, "dev-token-a").await;
    drop(world);
    assert_eq!(client.next().await, Seen::Closed(1001));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_so() {
    let world = World::new().await;
    let address = serve(&world).await;
    for bytes in [1024 * 1024 + 1, 3 * 1024 * 1024] {
        let mut client = Client::open(address, "dev-token-a").await;
        client.send_text(&"x".repeat(bytes)).await;
        assert_eq!(client.next().await, Seen::Closed(1009));
    }
}

#[tokio::test]
async fn a_plain_request_is_asked_to_upgrade() {
    let world = World::new().await;
    let answer = world.get("/graphql/ws").await;
    assert_eq!(answer.status, 426, "{}", answer.body);
    assert_eq!(answer.headers["upgrade"], "websocket");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}
