//! Answers that go on: each message the whole state, until the process has nothing any more, or does not read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::Meter;
use crate::keeper::{Entitled, Held, State};

/// A process that has not taken the message before the last after so long does not read.
const UNREAD: Duration = Duration::from_secs(30);

/// What is answered.
pub(crate) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Answers with what `say` makes of what the process has, again whenever `is_same` says that it is not what was said before.
pub(crate) fn answers<T: Send + 'static>(
    entitled: Entitled,
    meter: Meter,
    is_same: fn(&Held, &Held) -> bool,
    say: impl Fn(&Held) -> T + Send + 'static,
) -> Answers<T> {
    let (to, stream) = mpsc::channel(1);
    let open = meter.stream();
    // Not the way to the actor: whoever only listens does not keep it.
    let mut state = entitled.workload.subscribe();
    drop(entitled);
    tokio::spawn(async move {
        let _open = open;
        let mut said: Option<Arc<Held>> = None;
        loop {
            let now = state.borrow_and_update().clone();
            let answer = match now {
                // Between two things that it has nothing is said; the first is there already.
                State::Pending => None,
                State::Holds(held) if said.as_ref().is_some_and(|said| is_same(said, &held)) => None,
                State::Holds(held) => {
                    let answer = say(&held);
                    said = Some(held);
                    Some(Ok(answer))
                }
                without @ State::Without(_) => without.held().err().map(|fault| Err(Status::from(fault))),
            };
            if let Some(answer) = answer {
                let is_last = answer.is_err();
                match tokio::time::timeout(UNREAD, to.send(answer)).await {
                    Ok(Ok(())) if !is_last => {}
                    Ok(_) => return,
                    Err(_) => {
                        tracing::info!("a process does not read its stream, and is dropped");
                        return meter.dropped();
                    }
                }
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = to.closed() => return,
            }
        }
    });
    ReceiverStream::new(stream)
}
