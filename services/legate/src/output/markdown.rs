//! A plan as Markdown, for a comment on a pull request: nothing that others wrote can be a link, a mention or markup.

use std::fmt::Write as _;

use legate_wire::policy::PreviewChangeResponse;
use legate_wire::registry::{ChangeAction, PlanDeclarationsResponse};

use super::change::{access, change_label, failed, found, not_whole};
use super::escape::visible;

/// A comment has so many characters at most, with room for what a pipeline adds (65,536 at GitHub).
const LONGEST: usize = 60_000;
/// By this line a pipeline finds its own comment again.
const MARK: &str = "<!-- legate plan -->";

/// The plan.
pub(crate) fn markdown(planned: &PlanDeclarationsResponse, preview: Option<&PreviewChangeResponse>) -> String {
    let mut lines = vec![MARK.to_owned(), "### Legate plan".to_owned(), String::new()];
    let of = |action| planned.changes.iter().filter(move |change| change.action() == action);
    let count = |action| of(action).count();
    lines.push(format!(
        "{} created, {} changed, {} removed, {} unchanged, at revision {}.",
        count(ChangeAction::Created),
        count(ChangeAction::Updated),
        count(ChangeAction::Removed),
        count(ChangeAction::Unchanged),
        planned.revision
    ));
    if let Some(preview) = preview {
        section(&mut lines, "What agents may do", preview.changes.iter().map(access));
        if preview.changes.is_empty() {
            lines.extend([String::new(), "What agents may do does not change.".to_owned()]);
        }
        section(&mut lines, "To be known", preview.findings.iter().map(found));
        section(&mut lines, "Policy tests that fail", preview.tests.iter().filter(|t| !t.passed).map(failed));
        if !preview.tests.is_empty() {
            let passed = preview.tests.iter().filter(|test| test.passed).count();
            lines.extend([
                String::new(),
                format!("{passed} of {} questions of policy tests pass.", preview.tests.len()),
            ]);
        }
        if let Some(text) = not_whole(preview) {
            lines.extend([String::new(), format!("**{text}**")]);
        }
    }
    let mut objects = Vec::new();
    for (mark, action) in [("+", ChangeAction::Created), ("~", ChangeAction::Updated), ("-", ChangeAction::Removed)] {
        for change in of(action) {
            objects.push(format!("{mark} {}", change_label(change)));
            for field in change.fields.iter().filter(|_| action == ChangeAction::Updated) {
                let shown = |text: &str| if text.is_empty() { "(unset)".to_owned() } else { text.to_owned() };
                objects.push(format!("{mark} {}: {} -> {}", field.path, shown(&field.before), shown(&field.after)));
            }
        }
    }
    section(&mut lines, "Objects", objects.into_iter());
    whole(lines)
}

fn section(lines: &mut Vec<String>, head: &str, texts: impl Iterator<Item = String>) {
    let mut texts = texts.peekable();
    if texts.peek().is_some() {
        lines.extend([String::new(), format!("#### {head}"), String::new()]);
        lines.extend(texts.map(|text| format!("- {}", code(&text))));
    }
}

/// As many lines as fit, and how many do not.
fn whole(lines: Vec<String>) -> String {
    let mut out = String::new();
    let all = lines.len();
    for (n, line) in lines.into_iter().enumerate() {
        if out.len() + line.len() > LONGEST {
            let _written = write!(out, "\n**This is not all: {} more lines. See `legate plan`.**", all - n);
            return out;
        }
        out += &line;
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// A text as code in which every mark stands for itself: in `<code>`, forges make no mentions and no links.
fn code(text: &str) -> String {
    let mut out = String::from("<code>");
    for c in visible(text).chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | ',' | ' ') {
            let _written = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{DeclarationChange, FieldChange, Kind};

    fn planned(after: &str, many: usize) -> PlanDeclarationsResponse {
        let field = FieldChange { path: "spec.purpose".into(), before: String::new(), after: after.into() };
        let change = DeclarationChange {
            action: ChangeAction::Updated.into(),
            kind: Kind::Agent.into(),
            namespace: "payments".into(),
            name: "bot".into(),
            fields: vec![field],
            ..DeclarationChange::default()
        };
        PlanDeclarationsResponse { changes: vec![change; many], revision: 7 }
    }

    #[test]
    fn nothing_that_others_wrote_is_markup() {
        let evil = "</code>\n# head\n| a | ![x](https://evil.example/x.png) @team #1 `code` <script> &lt; www.evil.example \u{202e}";
        let text = markdown(&planned(evil, 1), None);
        let inside: Vec<&str> =
            text.split("<code>").skip(1).map(|rest| rest.split("</code>").next().unwrap()).collect();
        assert_eq!(inside.len(), 2);
        for part in &inside {
            let left = part.chars().filter(|c| c.is_ascii_punctuation() && !matches!(c, '-' | ',' | '&' | '#' | ';'));
            assert_eq!(left.collect::<String>(), "", "{part}");
        }
        let own: String = text.split("<code>").map(|part| part.split("</code>").last().unwrap_or("")).collect();
        assert!(!own.contains("evil") && !own.contains('@') && !own.contains("script"), "{own}");
        assert!(!text.contains('\u{202e}') && text.starts_with(MARK));
        // As a reader sees it.
        let seen = text.replace("&#46;", ".").replace("&#47;", "/").replace("&#58;", ":").replace("&#62;", ">");
        assert!(
            seen.contains("<code>~ payments".replace("~ payments", "&#126; Agent payments/bot").as_str()),
            "{seen}"
        );
    }

    #[test]
    fn a_long_plan_is_cut_and_says_so() {
        let text = markdown(&planned("x", 2_000), None);
        assert!(text.len() < LONGEST + 200, "{}", text.len());
        assert!(text.contains("more lines"), "{}", &text[text.len() - 200..]);
    }
}
