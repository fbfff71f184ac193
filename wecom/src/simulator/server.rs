//! HTTP on bare hyper, because faults need the connection itself: a close is a handler's error, which makes hyper end the
//! connection without having written a byte.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use axum::{BoxError, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::call::{Call, PATHS};
use super::faults::CloseAt;
use super::world::{Handled, World, bad_envelope};

const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How long connections may take to end their last answer when the simulator stops.
const GRACE: Duration = Duration::from_secs(2);

type Answer = Response<Either<Full<Bytes>, Body>>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Close>> + Send>>;

/// The connection is to be closed instead of answered.
#[derive(Debug, thiserror::Error)]
#[error("closed by a fault")]
struct Close(CloseAt);

/// Serves until the shutdown; then lets answers under way end.
pub(super) async fn serve(listener: TcpListener, world: Arc<World>, router: Router, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&world), router.clone(), shutdown.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                tracing::warn!(%error, "the simulator cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::debug!("connections were cut off at the end of the grace time");
    }
}

async fn connection(stream: TcpStream, world: Arc<World>, router: Router, shutdown: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| -> Answering {
        let (world, router) = (Arc::clone(&world), router.clone());
        Box::pin(async move { answer(world, router, request).await })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let close = ended
        .as_ref()
        .err()
        .and_then(Error::source)
        .and_then(<dyn Error>::downcast_ref::<Close>);
    if let Some(Close(CloseAt::BeforeReading)) = close {
        // What a peer sees whose bytes were never read: a reset.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn answer(world: Arc<World>, router: Router, request: Request<Incoming>) -> Result<Answer, Close> {
    let Some(path) = PATHS.into_iter().find(|path| *path == request.uri().path()) else {
        let answered: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
        return match answered {
            Ok(response) => Ok(response.map(Either::Right)),
        };
    };
    if request.method() != Method::POST {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "POST only"));
    }
    let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(unread(&error)),
    };
    let handled = match Call::read(path, &body) {
        Ok(call) => world.handle(&call),
        Err(why) => Ok(bad_envelope(why)),
    };
    match handled {
        Ok(Handled::Answer { status, body, after }) => {
            if let Some(after) = after {
                tokio::time::sleep(after).await;
            }
            Ok(json(status, &body))
        }
        Ok(Handled::Close(close)) => Err(Close(close)),
        Err(error) => {
            tracing::error!(%error, "the simulator cannot write its folder");
            Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "disk"))
        }
    }
}

fn unread(error: &BoxError) -> Answer {
    if error.is::<http_body_util::LengthLimitError>() {
        plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    } else {
        plain(StatusCode::BAD_REQUEST, "the body cannot be read")
    }
}

fn json(status: u16, body: &Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, "application/json", body.to_string())
}

fn plain(status: StatusCode, text: &str) -> Answer {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
