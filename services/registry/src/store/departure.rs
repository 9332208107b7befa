//! Persons who left, and how far the agents that name them have been seen to.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_authority::Reach;
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult, rows};
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry as wire;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::{pieces, unsigned};
use crate::domain::succession::{Departed, Gone, LONGEST_LINE, operator};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "departure")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) person: String,
    /// Empty: all of them.
    pub(crate) namespace: String,
    pub(crate) successor: String,
    /// In microseconds; none: as long as the namespace says.
    pub(crate) grace: Option<i64>,
    /// The operators that the person was, with a space between two.
    pub(crate) operators: String,
    pub(crate) reason: String,
    pub(crate) actor: String,
    pub(crate) left_at: i64,
    pub(crate) withdrawn_at: Option<i64>,
    pub(crate) withdraw_actor: String,
    pub(crate) withdraw_reason: String,
    /// When all agents that name the person had been seen to; none: that goes on, after this place.
    pub(crate) settled_at: Option<i64>,
    pub(crate) at_field: i16,
    pub(crate) at_namespace: String,
    pub(crate) at_name: String,
    pub(crate) at_object: String,
    pub(crate) passed: i64,
    pub(crate) orphaned: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Whom nobody may name any more.
mod departed {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "departed")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) who: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) namespace: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) departure_id: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

impl Model {
    /// How long an agent without a sponsor goes on working, where the departure says it.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace.map(|micros| Duration::from_micros(unsigned(micros)))
    }

    /// The operators that the person was.
    pub(crate) fn operators(&self) -> impl Iterator<Item = &str> {
        self.operators.split(' ').filter(|name| !name.is_empty())
    }

    /// What it means to whoever is named.
    pub(crate) fn gone(&self) -> Gone {
        Gone {
            namespace: self.namespace.clone(),
            successor: self.successor.clone(),
            time: Timestamp::from_micros(self.left_at),
        }
    }

    /// As it is told.
    pub(crate) fn told(&self) -> wire::Departure {
        let at = |micros: i64| prost_types::Timestamp::from(Timestamp::from_micros(micros));
        wire::Departure {
            person: self.person.clone(),
            namespace: self.namespace.clone(),
            successor: self.successor.clone(),
            grace: self.grace().and_then(|grace| prost_types::Duration::try_from(grace).ok()),
            operators: self.operators().map(str::to_owned).collect(),
            reason: self.reason.clone(),
            actor: self.actor.clone(),
            time: Some(at(self.left_at)),
            withdraw_time: self.withdrawn_at.map(at),
            withdraw_actor: self.withdraw_actor.clone(),
            withdraw_reason: self.withdraw_reason.clone(),
            settle_time: self.settled_at.map(at),
            agents_passed: unsigned(self.passed),
            agents_orphaned: unsigned(self.orphaned),
        }
    }

    /// Whom nobody may name because of it.
    fn who(&self) -> Vec<departed::Model> {
        let all = std::iter::once(self.person.clone()).chain(self.operators().map(operator));
        let one = |who| departed::Model { who, namespace: self.namespace.clone(), departure_id: self.id.clone() };
        all.map(one).collect()
    }
}

/// Writes a new departure; from now on nobody names the person.
pub(crate) async fn insert(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    let who = row.who().into_iter().map(|row| departed::ActiveModel::from(row).reset_all());
    departed::Entity::insert_many(who).exec_without_returning(tx).await?;
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes a departure as it is now.
pub(crate) async fn update(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    if row.withdrawn_at.is_some() {
        departed::Entity::delete_many().filter(departed::Column::DepartureId.eq(&row.id)).exec(tx).await?;
    }
    Entity::update(ActiveModel::from(row).reset_all()).exec(tx).await?;
    Ok(())
}

/// Ends every departure from a namespace that is taken back.
pub(crate) async fn end_in(tx: &Tx, namespace: &str, now: Timestamp, actor: &str) -> TxResult<(), Fault> {
    let of_it = Entity::find().filter(Column::Namespace.eq(namespace)).filter(Column::WithdrawnAt.is_null());
    for row in of_it.all(tx).await? {
        let at = Some(now.micros());
        let ended = Model { withdrawn_at: at, withdraw_actor: actor.to_owned(), settled_at: at, ..row };
        update(tx, Model { withdraw_reason: "the namespace was taken back".to_owned(), ..ended }).await?;
    }
    Ok(())
}

pub(crate) async fn by_id(tx: &Tx, id: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(id).one(tx).await?)
}

/// The departure of a person, from one namespace or (empty) from all of them, that stands.
pub(crate) async fn in_force(tx: &Tx, person: &str, namespace: &str) -> TxResult<Option<Model>, Fault> {
    let find = Entity::find()
        .filter(Column::Person.eq(person))
        .filter(Column::Namespace.eq(namespace))
        .filter(Column::WithdrawnAt.is_null());
    Ok(find.one(tx).await?)
}

/// One because of which agents still have to be seen to; the first of them.
pub(crate) async fn unsettled(tx: &Tx) -> TxResult<Option<String>, Fault> {
    let find = Entity::find().select_only().column(Column::Id).filter(Column::SettledAt.is_null());
    Ok(find.order_by_asc(Column::Id).limit(1).into_tuple().one(tx).await?)
}

/// What departures a list shows.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Empty: all.
    pub(crate) namespace: String,
    /// Empty: everybody's.
    pub(crate) person: String,
    pub(crate) with_withdrawn: bool,
    /// Only of the namespaces that the caller may see.
    pub(crate) sees: Reach,
}

/// Departures before one, the latest first, `limit` at most.
pub(crate) async fn page(tx: &Tx, which: &Which, before: Option<&str>, limit: u64) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find();
    if !which.namespace.is_empty() {
        find = find.filter(Column::Namespace.eq(&which.namespace));
    }
    if !which.person.is_empty() {
        find = find.filter(Column::Person.eq(&which.person));
    }
    if !which.with_withdrawn {
        find = find.filter(Column::WithdrawnAt.is_null());
    }
    if let Reach::In(names) = &which.sees {
        find = find.filter(Column::Namespace.is_in(names.iter().map(Name::as_str)));
    }
    if let Some(before) = before {
        find = find.filter(Column::Id.lt(before));
    }
    Ok(find.order_by_desc(Column::Id).limit(limit).all(tx).await?)
}

/// Who of these has left, with whoever follows them, and whoever follows those.
pub(crate) async fn of(tx: &Tx, who: BTreeSet<String>) -> TxResult<Departed, Fault> {
    let (mut all, mut next) = (Departed::default(), who);
    for _ in 0..=LONGEST_LINE {
        let mut rows = Vec::new();
        for some in pieces(next.into_iter().collect()) {
            rows.extend(departed::Entity::find().filter(rows::among(tx, departed::Column::Who, some)).all(tx).await?);
        }
        // Nearly always nobody has.
        if rows.is_empty() {
            break;
        }
        for some in pieces(rows) {
            let ids = some.iter().map(|row| &row.departure_id);
            let departures = Entity::find().filter(Column::Id.is_in(ids)).all(tx).await?;
            for row in &some {
                if let Some(departure) = departures.iter().find(|departure| departure.id == row.departure_id) {
                    all.add(&row.who, departure.gone());
                }
            }
        }
        next = all.successors();
    }
    Ok(all)
}
