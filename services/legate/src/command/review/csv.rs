//! Lines of a table for spreadsheets (RFC 4180), of which no cell is taken for a formula.

use crate::output::escape::visible;

/// One line with its end.
pub(super) fn line<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// A cell in quotes. What a spreadsheet would calculate stands behind an apostrophe, which it shows as a text.
fn quoted(text: &str) -> String {
    let text = visible(text);
    // Spaces before it keep no program from calculating.
    let is_formula =
        text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_calculated_and_nothing_breaks_out_of_its_cell() {
        for bad in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "  =1", "\u{ff1d}1"] {
            assert!(line(&[bad]).starts_with("\"'"), "{bad}");
        }
        assert_eq!(line(&["a\"b", "c,d", "e\nf", "\t=1"]), "\"a\"\"b\",\"c,d\",\"e\\nf\",\"\\t=1\"\r\n");
        assert_eq!(line(&["a\r=1", "\u{1b}[2J"]), "\"a\\r=1\",\"\\u{1b}[2J\"\r\n");
    }
}
