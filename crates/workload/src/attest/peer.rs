//! The process that made a connection: SO_PEERCRED says who, SO_PEERPIDFD holds on to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Unseen;
use super::look::Looks;
use super::process::{ProcessKey, Seen, user_of};

/// A process that connected, or is meant by its number, and that nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pidfd: OwnedFd,
    pid: i32,
    uid: u32,
    /// Where it connected: its group then.
    gid: Option<u32>,
}

/// A process that connected. As long as this lives, the kernel says whether the process does.
#[derive(Debug)]
pub struct Peer {
    pidfd: AsyncFd<OwnedFd>,
    pid: i32,
    uid: u32,
    gid: u32,
    /// What it was when the connection was taken.
    first: ProcessKey,
}

impl Newcomer {
    /// The process that made a connection. Nothing of this waits for anybody.
    ///
    /// # Errors
    /// [`Unseen`] when it has ended, or cannot be seen.
    pub(crate) fn of(socket: impl AsFd) -> Result<Self, Unseen> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials).map_err(|_| Unseen::NotSeen)?;
        let pid = credentials.pid();
        // 0: the process is one of a namespace that is not below ours.
        if pid <= 0 {
            return Err(Unseen::NotSeen);
        }
        // ESRCH and EINVAL: it was reaped before we asked.
        let pidfd = getsockopt(&socket, sockopt::PeerPidfd).map_err(|error| match error {
            nix::Error::ENOPROTOOPT => Unseen::NotSeen,
            _ => Unseen::Gone,
        })?;
        Ok(Self { pidfd, pid, uid: credentials.uid(), gid: Some(credentials.gid()) })
    }

    /// A process by its number, whoever it is and whether or not it ever connects.
    ///
    /// # Errors
    /// [`Unseen`] when there is none.
    pub(crate) fn of_pid(pid: i32) -> Result<Self, Unseen> {
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(Unseen::Gone)?;
        // The kernel knows the processes that lead a group of threads; others are no processes.
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|_| Unseen::Gone)?;
        Ok(Self { pidfd, pid, uid: user_of(pid).ok_or(Unseen::Gone)?, gid: None })
    }

    /// Looks at it for the first time. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Unseen`] when it has ended, is not who connected, or cannot be seen.
    pub(crate) async fn seen(self, looks: &Looks) -> Result<Peer, Unseen> {
        let Self { pidfd, pid, uid, gid } = self;
        if has_ended(pidfd.as_fd()) {
            return Err(Unseen::Gone);
        }
        let seen = looks.see(pid, uid).await?;
        if has_ended(pidfd.as_fd()) {
            return Err(Unseen::Gone);
        }
        if seen.uid != uid || gid.is_some_and(|gid| gid != seen.gid) {
            return Err(Unseen::Changed);
        }
        Ok(Peer { pidfd: watched(pidfd)?, pid, uid, gid: seen.gid, first: seen.key })
    }
}

impl Peer {
    /// As whom it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its number here, for logs.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has not ended.
    pub(super) fn lives(&self) -> Result<(), Unseen> {
        if has_ended(self.pidfd.get_ref().as_fd()) { Err(Unseen::Gone) } else { Ok(()) }
    }

    /// Reads what `/proc` says of it now.
    pub(super) async fn look(&self, looks: &Looks) -> Result<Seen, Unseen> {
        self.lives()?;
        let seen = looks.see(self.pid, self.uid).await?;
        self.lives()?;
        // An exec, or another user: whoever speaks now is not who connected.
        if seen.key != self.first || (seen.uid, seen.gid) != (self.uid, self.gid) {
            return Err(Unseen::Changed);
        }
        Ok(seen)
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        while !has_ended(self.pidfd.get_ref().as_fd()) {
            match self.pidfd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // Without events we look from time to time.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

#[allow(
    deprecated,
    reason = "what was put in its place is unsafe to call, for file descriptors of which nobody knows whose they are; an OwnedFd is its own"
)]
fn watched(pidfd: OwnedFd) -> Result<AsyncFd<OwnedFd>, Unseen> {
    AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(|_| Unseen::NotSeen)
}

/// A pidfd is readable once its process has ended.
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    // Whoever cannot be asked about is taken for gone.
    !poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 0)
}
