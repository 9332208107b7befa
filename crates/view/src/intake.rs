//! A snapshot that comes in pieces: several threads read them, and they are put together in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use legate_wire::registry::Declaration;
use tokio::task::{JoinError, JoinHandle};

use crate::agent::Agent;
use crate::agents::Agents;
use crate::declared::Declared;
use crate::intern::Interner;
use crate::take_in::Read;
use crate::{Snapshot, Unreadable};

/// Pieces that are read at once, at most, however many cores there are.
const MOST: usize = 16;

/// A snapshot in the making. Nobody sees it before it is whole.
#[derive(Debug)]
pub(crate) struct Intake {
    snapshot: Snapshot,
    /// Agents that have come, which are put in their places together.
    coming: Vec<Vec<Arc<Agent>>>,
    /// Pieces that are being read, the oldest first.
    reading: VecDeque<JoinHandle<Result<Piece, Unreadable>>>,
    /// So many of them, at most: then whoever brings the next one waits.
    at_once: usize,
}

/// A piece that was read.
#[derive(Debug)]
struct Piece {
    agents: Vec<Arc<Agent>>,
    others: Vec<Declaration>,
}

impl Intake {
    /// One of which nothing has come yet.
    pub(crate) fn at(revision: u64) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.set_revision(revision, &[]);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { snapshot, coming: Vec::new(), reading: VecDeque::new(), at_once: (2 * cores).min(MOST) }
    }

    /// The revision that it will hold.
    pub(crate) fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    /// Takes a piece: objects as the bytes of `Declaration`. What is wrong with one may be told with a later one.
    pub(crate) async fn take(&mut self, objects: Vec<Bytes>) -> Result<(), Unreadable> {
        if self.reading.len() >= self.at_once {
            self.put_oldest().await?;
        }
        let shared = Arc::clone(&self.snapshot.shared);
        self.reading.push_back(tokio::task::spawn_blocking(move || read(&objects, &shared)));
        Ok(())
    }

    /// All of it, now that the last piece has come.
    pub(crate) async fn whole(mut self, history: &[u8]) -> Result<Snapshot, Unreadable> {
        while !self.reading.is_empty() {
            self.put_oldest().await?;
        }
        self.snapshot.agents = Agents::of(self.coming).await.map_err(|e| broken(&e))?;
        let revision = self.snapshot.revision();
        self.snapshot.set_revision(revision, history);
        Ok(self.snapshot)
    }

    async fn put_oldest(&mut self) -> Result<(), Unreadable> {
        let Some(oldest) = self.reading.pop_front() else { return Ok(()) };
        let Piece { agents, others } = oldest.await.map_err(|e| broken(&e))??;
        self.coming.push(agents);
        others.iter().try_for_each(|object| self.snapshot.apply(object, false).map(drop))
    }
}

fn broken(e: &JoinError) -> Unreadable {
    Unreadable { kind: "a piece of a snapshot", name: String::new(), why: e.to_string() }
}

fn read(objects: &[Bytes], shared: &Interner) -> Result<Piece, Unreadable> {
    let mut piece = Piece { agents: Vec::with_capacity(objects.len()), others: Vec::new() };
    let mut place = Declared::default();
    for object in objects {
        match Read::of(object, &mut place, shared)? {
            Read::Agent(agent) => piece.agents.push(agent),
            Read::Declared(object) => piece.others.push(*object),
        }
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_ids::AgentId;
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn id(n: u8) -> AgentId {
        AgentId::from_parts(1, [n; 10])
    }

    fn meta(name: String, id: String) -> Option<wire::Metadata> {
        Some(wire::Metadata { name, id, namespace: "pay".into(), ..wire::Metadata::default() })
    }

    /// An agent of few names, owners and states, so that agents have much in common; some are told twice.
    fn an_agent() -> impl Strategy<Value = Object> {
        (0u8..60, 0u8..40, 0u8..3, 1i32..8).prop_map(|(n, name, owner, state)| {
            let spec = wire::AgentSpec {
                agent_class: "bots".into(),
                owners: vec![format!("user:{owner}@example.com")],
                model: format!("m-{owner}"),
                ..wire::AgentSpec::default()
            };
            let status = wire::AgentStatus { state, ..wire::AgentStatus::default() };
            let metadata = meta(format!("bot-{name}"), id(n).to_string());
            Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) })
        })
    }

    fn an_object() -> impl Strategy<Value = wire::Declaration> {
        let role = (0u8..4).prop_map(|n| {
            let metadata = meta(format!("role-{n}"), format!("obj_{n}"));
            Object::Role(wire::Role { metadata, spec: Some(wire::RoleSpec::default()) })
        });
        prop_oneof![9 => an_agent(), 1 => role].prop_map(|object| wire::Declaration { object: Some(object) })
    }

    fn bytes(objects: &[wire::Declaration]) -> Vec<Bytes> {
        objects.iter().map(|object| object.encode_to_vec().into()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the pieces and however many threads read them: what is put together is what one reader would hold who took
        /// object after object.
        #[test]
        fn pieces_read_at_once_are_what_they_are_one_by_one(
            objects in prop::collection::vec(an_object(), 0..200),
            piece in 1usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            let whole = runtime.block_on(async {
                let mut intake = Intake::at(7);
                for some in objects.chunks(piece) {
                    intake.take(bytes(some)).await.unwrap();
                }
                intake.whole(&[1; 32]).await.unwrap()
            });
            let serial = Snapshot::of(&objects).unwrap();
            prop_assert_eq!((whole.revision(), whole.history()), (7, [1; 32].as_slice()));
            prop_assert_eq!(whole.agents_len(), serial.agents_len());
            for n in 0..60 {
                prop_assert_eq!(whole.agent(&id(n)), serial.agent(&id(n)));
                let name = format!("bot-{n}");
                prop_assert_eq!(whole.agent_named("pay", &name), serial.agent_named("pay", &name));
            }
            for n in 0..4 {
                let name = format!("role-{n}");
                prop_assert_eq!(whole.role("pay", &name).is_some(), serial.role("pay", &name).is_some());
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_ends_it() {
        let unknown = [wire::Declaration { object: None }];
        for wrong in [vec![Bytes::from_static(&[0xff])], bytes(&unknown)] {
            let mut intake = Intake::at(1);
            let taken = intake.take(wrong).await;
            assert!(taken.is_err() || intake.whole(&[]).await.is_err());
        }
    }

    #[tokio::test]
    async fn pieces_that_are_read_at_once_are_few() {
        let mut intake = Intake::at(1);
        for _ in 0..3 * MOST {
            intake.take(Vec::new()).await.unwrap();
            assert!(intake.reading.len() <= intake.at_once && intake.at_once <= MOST);
        }
    }
}
