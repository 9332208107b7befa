//! A line between two that can be cut, held so that nobody notices, and mended.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Open,
    /// Connections stay, and nothing comes through: what a network does that lost its way.
    Held,
    Cut,
}

/// Passes on what comes, while it is open.
pub(crate) struct Relay {
    at: SocketAddr,
    line: watch::Sender<Line>,
    task: tokio::task::AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Towards `https://HOST:PORT`.
    pub(crate) async fn towards(endpoint: &str) -> Self {
        let to = endpoint.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, line) = (listener.local_addr().unwrap(), watch::Sender::new(Line::Open));
        let told = line.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to.clone(), told.clone()));
            }
        });
        Self { at, line, task: task.abort_handle() }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}", self.at)
    }

    /// Cuts every connection, and takes none.
    pub(crate) fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Lets nothing through any more, in either direction, and closes nothing: neither end is told.
    pub(crate) fn hold(&self) {
        self.line.send_replace(Line::Held);
    }

    /// What was held goes on, in its order.
    pub(crate) fn mend(&self) {
        self.line.send_replace(Line::Open);
    }
}

async fn pass(near: TcpStream, to: String, mut line: watch::Receiver<Line>) {
    if *line.borrow() == Line::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let (there, back) = (line.clone(), line.clone());
    tokio::select! {
        _ = async { tokio::join!(pump(near_in, far_out, there), pump(far_in, near_out, back)) } => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

/// One direction, until its end.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut line: watch::Receiver<Line>) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let got = from.read(&mut bytes).await.unwrap_or(0);
        // Also the end of a connection is no news while nothing comes through.
        if line.wait_for(|line| *line != Line::Held).await.is_err()
            || got == 0
            || to.write_all(&bytes[..got]).await.is_err()
        {
            break;
        }
    }
    drop(to.shutdown().await);
}
