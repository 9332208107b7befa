//! Looking at processes, each time in a thread that may stay away: what a process runs may be on a file system that does not answer.

use std::time::Duration;

use super::Unseen;
use super::process::{Seen, see};
use crate::turns::Turns;

/// A look that takes longer has seen nothing, its turn included. It takes no time where the file that the process runs answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks at one user's processes that are under way.
const OF_ONE_USER: usize = 8;
/// And at all.
const AT_ONCE: usize = 128;

/// Turns at looking; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Looks(Turns<u32>);

impl Default for Looks {
    fn default() -> Self {
        Self(Turns::new(AT_ONCE, OF_ONE_USER))
    }
}

impl Looks {
    /// What there is to see of a process that is some user's. Whoever calls makes sure that it lived before and after.
    pub(super) async fn see(&self, pid: i32, uid: u32) -> Result<Seen, Unseen> {
        self.look(uid, move || see(pid)).await
    }

    async fn look<T: Send + 'static>(
        &self,
        uid: u32,
        look: impl FnOnce() -> Result<T, Unseen> + Send + 'static,
    ) -> Result<T, Unseen> {
        let looking = async {
            let turn = self.0.next(uid).await;
            // Where it never comes back, its thread stays, and its turn with it.
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                look()
            })
            .await
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) | Err(_) => Err(Unseen::NotRead),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_system_that_never_answers_keeps_its_own_user_out_and_nobody_else() {
        let looks = Looks::default();
        let (answers, waits) = mpsc::channel::<()>();
        let waits = std::sync::Arc::new(parking_lot::Mutex::new(waits));
        let hanging: Vec<_> = (0..OF_ONE_USER)
            .map(|_| {
                let (looks, waits) = (looks.clone(), std::sync::Arc::clone(&waits));
                tokio::spawn(async move { looks.look(7, move || waits.lock().recv().map_err(|_| Unseen::Gone)).await })
            })
            .collect();
        for one in hanging {
            assert_eq!(one.await.unwrap(), Err(Unseen::NotRead), "nobody waits for ever");
        }
        assert_eq!(looks.look(7, || Ok(())).await, Err(Unseen::NotRead));
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(looks.see(pid, 8).await.is_ok());
        // It answers again: so does whoever was kept out.
        drop(answers);
        let back = async { while looks.look(7, || Ok(())).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
    }
}
