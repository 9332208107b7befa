//! The threads that speak to the module, and how long is waited for them: a module that hangs keeps nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::line::{Line, Open, Site};
use super::trouble::Trouble;

/// Calls that wait for a session at most.
const MOST_WAITING: usize = 256;
/// How long the module may take to begin.
const BEGINNING: Duration = Duration::from_secs(30);
/// How long is waited for the threads to leave the module once nobody asks any more.
const LEAVING: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Line) + Send>;

/// Threads of their own, so that one that hangs in the module keeps neither the runtime nor the end of the process.
#[derive(Debug)]
pub(super) struct Pool {
    /// `None` once nobody asks any more.
    queue: Option<SyncSender<Job>>,
    /// Nothing comes of it; it is closed when the last thread has ended.
    ended: Mutex<Receiver<()>>,
    standing: Arc<Standing>,
    patience: Duration,
}

impl Drop for Pool {
    /// A process that ends while a thread is in the module can fall: most modules are taken down by then. One that hangs keeps nobody.
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.ended.get_mut().recv_timeout(LEAVING);
    }
}

/// Whether the module does its work, by what it did last.
#[derive(Debug, Default)]
struct Standing {
    /// Calls that came back.
    back: AtomicU64,
    why_not: Mutex<Option<String>>,
}

impl Standing {
    fn note(&self, trouble: Option<&Trouble>) {
        self.back.fetch_add(1, Ordering::SeqCst);
        match trouble.filter(|trouble| !trouble.is_of_one_call()) {
            Some(trouble) => self.fall(trouble.to_string()),
            None => {
                if self.why_not.lock().take().is_some() {
                    tracing::info!("the module of keys does its work again");
                }
            }
        }
    }

    fn fall(&self, why: String) {
        let mut known = self.why_not.lock();
        if known.as_ref() != Some(&why) {
            tracing::error!(why, "the module of keys does not do its work; nothing is signed by it until it does");
            *known = Some(why);
        }
    }
}

impl Pool {
    /// # Errors
    /// When the system gives no threads.
    pub(super) fn start(site: Site, sessions: usize, patience: Duration) -> std::io::Result<Self> {
        let site = Arc::new(site);
        let (queue, jobs) = sync_channel::<Job>(MOST_WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        let (here, ended) = channel();
        for n in 0..sessions {
            let (jobs, line, here) = (Arc::clone(&jobs), Line::new(Arc::clone(&site)), here.clone());
            std::thread::Builder::new().name(format!("pkcs11-{n}")).spawn(move || serve(&jobs, line, here))?;
        }
        Ok(Self { queue: Some(queue), ended: Mutex::new(ended), standing: Arc::default(), patience })
    }

    /// Why the module is not asked; `None`: it is.
    pub(super) fn why_not(&self) -> Option<String> {
        self.standing.why_not.lock().clone()
    }

    /// Has a thread do `work`, and waits no longer than it may; at once where the module did not do its work a moment ago.
    pub(super) async fn ask<T, F>(&self, work: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: Fn(&mut Open) -> Result<T, Trouble> + Send + 'static,
    {
        match self.why_not() {
            Some(why) => Err(Trouble::Down(why)),
            None => self.ask_all_the_same(self.patience, work).await,
        }
    }

    /// Sees whether the module does its work, also where it did not a moment ago.
    pub(super) async fn probe<F>(&self, work: F) -> Result<(), Trouble>
    where
        F: Fn(&mut Open) -> Result<(), Trouble> + Send + 'static,
    {
        self.ask_all_the_same(self.patience, work).await
    }

    /// The first call, in which the module is loaded and logged in to: that of a network HSM takes its time.
    pub(super) async fn begin<F>(&self, work: F) -> Result<(), Trouble>
    where
        F: Fn(&mut Open) -> Result<(), Trouble> + Send + 'static,
    {
        self.ask_all_the_same(BEGINNING, work).await
    }

    async fn ask_all_the_same<T, F>(&self, patience: Duration, work: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: Fn(&mut Open) -> Result<T, Trouble> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let standing = Arc::clone(&self.standing);
        let job = Box::new(move |line: &mut Line| {
            // Whoever asked is gone.
            if answer.is_closed() {
                return;
            }
            let done = line.run(&work);
            standing.note(done.as_ref().err());
            let _ = answer.send(done);
        });
        let before = self.standing.back.load(Ordering::SeqCst);
        self.queue.as_ref().ok_or(Trouble::Busy)?.try_send(job).map_err(|_| Trouble::Busy)?;
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Trouble::Wrong("a call into the module was cut off".into())),
            Err(_) => Err(self.late(before, patience)),
        }
    }

    /// What it means that a call did not come back in time: where no other did either, the module hangs.
    fn late(&self, before: u64, patience: Duration) -> Trouble {
        if self.standing.back.load(Ordering::SeqCst) != before {
            return Trouble::Busy;
        }
        self.standing.fall(format!("it has not answered within {} ms", patience.as_millis()));
        Trouble::Silent
    }
}

fn serve(jobs: &Mutex<Receiver<Job>>, mut line: Line, here: Sender<()>) {
    loop {
        // One thread waits for the next job; the others wait for that one to have it.
        let job = jobs.lock().recv();
        // Nobody can ask any more.
        let Ok(job) = job else { break };
        if catch_unwind(AssertUnwindSafe(|| job(&mut line))).is_err() {
            line.hang_up();
        }
    }
    // With the last line the module ends; only then is nobody here.
    drop(line);
    drop(here);
}
