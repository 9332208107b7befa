//! What every declared object carries: its name, its namespace, labels, annotations.

use std::collections::BTreeMap;

use legate_wire::registry::{Kind, Metadata};

use super::findings::{Findings, LIST};
use crate::domain::text::{self, Lines, quoted};

/// The longest label, key or value, in bytes.
const LABEL: usize = 63;
/// The longest annotation, in bytes.
const ANNOTATION: usize = 4096;

pub(super) fn check(metadata: Option<&Metadata>, kind: Kind, findings: &mut Findings) {
    findings.present("metadata", metadata, |metadata, findings| {
        if metadata.name.is_empty() {
            findings.add("metadata.name", "is missing");
        } else {
            findings.name("metadata.name", &metadata.name);
        }
        match (kind, metadata.namespace.as_str()) {
            (Kind::Namespace, "") => {}
            (Kind::Namespace, _) => findings.add("metadata.namespace", "is set; a namespace is in no other"),
            // It then speaks of all namespaces.
            (Kind::OperatorBinding, "") => {}
            (_, "") => findings.add("metadata.namespace", "is missing"),
            (_, namespace) => findings.name("metadata.namespace", namespace),
        }
        labels(&metadata.labels, findings);
        annotations(&metadata.annotations, findings);
    });
}

/// Keys of labels and of annotations have one grammar.
fn key(path: &str, key: &str, findings: &mut Findings) -> bool {
    let is_good = !key.is_empty() && is_label(key);
    if !is_good {
        findings.add(path, format!("has the key {}; give 1 to {LABEL} of A-Z a-z 0-9 . _ / -", quoted(key)));
    }
    is_good
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

fn labels(labels: &BTreeMap<String, String>, findings: &mut Findings) {
    const PATH: &str = "metadata.labels";
    if !findings.at_most(PATH, labels.len(), LIST) {
        return;
    }
    for (name, value) in labels {
        if key(PATH, name, findings) && !is_label(value) {
            let why = format!("is {}; give at most {LABEL} of A-Z a-z 0-9 . _ / -", quoted(value));
            findings.add(format!("{PATH}[{name}]"), why);
        }
    }
}

fn annotations(annotations: &BTreeMap<String, String>, findings: &mut Findings) {
    const PATH: &str = "metadata.annotations";
    if !findings.at_most(PATH, annotations.len(), LIST) {
        return;
    }
    for (name, value) in annotations {
        if key(PATH, name, findings)
            && let Some(why) = text::fault_in(value, ANNOTATION, Lines::Many)
        {
            findings.add(format!("{PATH}[{name}]"), why);
        }
    }
}
