//! Putting the socket where nobody else can put one in its stead.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The longest path of a socket, in bytes (unix(7)), less what a name for the time before takes.
const LONGEST: usize = 100;

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum SocketRefused {
    /// The path cannot be one.
    #[error("{0}: a socket's path is absolute and 100 bytes at most")]
    Path(PathBuf),
    /// Others may write to the directory, or to one above it.
    #[error("{0}: others than root and the helper's user could put a socket in its place (mode {1:o}, owner {2})")]
    Open(PathBuf, u32, u32),
    /// Something that is no socket.
    #[error("{0}: there is something that is no socket")]
    Occupied(PathBuf),
    /// It is served.
    #[error("{0}: somebody serves it already")]
    Served(PathBuf),
    /// The system refuses.
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
}

/// A socket that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: UnixListener,
    held: Held,
}

/// What is taken away when the socket is served no more.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    /// Which file it is: another's is not ours to take away.
    file: (u64, u64),
    _lock: File,
}

impl Bound {
    /// Binds the socket. That of a process that died is replaced, one that is served is not.
    ///
    /// # Errors
    /// [`SocketRefused`]. Needs a tokio runtime.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, SocketRefused> {
        let system = |error| SocketRefused::System(path.to_owned(), error);
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketRefused::Path(path.to_owned()));
        };
        if !path.is_absolute() || path.as_os_str().len() > LONGEST {
            return Err(SocketRefused::Path(path.to_owned()));
        }
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(system)?;
        refuse_open(dir)?;
        let beside = |end: &str| {
            let mut name = name.to_owned();
            name.push(end);
            dir.join(name)
        };
        let lock = beside(".lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let lock = open.map_err(system)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketRefused::Served(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(system(error)),
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(SocketRefused::Occupied(path.to_owned())),
            // Whoever serves it knows nothing of our lock.
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketRefused::Served(path.to_owned())),
            Ok(_) => {}
        }
        // Under another name until its mode is right; then it replaces what a dead process left, at once.
        let new = beside(".new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(system)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).map_err(system)?;
        let made = std::fs::symlink_metadata(&new).map_err(system)?;
        std::fs::rename(&new, path).map_err(system)?;
        let held = Held { path: path.to_owned(), file: (made.dev(), made.ino()), _lock: lock };
        Ok(Self { listener, held })
    }

    pub(crate) fn into_parts(self) -> (UnixListener, Held) {
        (self.listener, self.held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_ours {
            // It may be gone by now; nobody needs it any more.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses a directory in which others could put a socket of theirs: the directory, and every one above it, belongs to root or to us,
/// and whoever else may write to it may not take away what is ours (the sticky bit).
fn refuse_open(dir: &Path) -> Result<(), SocketRefused> {
    let us = rustix::process::geteuid().as_raw();
    let dir = dir.canonicalize().map_err(|error| SocketRefused::System(dir.to_owned(), error))?;
    for above in dir.ancestors() {
        let found = std::fs::metadata(above).map_err(|error| SocketRefused::System(above.to_owned(), error))?;
        let mode = found.mode() & 0o7777;
        let is_owned = found.uid() == 0 || found.uid() == us;
        if !is_owned || mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Err(SocketRefused::Open(above.to_owned(), mode, found.uid()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_socket_has_one_server_and_a_dead_ones_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/workload.sock");
        let bound = Bound::bind(&path, 0o666).unwrap();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o666);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(Bound::bind(&path, 0o666), Err(SocketRefused::Served(_))));
        // As kill -9 leaves it: the file is there, and nobody behind it.
        let (listener, held) = bound.into_parts();
        drop(listener);
        let Held { path: left, .. } = &held;
        assert!(left.exists() && UnixStream::connect(left).is_err());
        let Held { _lock, .. } = &held;
        _lock.unlock().unwrap();
        let next = Bound::bind(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
        // What the dead one would take away is not its own any more.
        drop(held);
        UnixStream::connect(&path).unwrap();
        drop(next);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn somebody_elses_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("workload.sock");
        std::fs::write(&path, "a file").unwrap();
        assert!(matches!(Bound::bind(&path, 0o666), Err(SocketRefused::Occupied(_))));
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Bound::bind(&path, 0o666), Err(SocketRefused::Served(_))));
        drop(other);
        drop(Bound::bind(&path, 0o666).unwrap());
        for bad in [Path::new("workload.sock"), Path::new("/"), &root.path().join("x".repeat(120))] {
            assert!(matches!(Bound::bind(bad, 0o666), Err(SocketRefused::Path(_))), "{}", bad.display());
        }
    }

    #[tokio::test]
    async fn a_directory_that_others_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (above, dir) = (root.path().join("above"), root.path().join("above/run"));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("workload.sock");
        for (of, bits) in [(&dir, 0o777), (&dir, 0o775), (&above, 0o777)] {
            mode(of, bits);
            assert!(matches!(Bound::bind(&path, 0o666), Err(SocketRefused::Open(..))), "{bits:o}");
            mode(of, 0o755);
        }
        // As the system's directory for temporary files: nobody takes away what is another's.
        mode(&above, 0o1777);
        drop(Bound::bind(&path, 0o666).unwrap());
    }
}
