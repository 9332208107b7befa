//! Signing keys: one row for each that ever was, so that no id is given twice; their private halves are elsewhere.

use std::collections::HashSet;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_token::{KeyId, PublicKey};
use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};

use crate::domain::keyring::{KeyUse, Life, State};
use crate::error::{KEY_NOT_FOUND, flow};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_key")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) kid: String,
    pub(crate) purpose: i32,
    pub(crate) state: i32,
    /// The point, uncompressed (SEC 1).
    #[sea_orm(column_type = "Blob")]
    pub(crate) public_key: Vec<u8>,
    /// Of a CA.
    #[sea_orm(column_type = "Blob", nullable)]
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) prepared_at: i64,
    /// When verifiers could first know it.
    pub(crate) known_at: Option<i64>,
    pub(crate) activated_at: Option<i64>,
    /// Until when what it signed is believed.
    pub(crate) ends_at: Option<i64>,
    pub(crate) retired_at: Option<i64>,
    /// The state that the registry last confirmed; 0: none yet.
    pub(crate) told: i32,
    /// Whether its private half was destroyed.
    pub(crate) destroyed: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The row that whoever changes the keys of a use holds while he does, so that of several issuers one rotates.
mod turn {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_turn")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) purpose: i32,
        /// How often it was taken.
        pub(crate) taken: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// How a use stands in the table.
pub(crate) const fn number(purpose: KeyUse) -> i32 {
    match purpose {
        KeyUse::AccessTokens => 1,
        KeyUse::JwtSvids => 2,
        KeyUse::WorkloadsCa => 3,
        KeyUse::OperatorsCa => 4,
    }
}

/// How a state stands in the table.
pub(crate) const fn number_of(state: State) -> i32 {
    match state {
        State::Prepared => 1,
        State::Active => 2,
        State::Retiring => 3,
        State::Tainted => 4,
        State::Retired => 5,
        State::Revoked => 6,
    }
}

const STATES: [State; 6] =
    [State::Prepared, State::Active, State::Retiring, State::Tainted, State::Retired, State::Revoked];

impl Model {
    /// A new key.
    pub(crate) fn new(purpose: KeyUse, public: &PublicKey, certificate: Option<Vec<u8>>, now: Timestamp) -> Self {
        Self {
            kid: public.kid().to_string(),
            purpose: number(purpose),
            state: number_of(State::Prepared),
            public_key: public.as_sec1().to_vec(),
            certificate,
            prepared_at: now.micros(),
            // Of a CA nobody is told but by files and answers, which have it at once.
            known_at: purpose.is_ca().then_some(now.micros()),
            activated_at: None,
            ends_at: None,
            retired_at: None,
            told: 0,
            destroyed: false,
        }
    }

    pub(crate) fn purpose(&self) -> Result<KeyUse, Fault> {
        let found = KeyUse::ALL.into_iter().find(|one| number(*one) == self.purpose);
        found.ok_or_else(|| Fault::broken("a key of no use that is known here"))
    }

    pub(crate) fn state(&self) -> Result<State, Fault> {
        let found = STATES.into_iter().find(|one| number_of(*one) == self.state);
        found.ok_or_else(|| Fault::broken("a key in no state that is known here"))
    }

    pub(crate) fn public(&self) -> Result<PublicKey, Fault> {
        PublicKey::from_sec1(&self.public_key).map_err(Fault::broken)
    }

    pub(crate) fn id(&self) -> Result<KeyId, Fault> {
        KeyId::parse(&self.kid).map_err(Fault::broken)
    }

    pub(crate) fn life(&self) -> Result<Life, Fault> {
        Ok(Life {
            kid: self.kid.clone(),
            state: self.state()?,
            prepared: Timestamp::from_micros(self.prepared_at),
            known: self.known_at.map(Timestamp::from_micros),
            activated: self.activated_at.map(Timestamp::from_micros),
            ends: self.ends_at.map(Timestamp::from_micros),
        })
    }

