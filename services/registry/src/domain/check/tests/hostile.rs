//! Hostile text in every field that holds text: each is found through the descriptors, so that one that is new is tried too, and each
//! refuses what nobody can see or what is too long, or is named here as one that keeps it letter for letter.

use std::collections::BTreeSet;

use prost_reflect::{Kind as Is, MapKey, MessageDescriptor, Value};
use wire::stop_scope::Level;
use wire::{RequestApprovalRequest, StopScope};

use super::*;

/// What is put into the middle of a good text.
const HOSTILE: [(&str, &str); 14] = [
    ("NUL", "\u{0}"),
    ("BEL", "\u{7}"),
    ("carriage return", "\r"),
    ("escape sequence", "\u{1b}[2J\u{1b}[31m"),
    ("DEL", "\u{7f}"),
    ("NEL", "\u{85}"),
    ("soft hyphen", "\u{ad}"),
    ("zero width space", "\u{200b}"),
    ("right-to-left mark", "\u{200f}"),
    ("line separator", "\u{2028}"),
    ("right-to-left override", "a\u{202e}b"),
    ("isolate", "a\u{2066}b\u{2069}"),
    ("byte order mark", "\u{feff}"),
    ("tag", "\u{e0041}"),
];

/// Fields that take something of these, and what. They keep it as it came.
const KEEPS: &[(&str, &str)] = &[
    // Cedar has lines, and files of Windows end them with two characters.
    ("legate.registry.v1.PolicySpec.cedar", "carriage return"),
    ("legate.registry.v1.NamespaceSpec.policy_schema", "carriage return"),
    // So have texts of JSON, between its parts.
    ("legate.registry.v1.FederatedTrustDomainSpec.bundle", "carriage return"),
    ("legate.registry.v1.SigningKeySpec.jwk", "carriage return"),
    ("legate.registry.v1.TrustedIssuerSpec.jwks", "carriage return"),
];

/// A good message, and what is wrong with one like it.
struct Taken {
    name: String,
    sample: DynamicMessage,
    judge: Box<dyn Fn(DynamicMessage) -> Vec<Problem>>,
}

fn of<M: prost::Message + prost::Name + Default + 'static>(sample: &M, judge: fn(&M) -> Vec<Problem>) -> Taken {
    let (field, _) = reflect::object(&samples::one_of_each()[0]).unwrap();
    let descriptor = field.parent_message().parent_pool().get_message_by_name(&M::full_name()).unwrap();
    let sample = DynamicMessage::decode(descriptor, sample.encode_to_vec().as_slice()).unwrap();
    let judge = move |message: DynamicMessage| judge(&M::decode(message.encode_to_vec().as_slice()).unwrap());
    Taken { name: M::full_name(), sample, judge: Box::new(judge) }
}

fn declared(declaration: &wire::Declaration) -> Taken {
    let (field, sample) = reflect::object(declaration).unwrap();
    let name = sample.descriptor().full_name().to_owned();
    Taken { name, sample, judge: Box::new(move |object| check(&reflect::declaration(&field, object))) }
}

/// Everything that somebody gives the registry to keep: what operators declare, what credential-issuer publishes, what agents ask to
/// be approved, and whom is stopped. Where one message cannot set every field of its kind, several do.
fn all_taken() -> Vec<Taken> {
    let declarations = samples::one_of_each().into_iter().filter(|sample| !is_published(sample));
    let mut all: Vec<Taken> = declarations.map(|sample| declared(&sample)).collect();
    let mut issuer = samples::trusted_issuer();
    let spec = issuer.spec.as_mut().unwrap();
    (spec.jwks, spec.jwks_uri) = (String::new(), "https://issuer.example.com/keys".into());
    all.push(declared(&samples::declared(Object::TrustedIssuer(issuer))));

    let mut domain = samples::federated_trust_domain();
    // The middle of it is a text that nobody needs.
    domain.spec.as_mut().unwrap().bundle = r#"{"keys":[],"note":"a text that is of no use to anybody"}"#.into();
    all.push(declared(&samples::declared(Object::FederatedTrustDomain(domain))));

    all.push(of(&samples::signing_key(), check_signing_key));
    let revocation = samples::revocation();
    let of_token = wire::RevocationSpec {
        credential_id: String::new(),
        x5t_s256: Vec::new(),
        token_id: "0123456789abcdef".into(),
        ..revocation.clone()
    };
    all.extend([of(&revocation, check_revocation), of(&of_token, check_revocation)]);
    let ask = RequestApprovalRequest {
        permissions: vec![samples::permission("invoice:pay")],
        audience: "https://invoices.example.com".into(),
        purpose: "Pays what is due.".into(),
        binding_message: "run 4711".into(),
        reason: "it is due".into(),
        ..RequestApprovalRequest::default()
    };
    all.push(of(&ask, check_approval));
    let levels = [
        Level::Agent("invoice-bot".into()),
        Level::AgentClass("clerk".into()),
        Level::Group("clerks".into()),
        Level::Owner("user:ada@example.com".into()),
    ];
    for level in levels {
        let scope = StopScope { namespace: "payments".into(), level: Some(level) };
        all.push(of(&scope, |scope| check_stop_scope(Some(scope))));
    }
    all
}

