//! The compiled policies of every namespace, kept in step with the view, off the path of a check.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use legate_ids::Name;
use legate_view::{NamespacePolicies, Snapshot, ViewHandle};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::policies::{Compiled, Unusable};

/// What came of compiling the policies of one namespace.
pub(crate) type Shelved = Result<Arc<Compiled>, Unusable>;

/// Namespaces that are compiled at a time. They share the machine, so that a small one is ready long before a large one that began
/// earlier.
const AT_ONCE: usize = 8;

/// Makes of a namespace's policies what can be asked; what was compiled before it may use again.
type Compile = dyn Fn(&Name, &NamespacePolicies, Option<&Compiled>) -> Result<Compiled, Unusable> + Send + Sync;

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
pub(crate) struct Library {
    shelves: ArcSwap<HashMap<Name, Shelf>>,
    filled: watch::Sender<u64>,
    compile: Arc<Compile>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("shelves", &self.shelves).finish_non_exhaustive()
    }
}

/// What is being compiled: a namespace is there once at most.
#[derive(Debug, Default)]
struct UnderWay {
    tasks: JoinSet<(Name, Shelf)>,
    names: HashSet<Name>,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self::by(|_, policies, before| Compiled::compile(policies, before))
    }

    fn by(
        compile: impl Fn(&Name, &NamespacePolicies, Option<&Compiled>) -> Result<Compiled, Unusable> + Send + Sync + 'static,
    ) -> Self {
        Self { shelves: ArcSwap::default(), filled: watch::Sender::new(0), compile: Arc::new(compile) }
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

    /// Follows the view for ever. Namespaces are compiled side by side, so that one with ten thousand policies holds up nobody else;
    /// one that changes while it is compiled is compiled again after that.
    pub(crate) async fn keep(self: Arc<Self>, view: ViewHandle) {
        let mut changed = view.changed();
        let mut under_way = UnderWay::default();
        loop {
            changed.mark_unchanged();
            self.catch_up(&view.current(), &mut under_way);
            tokio::select! {
                Some(done) = under_way.tasks.join_next(), if !under_way.tasks.is_empty() => match done {
                    Ok((namespace, shelf)) => {
                        under_way.names.remove(&namespace);
                        self.put(namespace, shelf);
                    }
                    // Nothing in it panics, and nobody aborts it; begun again it is as good.
                    Err(e) => {
                        tracing::error!(error = %e, "compiling ended without a result");
                        under_way = UnderWay::default();
                    }
                },
                changed = changed.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// Begins to compile what `snapshot` holds and the library does not, and forgets what it does not hold any more.
    fn catch_up(&self, snapshot: &Snapshot, under_way: &mut UnderWay) {
        let held = self.shelves.load();
        let is_gone = |name: &Name| snapshot.policies(name.as_str()).is_none();
        if held.keys().any(is_gone) {
            let kept = held.iter().filter(|(name, _)| !is_gone(name));
            self.shelves.store(Arc::new(kept.map(|(name, shelf)| (name.clone(), shelf.clone())).collect()));
        }
        let is_wanting = |(name, policies): &(&Name, &Arc<NamespacePolicies>)| {
            let is_there = held.get(*name).is_some_and(|shelf| Arc::ptr_eq(&shelf.of, policies));
            !is_there && !under_way.names.contains(*name)
        };
        let mut wanting: Vec<_> = snapshot.all_policies().filter(is_wanting).collect();
        // Those are ready first that keep others waiting least.
        wanting.sort_by_key(|(_, policies)| policies.by_name.len());
        for (namespace, policies) in wanting.into_iter().take(AT_ONCE.saturating_sub(under_way.names.len())) {
            let last_good = held.get(namespace).and_then(|shelf| shelf.last_good.clone());
            let (name, of) = (namespace.clone(), Arc::clone(policies));
            under_way.names.insert(name.clone());
            under_way.tasks.spawn(compile(Arc::clone(&self.compile), name, of, last_good));
        }
    }

    /// Only the keeper writes, so load and store need no lock.
    fn put(&self, namespace: Name, shelf: Shelf) {
        let mut shelves = HashMap::clone(&self.shelves.load());
        shelves.insert(namespace, shelf);
        self.shelves.store(Arc::new(shelves));
        self.filled.send_modify(|n| *n += 1);
    }
}

async fn compile(
    by: Arc<Compile>,
    namespace: Name,
    of: Arc<NamespacePolicies>,
    last_good: Option<Arc<Compiled>>,
) -> (Name, Shelf) {
    let (name, policies, before) = (namespace.clone(), Arc::clone(&of), last_good.clone());
    let task = tokio::task::spawn_blocking(move || by(&name, &policies, before.as_deref()));
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
    let shelf = Shelf { of, last_good: compiled.as_ref().ok().cloned().or(last_good), compiled };
    (namespace, shelf)
}

#[cfg(test)]
pub(crate) mod held;
