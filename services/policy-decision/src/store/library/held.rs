//! A library that compiles nothing of a namespace while a test holds it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_ids::Name;
use parking_lot::{Condvar, Mutex};

use super::Library;
use crate::domain::policies::Compiled;

/// Far longer than any test.
const MOST: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Inside {
    held: Mutex<BTreeSet<String>>,
    told: Condvar,
}

/// Holds namespaces; frees them all in the end, so that no thread waits for a test that failed.
#[derive(Debug, Default)]
pub(crate) struct Held(Arc<Inside>);

impl Held {
    /// A library of which nothing is held yet.
    pub(crate) fn library(&self) -> Library {
        let inside = Arc::clone(&self.0);
        Library::by(move |namespace: &Name, policies, before| {
            let is_held = |held: &mut BTreeSet<String>| held.contains(namespace.as_str());
            inside.told.wait_while_for(&mut inside.held.lock(), is_held, MOST);
            Compiled::compile(policies, before)
        })
    }

    pub(crate) fn hold(&self, namespace: &str) {
        self.0.held.lock().insert(namespace.to_owned());
    }

    pub(crate) fn free(&self, namespace: &str) {
        self.0.held.lock().remove(namespace);
        self.0.told.notify_all();
    }
}

impl Library {
    /// How many wait for what is compiled.
    pub(crate) fn waiting(&self) -> usize {
        self.filled.receiver_count()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.lock().clear();
        self.0.told.notify_all();
    }
}
