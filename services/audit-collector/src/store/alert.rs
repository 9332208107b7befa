//! Alerts, as the rules found them and people changed them.

use std::collections::BTreeMap;

use legate_db::rows::{among, insert, pieces};
use legate_db::{Tx, TxResult};
use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Condition, Iterable as _, QueryOrder as _, QuerySelect as _};

use super::event::{key, signed, unsigned};
use crate::domain::detect::Step;
use crate::domain::detect::alert::Alert;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "alert")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) finding: String,
    pub(crate) ordinal: i64,
    pub(crate) r#type: i16,
    pub(crate) severity: i16,
    pub(crate) status: i16,
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    pub(crate) summary: String,
    pub(crate) leaves: String,
    pub(crate) count: i64,
    pub(crate) found: i64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    pub(crate) raised: Option<i64>,
    pub(crate) changed_by: String,
    pub(crate) change_reason: String,
    pub(crate) changed: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The number of one of the protobuf's enumerations, as the database has it.
fn small(number: impl Into<i32>) -> i16 {
    i16::try_from(number.into()).unwrap_or_default()
}

fn row(alert: Alert) -> Model {
    let leaves: Vec<String> = alert.leaves.iter().map(u64::to_string).collect();
    Model {
        id: alert.id,
        finding: alert.key,
        ordinal: alert.ordinal,
        r#type: small(alert.kind),
        severity: small(alert.severity),
        status: small(alert.status),
        namespace: alert.namespace,
        agent_id: alert.agent,
        summary: alert.summary.replace('\0', "\u{fffd}"),
        leaves: leaves.join(" "),
        count: signed(alert.count),
        found: signed(alert.found),
        first_time: alert.first_time,
        last_time: alert.last_time,
        raised: alert.raised.map(signed),
        changed_by: alert.by.replace('\0', "\u{fffd}"),
        change_reason: alert.why.replace('\0', "\u{fffd}"),
        changed: alert.changed_at,
    }
}

impl From<Model> for Alert {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            key: row.finding,
            ordinal: row.ordinal,
            kind: AlertType::try_from(i32::from(row.r#type)).unwrap_or_default(),
            severity: AlertSeverity::try_from(i32::from(row.severity)).unwrap_or_default(),
            status: AlertStatus::try_from(i32::from(row.status)).unwrap_or_default(),
            namespace: row.namespace,
            agent: row.agent_id,
            summary: row.summary,
            leaves: row.leaves.split(' ').filter_map(|leaf| leaf.parse().ok()).collect(),
            count: unsigned(row.count),
            found: unsigned(row.found),
            first_time: row.first_time,
            last_time: row.last_time,
            raised: row.raised.map(unsigned),
            by: row.changed_by,
            why: row.change_reason,
            changed_at: row.changed,
        }
    }
}

