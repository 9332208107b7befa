//! The compiled policies of every namespace, kept in step with the view, off the path of a check.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use legate_ids::Name;
use legate_view::{NamespacePolicies, ViewHandle};
use tokio::sync::watch;

use crate::domain::policies::{Compiled, Unusable};

/// What came of compiling the policies of one namespace.
pub(crate) type Shelved = Result<Arc<Compiled>, Unusable>;

#[derive(Clone, Debug)]
struct Shelf {
    /// What was compiled; the same `Arc` means the same policies.
    of: Arc<NamespacePolicies>,
    /// Where it failed the namespace is undecidable. The set before is never used in its stead:
    /// what could not be read might be what forbids.
    compiled: Shelved,
    /// The last that could be used, to spare parsing again what did not change.
    last_good: Option<Arc<Compiled>>,
}

/// Compiled policies by namespace. Read without a lock.
#[derive(Debug)]
pub(crate) struct Library {
    shelves: ArcSwap<HashMap<Name, Shelf>>,
    filled: watch::Sender<u64>,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self { shelves: ArcSwap::default(), filled: watch::Sender::new(0) }
    }

    /// What came of compiling exactly `policies`; `None` when that is not done.
    pub(crate) fn find(&self, namespace: &Name, policies: &Arc<NamespacePolicies>) -> Option<Shelved> {
        self.shelves
            .load()
            .get(namespace)
            .filter(|shelf| Arc::ptr_eq(&shelf.of, policies))
            .map(|shelf| shelf.compiled.clone())
    }

    /// Told whenever something was compiled. To be taken before `find`, so that nothing is missed in between.
    pub(crate) fn filled(&self) -> watch::Receiver<u64> {
        self.filled.subscribe()
    }

    /// How many namespaces cannot be decided about since a policy of theirs cannot be used.
    pub(crate) fn unusable(&self) -> usize {
        self.shelves.load().values().filter(|s| s.compiled.is_err()).count()
    }

    /// Follows the view for ever.
    pub(crate) async fn keep(self: Arc<Self>, view: ViewHandle) {
        let mut changed = view.changed();
        loop {
            changed.mark_unchanged();
            self.catch_up(&view).await;
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Compiles what the view holds now and the library does not.
    async fn catch_up(&self, view: &ViewHandle) {
        let snapshot = view.current();
        let held = self.shelves.load_full();
        let (mut kept, mut wanting) = (HashMap::with_capacity(held.len()), Vec::new());
        for (namespace, policies) in snapshot.all_policies() {
            match held.get(namespace) {
                Some(shelf) if Arc::ptr_eq(&shelf.of, policies) => {
                    kept.insert(namespace.clone(), shelf.clone());
                }
                old => wanting.push((namespace.clone(), Arc::clone(policies), old.and_then(|s| s.last_good.clone()))),
            }
        }
        if wanting.is_empty() {
            if kept.len() != held.len() {
                self.shelves.store(Arc::new(kept));
            }
            return;
        }
        for (namespace, policies, last_good) in wanting {
            let shelf = compile(&namespace, policies, last_good).await;
            kept.insert(namespace, shelf);
            // Namespace by namespace, so that one with ten thousand policies holds up nobody else.
            self.shelves.store(Arc::new(kept.clone()));
            self.filled.send_modify(|n| *n += 1);
        }
    }
}

async fn compile(namespace: &Name, of: Arc<NamespacePolicies>, last_good: Option<Arc<Compiled>>) -> Shelf {
    let (policies, before) = (Arc::clone(&of), last_good.clone());
    let task = tokio::task::spawn_blocking(move || Compiled::compile(&policies, before.as_deref()));
    let compiled = match task.await {
        Ok(compiled) => compiled.map(Arc::new),
        Err(e) => Err(Unusable { policy: namespace.to_string(), why: format!("the compiler failed: {e}") }),
    };
    match &compiled {
        Ok(done) => {
            let (enforced, log_only) = done.len();
            tracing::info!(%namespace, revision = of.revision, enforced, log_only, "policies are compiled");
        }
        Err(e) => {
            tracing::error!(%namespace, revision = of.revision, error = %e, "policies cannot be used; every check in this namespace is denied with POLICY_ERROR");
        }
    }
    Shelf { of, last_good: compiled.as_ref().ok().cloned().or(last_good), compiled }
}
