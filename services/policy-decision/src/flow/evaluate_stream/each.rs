//! Questions that are decided together, though each is taken or refused by itself.

use legate_rpc::Fault;
use legate_wire::rpc::Status;

use crate::convert::{Ask, item_error};
use crate::flow::asker::Asker;
use crate::flow::evaluate::{Desk, Spoken, evaluate};
use crate::flow::record;

/// What comes of one question.
type Outcome = Result<Spoken, Status>;

/// Answers each, in their order. One that the caller may not ask is refused, and recorded so, without the others.
pub(super) async fn each(desk: &Desk, asker: &Asker, asks: &[Ask]) -> Vec<Outcome> {
    let mut refused = not_covered(desk, asker, asks);
    if refused.iter().all(Option::is_none) {
        return together(desk, asker, asks).await;
    }
    let covered: Vec<Ask> =
        asks.iter().zip(&refused).filter(|(_, why)| why.is_none()).map(|(a, _)| a.clone()).collect();
    let mut answered = together(desk, asker, &covered).await.into_iter();
    let mut outcomes = Vec::with_capacity(asks.len());
    for (ask, why) in asks.iter().zip(&mut refused) {
        outcomes.extend(match why.take() {
            None => answered.next(),
            Some(fault) => {
                record::refusal(desk, asker, std::slice::from_ref(ask), &fault).await;
                Some(Err(item_error(fault)))
            }
        });
    }
    outcomes
}

/// Why the caller may not ask one or the other, by the view as it is now. Where its right is not known at all, that is for
/// the journey itself to say.
fn not_covered(desk: &Desk, asker: &Asker, asks: &[Ask]) -> Vec<Option<Fault>> {
    let reading = desk.view.read();
    let right =
        reading.fresh(desk.view.bound()).ok().and_then(|_| asker.right(&reading.snapshot, desk.clock.now()).ok());
    asks.iter().map(|ask| right.as_ref().and_then(|right| right.covers(ask).err())).collect()
}

async fn together(desk: &Desk, asker: &Asker, asks: &[Ask]) -> Vec<Outcome> {
    if asks.is_empty() {
        return Vec::new();
    }
    match evaluate(desk, asker, asks).await {
        Ok(all) => all.into_iter().map(Ok).collect(),
        Err(fault) if asks.len() == 1 => vec![Err(item_error(fault))],
        // The caller's right changed just now: each learns what became of it.
        Err(_) => {
            let mut outcomes = Vec::with_capacity(asks.len());
            for ask in asks {
                let one = evaluate(desk, asker, std::slice::from_ref(ask)).await;
                let one =
                    one.and_then(|mut all| all.pop().ok_or_else(|| Fault::broken("a question without an answer")));
                outcomes.push(one.map_err(item_error));
            }
            outcomes
        }
    }
}
