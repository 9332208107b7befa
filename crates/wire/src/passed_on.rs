//! Messages of which parts are passed on as the bytes that they rest as.

use bytes::Bytes;
use prost::Message as _;

use crate::registry::Declaration;

/// `legate.registry.v1.SnapshotPart`, of which the objects stay bytes. A message in a field and bytes in a field are the same
/// on the wire (protobuf.dev, "Encoding": length-delimited records), so whoever reads it as it is declared reads it rightly.
/// The registry sends what rests without reading it, and a watcher reads it with as many threads as it likes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotPart {
    /// The revision of the snapshot.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// The objects in this piece, each the bytes of a `Declaration`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub objects: Vec<Bytes>,
    /// Whether this is the first piece.
    #[prost(bool, tag = "3")]
    pub first: bool,
    /// Whether this is the last piece; only then does the snapshot hold.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// Stands for every change up to the revision; in the last piece. 32 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub history: Vec<u8>,
}

impl SnapshotPart {
    /// With these objects.
    #[must_use]
    pub fn with_objects<'a>(self, objects: impl IntoIterator<Item = &'a Declaration>) -> Self {
        let objects = objects.into_iter().map(|object| object.encode_to_vec().into()).collect();
        Self { objects, ..self }
    }

    /// The objects, read.
    ///
    /// # Errors
    /// When one of them is no `Declaration`.
    pub fn declarations(&self) -> Result<Vec<Declaration>, prost::DecodeError> {
        self.objects.iter().map(|object| Declaration::decode(object.as_ref())).collect()
    }
}
