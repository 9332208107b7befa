//! Packs that hold a dossier or a report: verified as a whole, and found out at the byte that was changed.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::dossier::tests::sample;
use crate::dossier::{Document, Form, html};

/// A pack with a document in it, whose events are the leaves 3 and 17.
fn with(form: Form, change: impl FnOnce(&mut Document)) -> Parts {
    let mut document = sample(form, "payments");
    change(&mut document);
    let mut parts = parts(&[3, 17]);
    parts.files[0].1 = readme(ORIGIN, Some(form)).into_bytes();
    parts.manifest.files[0] = Listed::of(README, &parts.files[0].1);
    let (page, json) = form.files();
    for (name, bytes) in [(page, html(&document)), (json, document.json().unwrap())] {
        parts.files.push((name.to_owned(), bytes.into_bytes()));
        let (_, bytes) = parts.files.last().unwrap();
        parts.manifest.files.push(Listed::of(name, bytes));
    }
    parts.manifest.format = form.format().to_owned();
    parts.manifest.made_with = document.made.with.clone();
    parts.manifest.about = Some(document.about);
    parts.seal.details.insert("kind".to_owned(), form.word().to_owned());
    parts
}

fn refused(parts: Parts) -> BadPack {
    verified(&parts.pack()).map(|_| ()).unwrap_err()
}

#[test]
fn a_document_is_verified_with_its_pack() {
    for form in [Form::Dossier, Form::Report] {
        let held = verified(&with(form, |_| ()).pack()).unwrap();
        let document = held.document.unwrap();
        assert_eq!((document.form, document.about.namespace.as_str()), (form, "payments"));
        assert_eq!(held.manifest.events, 2);
    }
    assert_eq!(verified(&parts(&[3]).pack()).unwrap().document, None);
}

static PACK: LazyLock<Vec<u8>> = LazyLock::new(|| with(Form::Dossier, |_| ()).pack());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_changed_byte_of_a_dossier_is_found_and_its_place_named(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let mut bad = PACK.clone();
        let at = at.index(bad.len());
        bad[at] ^= flip;
        let refused = verified(&bad).map(|_| at).unwrap_err();
        prop_assert!(!refused.place.is_empty());
    }

    #[test]
    fn a_cut_dossier_is_none(end in any::<prop::sample::Index>()) {
        prop_assert!(verified(&PACK[..end.index(PACK.len())]).is_err());
    }
}

#[test]
fn the_file_that_was_changed_is_named() {
    let place = |text: &str| {
        let mut bad = PACK.clone();
        let at = bad.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bad[at] ^= 1;
        verified(&bad).map(|_| ()).unwrap_err().place
    };
    assert_eq!(place("<h1>"), "dossier.html");
    assert_eq!(place("\"revisionTime\""), "dossier.json");
    assert_eq!(place("legate-dossier/1"), MANIFEST);
    assert_eq!(place("the dossier for people"), README);
}

#[test]
fn whoever_makes_a_dossier_cannot_have_it_say_other_than_its_pack() {
    // Another kind than the log recorded, or none.
    let mut other = with(Form::Dossier, |_| ());
    other.seal.details.insert("kind".into(), "report".into());
    assert!(refused(other).what.contains("format is \"dossier\", and \"report\" on record"));
    let mut plain = with(Form::Dossier, |_| ());
    plain.manifest.format = FORMAT.into();
    assert!(refused(plain).what.contains("format is"));
    // About somebody else than the manifest says.
    let mut about = with(Form::Dossier, |_| ());
    about.manifest.about.as_mut().unwrap().agent = "another".into();
    assert_eq!(refused(about).place, "dossier.json");
    let mut nobody = with(Form::Dossier, |_| ());
    nobody.manifest.about = None;
    assert_eq!(refused(nobody).place, MANIFEST);
    // An event that is not there, though every hash is right.
    let cites = with(Form::Dossier, |document| document.sections[0].items[0].events[0].leaf = 4);
    let refused_cite = refused(cites);
    assert!(refused_cite.place == "dossier.json" && refused_cite.what.contains("cites leaf 4"), "{refused_cite}");
    // A page that tells people something else than machines.
    let mut page = with(Form::Dossier, |_| ());
    let name = Form::Dossier.files().0;
    let at = page.files.iter().position(|(file, _)| file == name).unwrap();
    page.files[at].1 =
        String::from_utf8(page.files[at].1.clone()).unwrap().replace("revision", "REVISION").into_bytes();
    let listed = page.manifest.files.iter().position(|file| file.name == name).unwrap();
    page.manifest.files[listed] = Listed::of(name, &page.files[at].1);
    assert_eq!(refused(page).place, name);
    // A document without its page.
    let mut half = with(Form::Dossier, |_| ());
    half.files.retain(|(file, _)| file != name);
    half.manifest.files.retain(|file| file.name != name);
    assert_eq!(refused(half).place, name);
}

#[test]
fn a_document_that_is_too_large_is_not_read() {
    let mut large = with(Form::Dossier, |_| ());
    let (_, name) = Form::Dossier.files();
    let at = large.files.iter().position(|(file, _)| file == name).unwrap();
    large.files[at].1 = vec![b' '; usize::try_from(most_bytes(name)).unwrap() + 1];
    let refused = refused(large);
    assert!(refused.place == name && refused.what.contains("over 16 MiB"), "{refused}");
}
