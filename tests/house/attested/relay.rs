//! A line between two that can be cut, and mended.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes on what comes, while it is open.
pub(super) struct Relay {
    at: SocketAddr,
    open: watch::Sender<bool>,
    task: tokio::task::AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Towards `https://HOST:PORT`.
    pub(super) async fn towards(endpoint: &str) -> Self {
        let to = endpoint.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, open) = (listener.local_addr().unwrap(), watch::Sender::new(true));
        let told = open.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to.clone(), told.clone()));
            }
        });
        Self { at, open, task: task.abort_handle() }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://{}", self.at)
    }

    /// Cuts every connection, and takes none.
    pub(super) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, to: String, mut open: watch::Receiver<bool>) {
    if !*open.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