/// Changes the `n`th text of a message: the field that it stands in, and the text as it is then. None: there are not so many.
fn change(message: &mut DynamicMessage, n: &mut usize, to: &dyn Fn(&str) -> String) -> Option<(String, String)> {
    let fields: Vec<_> = message.descriptor().fields().collect();
    for field in fields {
        if reflect::is_output_only(&field) || !message.has_field(&field) {
            continue;
        }
        let mut value = message.get_field(&field).into_owned();
        if let Some(changed) = change_in(field.full_name(), &mut value, n, to) {
            message.set_field(&field, value);
            return Some(changed);
        }
    }
    None
}

fn change_in(name: &str, value: &mut Value, n: &mut usize, to: &dyn Fn(&str) -> String) -> Option<(String, String)> {
    match value {
        Value::String(text) => {
            *text = turn(text, n, to)?;
            Some((name.to_owned(), text.clone()))
        }
        Value::Message(inner) => change(inner, n, to),
        Value::List(items) => items.iter_mut().find_map(|item| change_in(name, item, n, to)),
        Value::Map(entries) => {
            let mut keys: Vec<String> = entries.keys().filter_map(MapKey::as_str).map(str::to_owned).collect();
            keys.sort();
            for key in keys {
                if let Some(changed) = turn(&key, n, to) {
                    let held = entries.remove(&MapKey::String(key)).unwrap();
                    entries.insert(MapKey::String(changed.clone()), held);
                    return Some((format!("{name} (key)"), changed));
                }
                if let Some(changed) = change_in(name, entries.get_mut(&MapKey::String(key)).unwrap(), n, to) {
                    return Some(changed);
                }
            }
            None
        }
        _ => None,
    }
}

/// The text, changed where its turn has come.
fn turn(text: &str, n: &mut usize, to: &dyn Fn(&str) -> String) -> Option<String> {
    if *n == 0 {
        return Some(to(text));
    }
    *n -= 1;
    None
}

/// Every field below a message that holds text and is not the registry's own.
fn texts_of(message: &MessageDescriptor, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if !seen.insert(message.full_name().to_owned()) {
        return;
    }
    for field in message.fields().filter(|field| !reflect::is_output_only(field)) {
        let mut of = field.clone();
        if let (true, Is::Message(entry)) = (field.is_map(), field.kind()) {
            found.insert(format!("{} (key)", field.full_name()));
            of = entry.map_entry_value_field();
        }
        match of.kind() {
            Is::String => drop(found.insert(field.full_name().to_owned())),
            Is::Message(inner) => texts_of(&inner, seen, found),
            _ => {}
        }
    }
}

/// The good text with something in the middle of it, or at its end.
fn with(hostile: &str, at_end: bool) -> impl Fn(&str) -> String {
    move |text| {
        let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
        let (before, after) = text.split_at(if at_end { text.len() } else { middle });
        format!("{before}{hostile}{after}")
    }
}

/// Fields that no check sees: what becomes of them is tried where they are read.
const ELSEWHERE: &[&str] = &[
    // The grammar of all request ids (`Call::new`).
    "legate.registry.v1.RequestApprovalRequest.request_id",
    // An operator orders it, as a RevokeIssuedRequest.
    "legate.registry.v1.CutOff.agent_class",
    "legate.registry.v1.CutOff.owner",
    "legate.registry.v1.CutOff.subject",
];

#[test]
fn every_text_is_in_a_sample() {
    let (mut there, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for Taken { sample, .. } in all_taken() {
        texts_of(&sample.descriptor(), &mut BTreeSet::new(), &mut there);
        for n in 0.. {
            match change(&mut sample.clone(), &mut { n }, &str::to_owned) {
                Some((field, _)) => drop(tried.insert(field)),
                None => break,
            }
        }
    }
    tried.extend(ELSEWHERE.iter().map(ToString::to_string));
    let never: Vec<_> = there.difference(&tried).collect();
    assert!(never.is_empty(), "no sample sets these, so nobody tries them: {never:#?}");
    let unknown: Vec<_> = ELSEWHERE.iter().filter(|field| !there.contains(**field)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn hostile_text_is_refused_or_kept_letter_for_letter() {
    let (mut kept, mut wrong) = (BTreeSet::new(), BTreeSet::new());
    let long = "x".repeat(1 << 20);
    for Taken { name, sample, judge } in all_taken() {
        assert_eq!(judge(sample.clone()), [], "the sample of {name} is good");
        for (what, hostile) in HOSTILE.into_iter().chain([("1 MiB", long.as_str())]) {
            for (n, at_end) in (0..).flat_map(|n| [(n, false), (n, true)]) {
                let mut message = sample.clone();
                let Some((field, text)) = change(&mut message, &mut { n }, &with(hostile, at_end)) else { break };
                let problems = judge(message.clone());
                // Whoever is told why is not shown it either.
                let is_shown = |text: &str| text.len() > 4_096 || text.chars().any(legate_ids::is_deceptive);
                for problem in &problems {
                    if is_shown(&problem.path) || is_shown(&problem.why) {
                        wrong.insert(format!("{field} repeats {what}: {:.200?}", problem.why));
                    }
                }
                if problems.is_empty() {
                    kept.insert((field.clone(), what));
                    let bytes = message.encode_to_vec();
                    let again = DynamicMessage::decode(message.descriptor(), bytes.as_slice()).unwrap();
                    let found = change(&mut again.clone(), &mut { n }, &str::to_owned);
                    assert_eq!(found, Some((field, text)), "{what}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let named: BTreeSet<_> = KEEPS.iter().map(|(field, what)| ((*field).to_owned(), *what)).collect();
    assert_eq!(kept, named);
}
