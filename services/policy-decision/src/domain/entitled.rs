//! What one agent may do by itself: its permissions below the ceiling, each held against boundaries and policies; what could not
//! be told is said to depend, never to be allowed.

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_view::Agent;

use super::answer::{Cause, CauseKind};
use super::authority::Bench;
use super::preview::cells::{Cell, Named, given};
use super::preview::compare::{Side, moments};
use super::preview::outlook::{Holds, On, Verdict};

/// An action on resources, and whether it may be done, for a time.
#[derive(Clone, Debug)]
pub(crate) struct Entitled {
    pub(crate) cell: Cell,
    pub(crate) holds: Holds,
    pub(crate) causes: Vec<Cause>,
    /// Narrower ones of which less is true: each stands for itself, where something is true of it.
    pub(crate) except: Vec<Cell>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// Narrower ones that are told of one: of more, their number would multiply.
const EXCEPT: usize = 64;

/// How much is true of it.
fn rank(holds: &Holds) -> u8 {
    match holds {
        Holds::Never => 0,
        Holds::Depends(_) => 1,
        Holds::Always => 2,
    }
}

fn names(holds: &Holds) -> Vec<&str> {
    match holds {
        Holds::Depends(on) => on.iter().map(|on| on.cause.name.as_str()).collect(),
        Holds::Never | Holds::Always => Vec::new(),
    }
}

fn unsure(text: &str) -> Verdict {
    let cause = Cause::plain(CauseKind::View, text);
    Verdict { holds: Holds::Depends(vec![On { cause, content: String::new() }]), causes: Vec::new() }
}

/// What the agent, taken for ACTIVE, may do from `now` on, in the order of what is done; and how much was not looked at.
pub(crate) fn entitlements(
    bench: &Bench,
    side: &mut Side<'_>,
    agent: &Agent,
    named: &Named,
    now: Timestamp,
    is_over: &dyn Fn() -> bool,
) -> (Vec<Entitled>, u32) {
    let given = given(side.snapshot, agent, named, is_over);
    let (moments, mut coarse) = moments(&[(side.snapshot, Some(agent))], now);
    coarse += given.coarse;
    // What one pattern stands for was not told apart as finely as policies name things.
    let is_coarse = given.coarse > 0;
    let ends = side.snapshot.life_of(agent, now).ends;
    let mut open: BTreeMap<&Cell, Entitled> = BTreeMap::new();
    let mut all = Vec::new();
    for moment in &moments {
        let mut found: BTreeMap<&Cell, Verdict> = BTreeMap::new();
        for cell in &given.cells {
            let verdict = if is_over() {
                coarse += 1;
                unsure("there was no time to look at it")
            } else {
                match side.look(bench, Some(agent), cell, *moment) {
                    Some(verdict) => verdict,
                    None => unsure("it could not be looked at"),
                }
            };
            let is_lifted = || side.snapshot.approvals_of(agent, *moment).next().is_some();
            let is_vague = cell.is_pattern() && (is_coarse || named.meets(cell));
            let verdict = match verdict.holds {
                Holds::Always | Holds::Never if is_vague => {
                    Verdict { causes: verdict.causes, ..unsure("policies name more within it than was told apart") }
                }
                // Which of them is told apart by the question.
                Holds::Never if is_lifted() => {
                    Verdict { causes: verdict.causes, ..unsure("a person approved something that policies hold back") }
                }
                _ => verdict,
            };
            found.insert(cell, verdict);
        }
        let weaker: Vec<(&Cell, u8)> =
            found.iter().map(|(cell, verdict)| (*cell, rank(&verdict.holds))).filter(|(_, rank)| *rank < 2).collect();
        for (cell, verdict) in &found {
            let own = rank(&verdict.holds);
            let within = |(other, rank): &&(&Cell, u8)| *rank < own && *other != *cell && cell.covers(other);
            let mut except: Vec<Cell> = Vec::new();
            let is_late = is_over();
            if !is_late {
                except.extend(weaker.iter().filter(within).take(EXCEPT + 1).map(|(other, _)| (*other).clone()));
            }
            let is_cut = is_late || except.len() > EXCEPT;
            except.truncate(EXCEPT);
            coarse += u32::from(is_cut);
            let verdict = match verdict.holds {
                Holds::Always if is_cut => {
                    Verdict { causes: verdict.causes.clone(), ..unsure("less is true of more within it than is told") }
                }
                _ => verdict.clone(),
            };
            let own = rank(&verdict.holds);
            let is_same = open.get(cell).is_some_and(|before| {
                rank(&before.holds) == own && before.except == except && names(&before.holds) == names(&verdict.holds)
            });
            if is_same {
                continue;
            }
            if let Some(before) = open.remove(cell) {
                all.push(Entitled { until: Some(*moment), ..before });
            }
            let next = Entitled {
                cell: (*cell).clone(),
                holds: verdict.holds.clone(),
                causes: verdict.causes.clone(),
                except,
                from: (*moment != now).then_some(*moment),
                until: None,
            };
            open.insert(*cell, next);
        }
    }
    all.extend(open.into_values().map(|last| Entitled { until: last.until.or(ends), ..last }));
    all.sort_by(|a, b| (&a.cell, a.from).cmp(&(&b.cell, b.from)));
    (all, coarse)
}
