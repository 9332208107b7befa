//! Every message, field, method and value of the protobufs says what it is.

use prost::Message as _;
use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Where in a file's description things are listed (google/protobuf/descriptor.proto).
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
const FIELD: i32 = 2;
const NESTED: i32 = 3;
const NESTED_ENUM: i32 = 4;
const VALUE: i32 = 2;
const METHOD: i32 = 2;

struct Reader<'a> {
    file: &'a FileDescriptorProto,
    mute: Vec<String>,
}

impl Reader<'_> {
    fn expect(&mut self, path: &[i32], name: &str) {
        let told = |l: &Location| l.path == path && !l.leading_comments().trim().is_empty();
        let info = self.file.source_code_info.as_ref();
        if !info.is_some_and(|info| info.location.iter().any(told)) {
            self.mute.push(format!("{}: {name}", self.file.name()));
        }
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto) {
        self.expect(path, message.name());
        for (at, field) in (0..).zip(&message.field) {
            self.expect(&[path, &[FIELD, at]].concat(), &format!("{}.{}", message.name(), field.name()));
        }
        for (at, nested) in (0..).zip(&message.nested_type) {
            // The entry of a map is made by the compiler.
            if !nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
                self.message(&[path, &[NESTED, at]].concat(), nested);
            }
        }
        for (at, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(&[path, &[NESTED_ENUM, at]].concat(), nested);
        }
    }

    fn enumeration(&mut self, path: &[i32], enumeration: &EnumDescriptorProto) {
        self.expect(path, enumeration.name());
        for (at, value) in (0..).zip(&enumeration.value) {
            self.expect(&[path, &[VALUE, at]].concat(), value.name());
        }
    }
}

#[test]
fn everything_in_the_protobufs_is_documented() {
    let all = FileDescriptorSet::decode(legate_wire::DESCRIPTORS).unwrap();
    let mut mute = Vec::new();
    let mut messages = 0;
    for file in all.file.iter().filter(|f| ["legate.", "envoy."].iter().any(|ours| f.package().starts_with(ours))) {
        let mut reader = Reader { file, mute: Vec::new() };
        for (at, message) in (0..).zip(&file.message_type) {
            reader.message(&[MESSAGE, at], message);
            messages += 1;
        }
        for (at, enumeration) in (0..).zip(&file.enum_type) {
            reader.enumeration(&[ENUM, at], enumeration);
        }
        for (at, service) in (0..).zip(&file.service) {
            reader.expect(&[SERVICE, at], service.name());
            for (method_at, method) in (0..).zip(&service.method) {
                reader.expect(&[SERVICE, at, METHOD, method_at], &format!("{}.{}", service.name(), method.name()));
            }
        }
        mute.extend(reader.mute);
    }
    assert!(messages > 50, "the descriptors hold {messages} messages");
    assert!(mute.is_empty(), "without a comment: {mute:#?}");
}