/// Takes in what was found and what people said, in order.
pub(super) async fn take_in<E>(tx: &Tx, steps: &[Step]) -> TxResult<(), E> {
    if steps.is_empty() {
        return Ok(());
    }
    let (mut keys, mut ids) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Finding(finding) => keys.push(finding.key()),
            Step::Raised { alert, .. } | Step::Changed { alert, .. } => ids.push(key(alert)),
        }
    }
    let mut known: BTreeMap<String, Alert> = BTreeMap::new();
    for (column, texts) in [(Column::Finding, keys), (Column::Id, ids)] {
        for texts in pieces(texts) {
            let some = Entity::find().filter(among(tx, column, texts)).all(tx).await?;
            known.extend(some.into_iter().map(|row| (row.id.clone(), row.into())));
        }
    }
    let before = known.clone();
    // The last of each key: what is found again is counted in it while nobody has resolved it.
    let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for alert in known.values() {
        let one = last.entry(alert.key.clone()).or_insert((alert.ordinal, alert.id.clone()));
        if alert.ordinal > one.0 {
            *one = (alert.ordinal, alert.id.clone());
        }
    }
    for step in steps {
        match step {
            Step::Finding(finding) => {
                let key = finding.key();
                let (ordinal, id) = last.get(&key).cloned().unwrap_or_default();
                match known.get_mut(&id) {
                    Some(alert) if alert.status != AlertStatus::Resolved => alert.count(finding),
                    _ => {
                        let alert = Alert::of(finding, ordinal + 1);
                        last.insert(key, (alert.ordinal, alert.id.clone()));
                        known.insert(alert.id.clone(), alert);
                    }
                }
            }
            Step::Raised { alert, leaf } => {
                if let Some(alert) = known.get_mut(alert) {
                    alert.raised.get_or_insert(*leaf);
                }
            }
            Step::Changed { alert, to, by, why, time } => {
                if let Some(alert) = known.get_mut(alert) {
                    alert.change(*to, by, why, *time);
                }
            }
        }
    }
    let changed = known.into_iter().filter(|(id, alert)| before.get(id) != Some(alert));
    let rows = changed.map(|(_, alert)| row(alert)).collect();
    let mut again = OnConflict::column(Column::Id);
    again.update_columns(Column::iter().filter(|column| !matches!(column, Column::Id)));
    insert::<Entity>(tx, rows, Some(&again)).await?;
    Ok(())
}

/// The oldest that are not in the log yet.
pub(crate) async fn untold<E>(tx: &Tx, most: u64) -> TxResult<Vec<Alert>, E> {
    let rows = Entity::find().filter(Column::Raised.is_null()).order_by_asc(Column::Found).limit(most).all(tx).await?;
    Ok(rows.into_iter().map(Alert::from).collect())
}

/// One, by its id.
pub(crate) async fn get<E>(tx: &Tx, id: &str) -> TxResult<Option<Alert>, E> {
    Ok(Entity::find_by_id(id.to_owned()).one(tx).await?.map(Alert::from))
}

/// Which of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    /// In one of these; `None`: anywhere.
    pub(crate) namespaces: Option<Vec<String>>,
    pub(crate) agent: String,
    pub(crate) id: String,
    /// Of one of these types; none: of any.
    pub(crate) types: Vec<i32>,
    /// 0: of any.
    pub(crate) status: i32,
    pub(crate) min_severity: i32,
    /// When what they are about happened.
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    /// Behind this one.
    pub(crate) after: Option<(u64, String)>,
}

/// Some of them, the newest first.
pub(crate) async fn list<E>(tx: &Tx, which: &Which, most: u64) -> TxResult<Vec<Alert>, E> {
    let said = |text: &String| Some(key(text)).filter(|text| !text.is_empty());
    let types: Vec<i16> = which.types.iter().map(|number| small(*number)).collect();
    let behind = which.after.clone().map(|(found, id)| {
        let same = Condition::all().add(Column::Found.eq(signed(found))).add(Column::Id.lt(id));
        Condition::any().add(Column::Found.lt(signed(found))).add(same)
    });
    let all = Condition::all()
        .add_option(which.namespaces.clone().map(|names| Column::Namespace.is_in(names)))
        .add_option(said(&which.agent).map(|agent| Column::AgentId.eq(agent)))
        .add_option(said(&which.id).map(|id| Column::Id.eq(id)))
        .add_option((!types.is_empty()).then(|| Column::Type.is_in(types)))
        .add_option((which.status != 0).then(|| Column::Status.eq(small(which.status))))
        .add_option((which.min_severity != 0).then(|| Column::Severity.gte(small(which.min_severity))))
        .add_option(which.from.map(|from| Column::LastTime.gte(from)))
        .add_option(which.to.map(|to| Column::FirstTime.lt(to)))
        .add_option(behind);
    let rows = Entity::find().filter(all).order_by_desc(Column::Found).order_by_desc(Column::Id).limit(most);
    Ok(rows.all(tx).await?.into_iter().map(Alert::from).collect())
}
