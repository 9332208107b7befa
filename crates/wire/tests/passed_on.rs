//! What is passed on as bytes is, on the wire, what is declared in proto/.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::registry as wire;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use wire::declaration::Object;
use wire::watch_response::News;

#[test]
fn a_piece_of_a_snapshot_is_what_is_declared() {
    let role = |name: &str| {
        let metadata = Some(wire::Metadata { name: name.into(), namespace: "pay".into(), ..wire::Metadata::default() });
        wire::Declaration { object: Some(Object::Role(wire::Role { metadata, spec: None })) }
    };
    let objects = [role("reader"), role("writer"), wire::Declaration::default()];
    let part = wire::SnapshotPart { revision: 7, first: true, last: true, history: vec![3; 32], objects: vec![] };
    let part = part.with_objects(&objects);
    let sent = wire::WatchResponse { news: Some(News::Snapshot(part.clone())) }.encode_to_vec();

    let pool = DescriptorPool::decode(legate_wire::DESCRIPTORS).unwrap();
    let declared = pool.get_message_by_name("legate.registry.v1.WatchResponse").unwrap();
    let read = DynamicMessage::decode(declared, sent.as_slice()).unwrap();
    let snapshot = read.get_field_by_name("snapshot").unwrap();
    let snapshot = snapshot.as_message().unwrap();
    assert_eq!(snapshot.unknown_fields().count(), 0);
    assert_eq!(snapshot.get_field_by_name("revision").unwrap().as_u64(), Some(7));
    assert_eq!(snapshot.get_field_by_name("history").unwrap().as_bytes().unwrap().len(), 32);
    let named: Vec<wire::Declaration> = snapshot
        .get_field_by_name("objects")
        .unwrap()
        .as_list()
        .unwrap()
        .iter()
        .map(|object| object.as_message().unwrap().transcode_to().unwrap())
        .collect();
    assert_eq!(named, objects);
    // And back again.
    let wire::WatchResponse { news } = wire::WatchResponse::decode(read.encode_to_vec().as_slice()).unwrap();
    let Some(News::Snapshot(again)) = news else { panic!("no piece") };
    assert_eq!(again.declarations().unwrap(), objects);
    assert_eq!(again, part);
}
