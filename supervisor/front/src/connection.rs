//! One connection: its requests one after the other, each refused by its head if it can be.
use crate::{
    access::Origin,
    guard::{Guarded, HEADERS},
    hang_up::HangUp,
    link::Told,
    reply::Reply,
    routes,
    server::{Place, Server},
};
use hyper::{
    Request, Version,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{io, os::fd::AsFd, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// How long a request's head may take to come, and a connection may carry none: longer than
/// clients' pools keep one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes that are read ahead.
const BUFFER: usize = 64 << 10;

/// Serves one client until it or the front ends it.
pub(crate) async fn serve<S>(
    server: &Arc<Server>,
    stream: S,
    origin: Origin,
    place: &Place,
    mut told: watch::Receiver<Told>,
) where
    S: AsyncRead + AsyncWrite + AsFd + Unpin,
{
    // Without a descriptor to watch it by, it would compute for nobody.
    let Ok(hang_up) = HangUp::of(&stream) else { return };
    let hang_up = &hang_up;
    let service = service_fn(|request: Request<Incoming>| async move {
        place.note(true);
        let reply = answer(server, request, origin, hang_up).await;
        place.note(false);
        reply
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        // A client that sends no more may still wait for its answer.
        .half_close(true);
    let connection = http.serve_connection(TokioIo::new(Guarded::new(stream)), service);
    tokio::pin!(connection);
    tokio::select! {
        // What is no HTTP has been answered with a status by now.
        _ended = connection.as_mut() => return,
        () = place.ended.notified() => return,
        _ = told.wait_for(|told| *told != Told::Serve) => {}
    }
    // What was begun is finished.
    connection.as_mut().graceful_shutdown();
    let _ended = connection.await;
}

async fn answer(
    server: &Arc<Server>,
    request: Request<Incoming>,
    origin: Origin,
    hang_up: &HangUp,
) -> io::Result<Reply> {
    let knows_not_yet = request.version() == Version::HTTP_11;
    let is_unbounded = request.headers().contains_key(header::TRANSFER_ENCODING);
    tokio::select! {
        mut reply = routes::answer(server, request, origin) => {
            if is_unbounded {
                // Nobody has looked at what follows such a body.
                reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(reply)
        }
        () = hang_up.gone(knows_not_yet) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
