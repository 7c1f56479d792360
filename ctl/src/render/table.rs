//! Tables: a header in capitals, two spaces between columns, no borders, as wide as the terminal at most.

use comfy_table::{ContentArrangement, presets};

/// Spaces between two columns.
const GAP: u16 = 2;

/// A table of text.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(header: impl IntoIterator<Item = &'static str>) -> Self {
        Self { header: header.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell is shown as `-`, so that columns can be counted by scripts.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let shown = |cell: T| {
            let cell: String = cell.into();
            if cell.is_empty() { "-".to_owned() } else { printable(&cell) }
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text; `None` is as wide as its content.
    pub fn render(&self, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(&self.header);
        table.add_rows(&self.rows);
        table.force_no_tty();
        match width {
            None => table.set_content_arrangement(ContentArrangement::Disabled),
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        };
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }
}

/// Text of others on one line, which cannot move the cursor, ring the bell or break a row.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["crm", "serving", ""]);
        table.row(["billing", "pending", "n1 no: 96Mi free, needs 128Mi; n2 no: it offers no sqlite"]);
        table
    }

    #[test]
    fn columns_are_two_spaces_apart_and_no_cell_is_empty() {
        insta::assert_snapshot!(table().render(None), @r"
        NAME     STATE    WHY
        crm      serving  -
        billing  pending  n1 no: 96Mi free, needs 128Mi; n2 no: it offers no sqlite
        ");
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let text = table().render(Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("sqlite"), "nothing is cut off:\n{text}");
    }

    #[test]
    fn text_of_others_stays_in_its_row() {
        assert_eq!(printable("a\n\u{1b}[2Jb\t\u{7}c"), "a \u{fffd}[2Jb \u{fffd}c");
    }
}
