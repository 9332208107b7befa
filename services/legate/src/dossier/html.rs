//! A document as one HTML file for people: no script, nothing from elsewhere, and every text escaped.

use std::fmt::Write as _;

use super::{Document, Form, Item, Section};
use crate::output::escape::visible;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1a1a1a;background:#fff}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-top:1px solid #bbb;padding-top:.8rem}\
table{border-collapse:collapse;width:100%;font-size:13px}th,td{border:1px solid #ccc;padding:.3rem .5rem;text-align:left;\
vertical-align:top;overflow-wrap:anywhere;white-space:pre-wrap}th{background:#f2f2f2}.note{color:#444}.told{font-size:12px;\
border:1px solid #666;border-radius:3px;padding:0 .4rem;margin-left:.6rem;font-weight:normal}.now,.withheld{background:#fff3cd}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}\
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}";

/// A text that somebody else wrote, as HTML: nothing in it is markup, and nothing invisible or turning is left.
fn text(of: &str) -> String {
    let mut out = String::with_capacity(of.len() + 16);
    for (n, line) in of.split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        for c in visible(line).chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c => out.push(c),
            }
        }
    }
    out
}

/// The whole file.
pub(crate) fn html(of: &Document) -> String {
    let mut out = String::new();
    // Writing to a text does not fail.
    let _ok = write(of, &mut out);
    out
}

fn write(of: &Document, out: &mut String) -> std::fmt::Result {
    let title = match of.form {
        Form::Dossier => format!("Dossier of the agent {}", of.about.name()),
        Form::Report => format!("Report on the namespace {}", of.about.name()),
    };
    let title = text(&title);
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(out, "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>")?;
    let moment = &of.as_of;
    let now = if moment.is_now { " (the present of whoever asked)" } else { "" };
    let facts = [
        ("as of", format!("{}{now}", moment.time)),
        ("revision", format!("{} of the registry, made {}", moment.revision, moment.revision_time)),
        ("agent id", of.about.agent_id.clone()),
        ("made by", format!("{}, {}, with {}", of.made.by, of.made.time, of.made.with)),
        ("log", format!("{}, its first {} leaves", of.log.name, of.log.tree_size)),
        ("heard", of.log.heard.clone()),
    ];
    writeln!(out, "<dl>")?;
    for (label, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        writeln!(out, "<dt>{label}</dt><dd>{}</dd>", text(fact))?;
    }
    writeln!(out, "</dl>")?;
    for note in &of.notes {
        writeln!(out, "<p class=\"note\">{}</p>", text(note))?;
    }
    writeln!(out, "<h2>What is in it</h2>\n<table>\n<tr><th>section</th><th>how it is told</th><th>entries</th></tr>")?;
    for section in &of.sections {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&section.title),
            section.told.words(),
            text(&entries(section))
        )?;
    }
    writeln!(out, "</table>")?;
    of.sections.iter().try_for_each(|section| one(section, out))?;
    writeln!(out, "</body>\n</html>")
}

fn entries(of: &Section) -> String {
    match (&of.withheld, of.left_out) {
        (Some(withheld), _) => format!("not given: {}", withheld.reason),
        (None, 0) => of.items.len().to_string(),
        (None, more) => format!("{}; at least {more} more are not told", of.items.len()),
    }
}

fn one(of: &Section, out: &mut String) -> std::fmt::Result {
    let now = if of.told == super::Told::Now { " now" } else { "" };
    let told = of.told.words();
    writeln!(out, "<h2>{}<span class=\"told{now}\">{told}</span></h2>", text(&of.title))?;
    if !of.note.is_empty() {
        writeln!(out, "<p class=\"note\">{}</p>", text(&of.note))?;
    }
    if let Some(withheld) = &of.withheld {
        let what = text(&format!("Not given to whoever asked: {} ({}).", withheld.what, withheld.reason));
        return writeln!(out, "<p class=\"withheld\">{what} This says nothing of whether there is anything.</p>");
    }
    if of.items.is_empty() && of.left_out == 0 {
        return writeln!(out, "<p>Nothing.</p>");
    }
    if !of.items.is_empty() {
        table(&of.items, out)?;
    }
    if of.left_out > 0 {
        writeln!(out, "<p class=\"withheld\">Cut: at least {} more are not told.</p>", of.left_out)?;
    }
    Ok(())
}

fn table(items: &[Item], out: &mut String) -> std::fmt::Result {
    let mut labels: Vec<&str> = Vec::new();
    for cell in items.iter().flat_map(|item| &item.cells) {
        if !cell.text.is_empty() && !labels.contains(&cell.label.as_str()) {
            labels.push(&cell.label);
        }
    }
    let has_events = items.iter().any(|item| !item.events.is_empty());
    write!(out, "<table>\n<tr>")?;
    for label in &labels {
        write!(out, "<th>{}</th>", text(label))?;
    }
    writeln!(out, "{}</tr>", if has_events { "<th>made so by leaf</th>" } else { "" })?;
    for item in items {
        write!(out, "<tr>")?;
        for label in &labels {
            let cells = item.cells.iter().filter(|cell| cell.label == *label);
            let told: Vec<String> = cells.map(|cell| text(&cell.text)).collect();
            write!(out, "<td>{}</td>", told.join("\n"))?;
        }
        if has_events {
            let leaves: Vec<String> =
                item.events.iter().map(|event| format!("{} {}", event.leaf, text(&event.r#type))).collect();
            write!(out, "<td>{}</td>", leaves.join("\n"))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")
}
