//! Documents that hold, hostile texts in every field of them, and what is refused of those that do not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use legate_ids::is_deceptive;
use proptest::prelude::*;

use super::requirements::{EVIDENCE, FRAMEWORKS, Measured, REQUIREMENTS, command, filter};
use super::*;
use crate::evidence::MADE_WITH;

/// A small document with this text wherever somebody else's text can stand.
pub(crate) fn sample(form: Form, text: &str) -> Document {
    let said = |label: &str| Cell { label: label.to_owned(), text: text.to_owned() };
    let cite = Cite { leaf: 3, event_id: "evt_0003".to_owned(), r#type: "agent.suspended".to_owned() };
    let item =
        Item { cells: vec![said("what"), said("is")], object: serde_json::json!({ "a": text }), events: vec![cite] };
    let whole = Section::new("configuration", "Configuration", Told::AsOf, text).with([item.clone(), item], 9);
    let mut cut = Section::new("drift", "Permission drift", Told::Now, text);
    cut.left_out = 7;
    let mut withheld = Section::new("alerts", "Alerts", Told::ByItsTimes, text);
    withheld.withheld = Some(Withheld { reason: "OPERATOR_NOT_PERMITTED".to_owned(), what: text.to_owned() });
    let agent = if form == Form::Dossier { text.to_owned() } else { String::new() };
    Document {
        form,
        about: About { namespace: text.to_owned(), agent: agent.clone(), agent_id: agent },
        as_of: Moment {
            time: "2026-11-24T08:00:00Z".to_owned(),
            revision: 12,
            revision_time: "2026-11-23T08:00:00Z".to_owned(),
            is_now: false,
        },
        made: Made { by: text.to_owned(), time: "2026-11-30T08:00:00Z".to_owned(), with: MADE_WITH.to_owned() },
        log: Log { name: text.to_owned(), tree_size: 20, heard: text.to_owned() },
        notes: vec![text.to_owned()],
        sections: vec![whole, cut, withheld, Section::new("empty", "Empty", Told::ByTheLog, "")],
    }
}

const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=alert(1)> \"'&amp; =cmd|' /C calc'!A0 \u{1b}[2J\u{202e}txt\u{200b}\u{0}\n-- x";

#[test]
fn a_document_is_the_same_bytes_for_the_same_content() {
    let document = sample(Form::Dossier, "plain <text> & \"more\"");
    let (page, name) = Form::Dossier.files();
    for (file, made) in [(page, html(&document)), (name, document.json().unwrap())] {
        let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
        let made = made.replace(MADE_WITH, "legate VERSION");
        if std::env::var_os("LEGATE_BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == made, "write tests/golden/{file} anew with LEGATE_BLESS=1");
    }
    let back: Document = serde_json::from_str(&document.json().unwrap()).unwrap();
    assert_eq!(back, document);
    assert!(!document.is_whole());
}

/// Every tag that a page is made of, without what stands between.
fn tags(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap();
        found.insert(tag.to_owned());
    }
    found
}

#[test]
fn hostile_text_in_every_field_is_text() {
    let plain = tags(&html(&sample(Form::Dossier, "plain")));
    for form in [Form::Dossier, Form::Report] {
        let document = sample(form, HOSTILE);
        let page = html(&document);
        assert!(tags(&page).is_subset(&plain), "{:?}", tags(&page));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        for never in ["<script", "<img", "href", "src=\"", "http:", "https:", "url(", "@import"] {
            assert!(!page.contains(never), "{never}");
        }
        let bad = |text: &str| text.chars().find(|c| *c != '\n' && is_deceptive(*c));
        assert_eq!((bad(&page), bad(&document.json().unwrap())), (None, None));
        let back: Document = serde_json::from_str(&document.json().unwrap()).unwrap();
        assert_eq!(back, document, "nothing is lost for machines");
    }
}

proptest! {
    #[test]
    fn no_text_whatever_is_markup(text in any::<String>()) {
        let plain = tags(&html(&sample(Form::Dossier, "plain")));
        let page = html(&sample(Form::Dossier, &text));
        prop_assert!(tags(&page).is_subset(&plain));
        prop_assert_eq!(page.chars().find(|c| *c != '\n' && is_deceptive(*c)), None);
    }

    #[test]
    fn what_is_cut_is_counted(sizes in proptest::collection::vec(0_usize..60, 1..5), most in 1_000_usize..60_000) {
        let mut document = sample(Form::Dossier, "x");
        document.sections = sizes.iter().enumerate().map(|(n, size)| {
            let items = (0..*size).map(|i| Item::of([("n", format!("{i} {}", "<y>".repeat(i * 7)))]));
            Section::new(&format!("s{n}"), "S", Told::AsOf, "").with(items, usize::MAX)
        }).collect();
        let before: u64 = sizes.iter().map(|size| *size as u64).sum();
        document.fit(most).unwrap();
        let after: u64 = document.sections.iter().map(|one| one.items.len() as u64 + one.left_out).sum();
        prop_assert_eq!(before, after);
        let is_empty = document.sections.iter().all(|one| one.items.is_empty());
        prop_assert!(is_empty || document.json().unwrap().len() <= most);
        prop_assert!(document.is_whole() == document.sections.iter().all(|one| one.left_out == 0));
    }
}

#[test]
fn a_list_says_how_much_of_it_is_left_out_and_a_long_text_that_it_was_cut() {
    let items = (0..10).map(|n| Item::of([("n", n.to_string())]));
    let section = Section::new("s", "S", Told::AsOf, "").with(items, 4);
    assert_eq!((section.items.len(), section.left_out), (4, 6));
    let long = Item::of([("text", "ü".repeat(3_000))]);
    assert!(long.cells[0].text.ends_with("(cut; 6000 bytes in all)"), "{}", long.cells[0].text);
}

#[test]
fn a_document_that_does_not_fit_its_pack_is_refused() {
    let document = sample(Form::Dossier, "n");
    let (page, json) = (html(&document), document.json().unwrap());
    let about = document.about.clone();
    let reading = |form: Form, about: &About, page: &str, json: &str, made_with: &str| {
        read(form, about, (page.as_bytes(), json.as_bytes()), made_with, MADE_WITH)
    };
    assert_eq!(reading(Form::Dossier, &about, &page, &json, MADE_WITH).unwrap(), document);
    let place = |read: Result<Document, check::Wrong>| read.unwrap_err().0;
    let other = About { agent: "m".to_owned(), ..about.clone() };
    assert_eq!(place(reading(Form::Dossier, &other, &page, &json, MADE_WITH)), "dossier.json");
    assert_eq!(place(reading(Form::Report, &about, &page, &json, MADE_WITH)), "report.json");
    assert_eq!(place(reading(Form::Dossier, &about, &page, &json, "legate 99")), "dossier.json");
    assert_eq!(
        place(reading(Form::Dossier, &about, &page.replace("12 of", "13 of"), &json, MADE_WITH)),
        "dossier.html"
    );
    assert_eq!(place(reading(Form::Dossier, &about, &page, "{}", MADE_WITH)), "dossier.json");
    // What a newer program laid out otherwise is taken by its hash.
    let newer = Document { made: Made { with: "legate 99".to_owned(), ..document.made.clone() }, ..document.clone() };
    assert!(reading(Form::Dossier, &about, "another page", &newer.json().unwrap(), "legate 99").is_ok());

    let event = |kind: &str| BTreeMap::from([(3, ("evt_0003".to_owned(), kind.to_owned()))]);
    assert!(cites(&document, &event("agent.suspended")).is_ok());
    for events in [BTreeMap::new(), event("agent.resumed")] {
        let (place, what) = cites(&document, &events).unwrap_err();
        assert!(place == "dossier.json" && what.contains("cites leaf 3"), "{what}");
    }
}

#[test]
fn the_table_of_requirements_is_whole() {
    let mut seen = BTreeSet::new();
    for row in REQUIREMENTS {
        assert!(seen.insert((row.framework.id, row.clause)), "{} {} stands twice", row.framework.id, row.clause);
        assert!(!row.asks.is_empty() && !row.cannot_know.is_empty(), "{}", row.clause);
        // No claim, and no number that nobody counted.
        for word in ["compliant", "complies", "certified", "%"] {
            assert!(!row.asks.contains(word) && !row.cannot_know.contains(word), "{}: {word}", row.clause);
        }
    }
    for framework in FRAMEWORKS {
        assert!(REQUIREMENTS.iter().any(|row| std::ptr::eq(row.framework, framework)), "{}", framework.id);
        assert!(!framework.source.is_empty());
    }
    let ids: BTreeSet<&str> = EVIDENCE.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), EVIDENCE.len());
    for one in EVIDENCE {
        let is_used = REQUIREMENTS.iter().any(|row| row.evidence.iter().any(|used| used.id == one.id));
        assert!(is_used, "{} speaks to nothing", one.id);
        if let Measured::Events(types) = one.measured {
            assert!(filter(types).len() <= 2_048, "{}", one.id);
        }
    }
}

#[test]
fn every_command_that_shows_evidence_is_one() {
    use clap::Parser as _;
    for one in EVIDENCE {
        for as_of in [None, Some("2026-11-24T08:00:00Z")] {
            let line = command(one, "payments", as_of);
            let mut words: Vec<String> = Vec::new();
            for (n, part) in line.split('\'').enumerate() {
                match n % 2 {
                    0 => words.extend(part.split_whitespace().map(str::to_owned)),
                    _ => words.push(part.to_owned()),
                }
            }
            assert!(crate::cli::Cli::try_parse_from(&words).is_ok(), "{line}");
        }
    }
}

#[test]
fn the_filters_of_the_table_are_filters() {
    use legate_filter::{Filter, Scope};
    for one in EVIDENCE {
        match one.measured {
            Measured::Agents(filter) if !filter.is_empty() => {
                assert!(Filter::parse(filter, Scope::Agents).is_ok(), "{filter}");
            }
            Measured::Events(types) => assert!(Filter::parse(&filter(types), Scope::Events).is_ok(), "{types:?}"),
            _ => {}
        }
    }
}
