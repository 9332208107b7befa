//! Events as a file in Apache Parquet: what is asked about in columns of its own, and the whole event beside them.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, IndexedEvent};
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use crate::proto;

/// What a column holds of an event; what an event does not say is NULL.
#[derive(Clone, Copy)]
enum Column {
    /// A text; an empty one is not said.
    Text(fn(&Row) -> &str),
    /// The same, put together.
    Joined(fn(&AuditEvent) -> String),
    Whole(fn(&Row) -> Option<u64>),
    Flag(fn(&AuditEvent) -> Option<bool>),
    /// Microseconds since 1970.
    Time,
    /// The leaf's hash.
    Hash,
    /// All of it.
    Json,
}

/// The columns, in their order. They are what others rely on: a new one comes at the end.
const COLUMNS: [(&str, Column); 37] = [
    ("leaf_index", Column::Whole(|row| Some(row.of.leaf_index))),
    ("leaf_hash", Column::Hash),
    ("time", Column::Time),
    ("event_id", Column::Text(|row| &row.event.event_id)),
    ("type", Column::Text(|row| &row.event.r#type)),
    ("namespace", Column::Text(|row| &row.event.namespace)),
    ("agent_id", Column::Text(|row| &row.event.agent_id)),
    ("instance_id", Column::Text(|row| &row.event.instance_id)),
    (
        "acting_mode",
        Column::Text(|row| set(row.event.acting_mode, row.event.acting_mode().as_str_name(), "ACTING_MODE_")),
    ),
    ("subject", Column::Text(|row| &row.event.subject)),
    ("chain", Column::Joined(|event| event.chain.join(" "))),
    ("actor", Column::Text(|row| &row.event.actor)),
    ("action", Column::Text(|row| &row.event.action)),
    ("resource_type", Column::Text(|row| row.event.resource.as_ref().map_or("", |one| &one.r#type))),
    ("resource_id", Column::Text(|row| row.event.resource.as_ref().map_or("", |one| &one.id))),
    (
        "resource_data_classification",
        Column::Text(|row| row.event.resource.as_ref().map_or("", |one| &one.data_classification)),
    ),
    ("resource_region", Column::Text(|row| row.event.resource.as_ref().map_or("", |one| &one.region))),
    ("outcome", Column::Text(|row| set(row.event.outcome, row.event.outcome().as_str_name(), "OUTCOME_"))),
    ("reason_code", Column::Text(|row| &row.event.reason_code)),
    ("reason", Column::Text(|row| &row.event.reason)),
    ("decision_id", Column::Text(|row| row.event.decision.as_ref().map_or("", |one| &one.decision_id))),
    ("decision_allowed", Column::Flag(|event| event.decision.as_ref().map(|one| one.allowed))),
    ("decision_denial", Column::Text(|row| row.event.decision.as_ref().map_or("", |one| &one.denial))),
    (
        "decision_determining",
        Column::Joined(|event| event.decision.as_ref().map(|one| one.determining.join(" ")).unwrap_or_default()),
    ),
    ("grant_id", Column::Text(|row| &row.event.grant_id)),
    ("credential_id", Column::Text(|row| &row.event.credential_id)),
    ("approver", Column::Text(|row| &row.event.approver)),
    ("revision", Column::Whole(|row| Some(row.event.revision).filter(|revision| *revision != 0))),
    ("correlation_id", Column::Text(|row| &row.event.correlation_id)),
    ("trace_id", Column::Text(|row| &row.event.trace_id)),
    ("span_id", Column::Text(|row| &row.event.span_id)),
    ("cause_id", Column::Text(|row| &row.event.cause_id)),
    ("emitter", Column::Text(|row| row.event.emitter.as_ref().map_or("", |one| &one.spiffe_id))),
    ("emitter_epoch", Column::Text(|row| row.event.emitter.as_ref().map_or("", |one| &one.epoch))),
    ("emitter_seq", Column::Whole(|row| row.event.emitter.as_ref().map(|one| one.seq))),
    ("trust", Column::Text(|row| set(row.of.trust, row.of.trust().as_str_name(), "TRUST_CLASS_"))),
    ("event", Column::Json),
];

fn set(number: i32, name: &'static str, before: &str) -> &'static str {
    if number == 0 { "" } else { proto::word(name, before) }
}

/// One event, as it becomes a row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    of: IndexedEvent,
    event: AuditEvent,
    json: String,
}

impl Row {
    /// The event of an answer. Its hash has 32 bytes, or it is no answer.
    pub(crate) fn of(of: &IndexedEvent) -> serde_json::Result<Self> {
        if of.leaf_hash.len() != 32 {
            return Err(serde::ser::Error::custom(format!("leaf {}: its hash has not 32 bytes", of.leaf_index)));
        }
        let event = of.event.clone().unwrap_or_default();
        let json = proto::json(&proto::dynamic(&event), false)?;
        let of = IndexedEvent { event: None, ..of.clone() };
        Ok(Self { of, event, json })
    }

    /// Its place in the log.
    pub(crate) fn leaf(&self) -> u64 {
        self.of.leaf_index
    }

    /// In bytes, about.
    pub(crate) fn size(&self) -> usize {
        2 * self.json.len()
    }

    /// The day of UTC on which it happened, and the namespace; empty: none.
    pub(crate) fn partition(&self) -> (String, String) {
        let time = self.time().map(|t| t.to_string()).unwrap_or_default();
        (time.get(..10).unwrap_or("0001-01-01").to_owned(), self.event.namespace.clone())
    }

    fn time(&self) -> Option<Timestamp> {
        self.event.time.and_then(|t| Timestamp::try_from(t).ok())
    }
}

impl Column {
    fn declared(self, name: &str) -> String {
        match self {
            Self::Text(_) | Self::Joined(_) => format!("OPTIONAL BYTE_ARRAY {name} (STRING);"),
            Self::Whole(_) if name == "leaf_index" => format!("REQUIRED INT64 {name};"),
            Self::Whole(_) => format!("OPTIONAL INT64 {name};"),
            Self::Flag(_) => format!("OPTIONAL BOOLEAN {name};"),
            Self::Time => format!("OPTIONAL INT64 {name} (TIMESTAMP(MICROS,true));"),
            Self::Hash => format!("REQUIRED FIXED_LEN_BYTE_ARRAY (32) {name};"),
            Self::Json => format!("REQUIRED BYTE_ARRAY {name} (JSON);"),
        }
    }
}

static SCHEMA: LazyLock<Result<Arc<Type>>> = LazyLock::new(|| {
    let columns: String = COLUMNS.iter().map(|(name, column)| column.declared(name)).collect();
    parse_message_type(&format!("message legate_audit_event {{ {columns} }}")).map(Arc::new)
});

/// Splits what is there from whether it is there.
fn levels<T>(all: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for one in all {
        levels.push(i16::from(one.is_some()));
        values.extend(one);
    }
    (values, levels)
}

fn texts<'a>(all: impl Iterator<Item = std::borrow::Cow<'a, str>>) -> (Vec<ByteArray>, Vec<i16>) {
    levels(all.map(|text| (!text.is_empty()).then(|| ByteArray::from(text.as_bytes().to_vec()))))
}

/// Writes rows as one file, of one row group: the same rows are the same bytes.
pub(crate) fn write_rows<W: Write + Send>(to: W, rows: &[Row]) -> Result<W> {
    let schema = SCHEMA.as_ref().map_err(|e| ParquetError::General(e.to_string()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("legate ", env!("CARGO_PKG_VERSION")).to_owned());
    let mut file = SerializedFileWriter::new(to, Arc::clone(schema), Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    for (name, column) in COLUMNS {
        let Some(mut out) = group.next_column()? else { break };
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        match column {
            Column::Text(get) => {
                let (values, levels) = texts(rows.iter().map(|row| get(row).into()));
                out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
            }
            Column::Joined(get) => {
                let (values, levels) = texts(rows.iter().map(|row| get(&row.event).into()));
                out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
            }
            Column::Whole(get) => {
                let (values, levels) = levels(rows.iter().map(|row| get(row).map(signed)));
                let levels = (name != "leaf_index").then_some(levels);
                out.typed::<Int64Type>().write_batch(&values, levels.as_deref(), None)?;
            }
            Column::Flag(get) => {
                let (values, levels) = levels(rows.iter().map(|row| get(&row.event)));
                out.typed::<BoolType>().write_batch(&values, Some(&levels), None)?;
            }
            Column::Time => {
                let (values, levels) = levels(rows.iter().map(|row| row.time().map(Timestamp::micros)));
                out.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
            }
            Column::Hash => {
                let values: Vec<FixedLenByteArray> = rows.iter().map(|row| row.of.leaf_hash.clone().into()).collect();
                out.typed::<FixedLenByteArrayType>().write_batch(&values, None, None)?;
            }
            Column::Json => {
                let values: Vec<ByteArray> = rows.iter().map(|row| row.json.as_bytes().to_vec().into()).collect();
                out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            }
        }
        out.close()?;
    }
    group.close()?;
    file.into_inner()
}