    /// Whether the registry has yet to hear how it stands.
    pub(crate) fn is_news(&self) -> Result<bool, Fault> {
        Ok(!self.purpose()?.is_ca() && self.told != self.state)
    }
}

/// Takes the turn to change the keys of a use: nobody else does until the transaction ends.
pub(crate) async fn take_turn(tx: &Tx, purpose: KeyUse) -> TxResult<(), Fault> {
    let row = turn::ActiveModel { purpose: Set(number(purpose)), taken: Set(1) };
    let once_more = OnConflict::column(turn::Column::Purpose)
        .value(turn::Column::Taken, Expr::col((turn::Entity, turn::Column::Taken)).add(1))
        .to_owned();
    turn::Entity::insert(row).on_conflict(once_more).exec_without_returning(tx).await?;
    Ok(())
}

/// The keys that are not over yet, oldest first, and those that the registry has yet to hear of or that are yet to be destroyed.
pub(crate) async fn current(tx: &Tx) -> TxResult<Vec<Model>, Fault> {
    let over = [number_of(State::Retired), number_of(State::Revoked)];
    let unheard = Condition::all()
        .add(Expr::col(Column::Told).ne(Expr::col(Column::State)))
        .add(Column::Purpose.is_in([number(KeyUse::AccessTokens), number(KeyUse::JwtSvids)]));
    let wanted = Condition::any().add(Column::State.is_not_in(over)).add(unheard).add(Column::Destroyed.eq(false));
    Ok(Entity::find().filter(wanted).order_by_asc(Column::PreparedAt).order_by_asc(Column::Kid).all(tx).await?)
}

/// The same of one use.
pub(crate) async fn current_of(tx: &Tx, purpose: KeyUse) -> TxResult<Vec<Model>, Fault> {
    let mut all = current(tx).await?;
    all.retain(|row| row.purpose == number(purpose));
    Ok(all)
}

/// Counts what happened to the keys that verify workloads: those that ever were, and those of them that are over. It rises by one with
/// each that comes and with each that goes, and by nothing else.
pub(crate) async fn sequence(tx: &Tx) -> TxResult<u64, Fault> {
    let of = [number(KeyUse::JwtSvids), number(KeyUse::WorkloadsCa)];
    let over = [number_of(State::Retired), number_of(State::Revoked)];
    let all = Entity::find().filter(Column::Purpose.is_in(of));
    Ok(all.clone().count(tx).await? + all.filter(Column::State.is_in(over)).count(tx).await?)
}

/// Every CA certificate of a use that is believed no more.
pub(crate) async fn past_certificates(tx: &Tx, purpose: KeyUse) -> TxResult<Vec<Vec<u8>>, Fault> {
    let over = [number_of(State::Retired), number_of(State::Revoked)];
    let find = Entity::find().filter(Column::Purpose.eq(number(purpose))).filter(Column::State.is_in(over));
    Ok(find.all(tx).await?.into_iter().filter_map(|row| row.certificate).collect())
}

/// The key of that id.
pub(crate) async fn by_kid(tx: &Tx, kid: &str) -> TxResult<Option<Model>, Fault> {
    Ok(Entity::find_by_id(kid).one(tx).await?)
}

/// Those of the keys that may sign still.
pub(crate) async fn that_sign(tx: &Tx, kids: HashSet<String>) -> TxResult<HashSet<String>, Fault> {
    let states = [number_of(State::Active), number_of(State::Retiring)];
    let rows = Entity::find().filter(Column::Kid.is_in(kids)).filter(Column::State.is_in(states)).all(tx).await?;
    Ok(rows.into_iter().map(|row| row.kid).collect())
}

/// A new key. No id is given twice: a key that was here ever is refused.
pub(crate) async fn insert(tx: &Tx, row: Model) -> TxResult<(), Fault> {
    Entity::insert(ActiveModel::from(row).reset_all()).exec_without_returning(tx).await?;
    Ok(())
}

/// The key signs from now on.
pub(crate) async fn activate(tx: &Tx, kid: &str, now: Timestamp) -> TxResult<Model, Fault> {
    let set =
        [(Column::State, Expr::value(number_of(State::Active))), (Column::ActivatedAt, Expr::value(now.micros()))];
    change(tx, kid, set).await
}

/// The key signs no longer, and is believed until `ends`.
pub(crate) async fn let_go(tx: &Tx, kid: &str, ends: Timestamp) -> TxResult<Model, Fault> {
    let set = [(Column::State, Expr::value(number_of(State::Retiring))), (Column::EndsAt, Expr::value(ends.micros()))];
    change(tx, kid, set).await
}

/// The CA's certificates are to be renewed now.
pub(crate) async fn taint(tx: &Tx, kid: &str) -> TxResult<Model, Fault> {
    change(tx, kid, [(Column::State, Expr::value(number_of(State::Tainted)))]).await
}

/// The key is over before its time: RETIRED or REVOKED.
pub(crate) async fn end(tx: &Tx, kid: &str, state: State, now: Timestamp) -> TxResult<Model, Fault> {
    let set = [
        (Column::State, Expr::value(number_of(state))),
        (Column::RetiredAt, Expr::value(now.micros())),
        (Column::EndsAt, Expr::value(now.micros())),
    ];
    change(tx, kid, set).await
}

/// The key is over at its time, of which the registry knows.
pub(crate) async fn run_out(tx: &Tx, kid: &str, now: Timestamp) -> TxResult<Model, Fault> {
    let over = number_of(State::Retired);
    let set = [
        (Column::State, Expr::value(over)),
        (Column::Told, Expr::value(over)),
        (Column::RetiredAt, Expr::value(now.micros())),
    ];
    change(tx, kid, set).await
}

/// The registry confirmed how the key stood; it may stand otherwise by now.
pub(crate) async fn told(tx: &Tx, kid: &str, state: i32, now: Timestamp) -> TxResult<(), Fault> {
    Entity::update_many()
        .col_expr(Column::Told, Expr::value(state))
        .filter(Column::Kid.eq(kid))
        .filter(Column::State.eq(state))
        .exec(tx)
        .await?;
    Entity::update_many()
        .col_expr(Column::KnownAt, Expr::value(now.micros()))
        .filter(Column::Kid.eq(kid))
        .filter(Column::KnownAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

/// The private half is gone.
pub(crate) async fn destroyed(tx: &Tx, kid: &str) -> TxResult<(), Fault> {
    change(tx, kid, [(Column::Destroyed, Expr::value(true))]).await.map(drop)
}

async fn change<const N: usize>(tx: &Tx, kid: &str, set: [(Column, Expr); N]) -> TxResult<Model, Fault> {
    let mut update = Entity::update_many().filter(Column::Kid.eq(kid));
    for (column, value) in set {
        update = update.col_expr(column, value);
    }
    update.exec(tx).await?;
    by_kid(tx, kid).await?.ok_or_else(|| flow(Fault::refused(&KEY_NOT_FOUND, format!("no key {kid}"))))
}

/// A page of keys, newest first, from behind `before` on.
pub(crate) async fn page(
    tx: &Tx,
    purpose: Option<KeyUse>,
    with_ended: bool,
    before: Option<(i64, String)>,
    limit: u64,
) -> TxResult<Vec<Model>, Fault> {
    let mut find = Entity::find();
    if let Some(purpose) = purpose {
        find = find.filter(Column::Purpose.eq(number(purpose)));
    }
    if !with_ended {
        find = find.filter(Column::State.is_not_in([number_of(State::Retired), number_of(State::Revoked)]));
    }
    if let Some((at, kid)) = before {
        let same = Condition::all().add(Column::PreparedAt.eq(at)).add(Column::Kid.lt(kid));
        find = find.filter(Condition::any().add(Column::PreparedAt.lt(at)).add(same));
    }
    Ok(find.order_by_desc(Column::PreparedAt).order_by_desc(Column::Kid).limit(limit + 1).all(tx).await?)
}
