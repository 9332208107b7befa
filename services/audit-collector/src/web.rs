//! The log over HTTPS (C2SP tlog-tiles): the checkpoint, tiles and entry bundles, to whoever can connect.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use legate_boot::Context;
use legate_merkle::{TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use legate_mtls::{Limits, Listener};
use legate_web::Web;

use crate::flow::Desk;
use crate::log::read_tile;
use crate::seat::Seat;
use crate::witness::FILE;

/// Readers of the log are few; strangers must not take the files that the log needs.
pub(crate) fn limits() -> Limits {
    Limits { connections: 256, handshakes: 64, ..Limits::default() }
}

/// A full tile or bundle never changes, and a partial one of a width does not either.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-cache");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What is served.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) seat: Seat,
    /// The events too, and not their hashes alone.
    pub(crate) entries: bool,
}

/// Serves a log on a listener.
pub(crate) fn serve(listener: Listener, shop: Shop, ctx: &Context) -> io::Result<Web> {
    let service = legate_web::Service {
        name: crate::NAME,
        routes: Router::new().fallback(answer).with_state(shop),
        paths: &["/checkpoint", "/checkpoint.cosigned"],
        // Nobody who reads sends anything.
        limits: legate_web::Limits { body_bytes: 1024, ..legate_web::Limits::default() },
        clock: Arc::clone(&ctx.clock),
        metrics: Arc::clone(&ctx.metrics),
    };
    legate_web::serve(service, listener)
}

async fn answer(State(Shop { seat, entries }): State<Shop>, method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let Some(desk) = seat.taken() else {
        let why = "this collector stands by: ask the one that leads the log\n";
        let headers = [(header::CACHE_CONTROL, NOT_KEPT), (header::RETRY_AFTER, HeaderValue::from_static("1"))];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, why).into_response();
    };
    let Desk { log, cosigned, .. } = &*desk;
    let nothing =
        || (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, NOT_KEPT)], "not part of this log\n").into_response();
    // The path as it was sent: an escape is not one of the characters of any name here.
    let Some(path) = uri.path().strip_prefix('/').filter(|_| uri.query().is_none()) else {
        return nothing();
    };
    let published = log.published().borrow().clone();
    // The newest one, which nobody waits for; and the newest that has the witnesses' quorum.
    let note = match path {
        "checkpoint" => Some(cosigned.of(published.clone()).note),
        FILE => cosigned.newest().map(|newest| newest.note),
        _ => None,
    };
    if let Some(note) = note {
        let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, NOT_KEPT)];
        return (headers, note).into_response();
    }
    let Some(tile) = TileId::parse(path).ok().filter(|tile| is_within(*tile, published.size)) else {
        return nothing();
    };
    if tile.kind == TileKind::Entries && !entries {
        let why = "entries are not served here: ask with QueryEvents, as somebody who may read them\n";
        return (StatusCode::FORBIDDEN, [(header::CACHE_CONTROL, NOT_KEPT)], why).into_response();
    }
    match log.reading(move |log| read_tile(log.dir(), tile)).await {
        Ok(Ok(bytes)) => {
            let headers = [(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, FOR_EVER)];
            (headers, bytes).into_response()
        }
        // Only the widths that a checkpoint had are kept until the tile is full.
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => nothing(),
        failed => {
            tracing::error!(%tile, ?failed, "a tile cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether the tree of `size` leaves has everything in the tile.
fn is_within(tile: TileId, size: u64) -> bool {
    let level = match tile.kind {
        TileKind::Entries => 0,
        TileKind::Hashes(level) => level,
    };
    let row = size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0);
    let end = tile.index.checked_mul(TILE_WIDTH).and_then(|first| first.checked_add(tile.width.into()));
    end.is_some_and(|end| end <= row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_tile_is_served_when_a_checkpoint_covers_all_of_it() {
        let within = |path: &str, size| is_within(TileId::parse(path).unwrap(), size);
        assert!(within("tile/0/000", 256) && !within("tile/0/000", 255));
        assert!(within("tile/0/000.p/7", 7) && !within("tile/0/000.p/7", 6));
        assert!(within("tile/entries/001.p/4", 260) && !within("tile/entries/001.p/5", 260));
        assert!(within("tile/1/000.p/1", 256) && !within("tile/1/000.p/1", 255));
        assert!(!within("tile/7/x999/x999/x999/x999/x999/999", u64::MAX));
    }
}
