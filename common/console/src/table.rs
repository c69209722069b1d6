//! Tables of plain aligned columns, for eyes and for `awk` alike.

use crate::printable::printable_styled;
use crate::style::{Style, plain};
use std::fmt;
use unicode_width::UnicodeWidthStr;

/// The side of its column to which a cell is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header. Two spaces part the columns; nothing is drawn.
///
/// ```
/// use mintmark_console::{Align, Table};
/// let mut table = Table::new([("product", Align::Left), ("units", Align::Right)]);
/// table.row(["TH-200", "50000"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Header and alignment of each column, from the left.
    pub columns: Vec<(String, Align)>,
    /// The rows; a missing cell is empty, a cell without a column is not shown.
    pub rows: Vec<Vec<String>>,
}

/// Spaces between two columns.
const GAP: usize = 2;

impl Table {
    /// A table without rows yet.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, Align)>) -> Self {
        let columns = columns
            .into_iter()
            .map(|(header, align)| (header.into(), align))
            .collect();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as lines, each ended by a line feed.
    ///
    /// `width_max` is the terminal's width; `None` means a pipe or a file. No cell is ever cut: what is too wide for a
    /// terminal is shown as blocks, because half a serial number cannot be copied and half an identifier misleads.
    pub(crate) fn render(&self, width_max: Option<usize>, colored: bool) -> String {
        let (headers, rows) = (self.headers(), self.shown(colored));
        let mut widths: Vec<usize> = headers.iter().map(|header| header.width()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(plain(cell).width());
            }
        }
        let width = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if !rows.is_empty() && width_max.is_some_and(|width_max| width > width_max) {
            return blocks(&headers, &rows, width_max, colored);
        }
        let mut text = String::new();
        self.push_line(&mut text, &headers, &widths, colored);
        for row in &rows {
            self.push_line(&mut text, row, &widths, false);
        }
        text
    }

    /// Every row as a block of its own, as for a terminal that is too narrow.
    pub(crate) fn render_blocks(&self, width_max: Option<usize>, colored: bool) -> String {
        blocks(&self.headers(), &self.shown(colored), width_max, colored)
    }

    fn headers(&self) -> Vec<String> {
        let headers = self.columns.iter();
        headers.map(|(header, _)| header.to_uppercase()).collect()
    }

    fn shown(&self, colored: bool) -> Vec<Vec<String>> {
        let rows = self.rows.iter();
        rows.map(|row| self.cells(row, colored)).collect()
    }

    fn cells(&self, row: &[String], colored: bool) -> Vec<String> {
        let empty = String::new();
        (0..self.columns.len())
            .map(|column| {
                let cell = row.get(column).unwrap_or(&empty);
                // One row is one line, whatever a cell holds.
                printable_styled(cell, colored).replace(['\n', '\t'], " ")
            })
            .collect()
    }

    fn push_line(&self, text: &mut String, cells: &[String], widths: &[usize], underlined: bool) {
        let mut line = String::new();
        for (column, ((cell, width), (_, align))) in
            cells.iter().zip(widths).zip(&self.columns).enumerate()
        {
            if column > 0 {
                line.extend(std::iter::repeat_n(' ', GAP));
            }
            let padding = " ".repeat(width.saturating_sub(plain(cell).width()));
            let cell = if underlined {
                Style::Underline.paint(cell, true)
            } else {
                cell.clone()
            };
            match align {
                Align::Left => line.extend([cell, padding]),
                Align::Right => line.extend([padding, cell]),
            }
        }
        text.push_str(line.trim_end_matches(' '));
        text.push('\n');
    }
}

impl fmt::Display for Table {
    /// The table as it is written into a file: every cell whole, nothing coloured, each line ended by a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None, false))
    }
}

/// One block for each row, a blank line between two; each line holds a header and its cell. A cell of several words goes on in the
/// next line, under its beginning, where the terminal ends; a word, such as the name of a file, is never broken, so that it can
/// be copied whole.
fn blocks(
    headers: &[String],
    rows: &[Vec<String>],
    width_max: Option<usize>,
    colored: bool,
) -> String {
    let keys_width = headers.iter().map(|header| header.width()).max();
    let keys_width = keys_width.unwrap_or_default() + GAP;
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        for (header, cell) in headers.iter().zip(row) {
            let padding = " ".repeat(keys_width.saturating_sub(header.width()));
            let key = Style::Bold.paint(header, colored);
            let room = width_max.map_or(usize::MAX, |width| width.saturating_sub(keys_width));
            let mut before = format!("{key}{padding}");
            for line in wrapped(cell, room) {
                text.push_str(format!("{before}{line}").trim_end_matches(' '));
                text.push('\n');
                before = " ".repeat(keys_width);
            }
        }
    }
    text
}

/// The lines of a cell, broken at spaces alone.
fn wrapped(cell: &str, room: usize) -> Vec<String> {
    if plain(cell).width() <= room {
        return vec![cell.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in cell.split(' ') {
        let Some(line) = lines.last_mut() else {
            break;
        };
        if line.is_empty() {
            line.push_str(word);
        } else if plain(line).width() + 1 + plain(word).width() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Table {
        let mut table = Table::new([
            ("product", Align::Left),
            ("entitlement", Align::Left),
            ("units", Align::Right),
        ]);
        table.row(["TH-200", "th200-2027q1", "50000"]);
        table.row(["P-9", "p9", "7"]);
        table
    }

    #[test]
    fn columns_are_aligned_under_an_upper_case_header() {
        let expected = "\
PRODUCT  ENTITLEMENT   UNITS
TH-200   th200-2027q1  50000
P-9      p9                7
";
        assert_eq!(accounts().render(None, false), expected);
    }

    #[test]
    fn a_table_displays_as_it_goes_into_a_file() {
        assert_eq!(accounts().to_string(), accounts().render(None, false));
    }

    #[test]
    fn a_pipe_gets_every_cell_whole() {
        let long = "x".repeat(300);
        let mut table = accounts();
        table.row([long.as_str(), "e", "1"]);
        assert!(table.render(None, false).contains(&long));
    }

    #[test]
    fn a_terminal_that_is_wide_enough_gets_the_table() {
        let width = accounts().to_string().lines().map(str::len).max();
        assert_eq!(accounts().render(width, false), accounts().to_string());
    }

    #[test]
    fn a_terminal_too_narrow_gets_a_block_for_each_row_and_every_cell_whole() {
        let mut table = accounts();
        table.row(["TH-300", "", "12"]);
        let expected = "\
PRODUCT      TH-200
ENTITLEMENT  th200-2027q1
UNITS        50000

PRODUCT      P-9
ENTITLEMENT  p9
UNITS        7

PRODUCT      TH-300
ENTITLEMENT
UNITS        12
";
        for width in [3, 27] {
            assert_eq!(table.render(Some(width), false), expected);
        }
        assert_eq!(table.render(Some(28), false), table.to_string());
    }

    #[test]
    fn a_table_drawn_as_blocks_is_so_however_wide_the_terminal_is() {
        let mut table = Table::new([("site", Align::Left), ("units", Align::Right)]);
        table.row(["berlin", "7"]);
        assert_eq!(
            table.render_blocks(None, false),
            "SITE   berlin\nUNITS  7\n"
        );
    }

    #[test]
    fn words_go_on_in_the_next_line_and_no_word_is_broken() {
        let mut table = Table::new([("file", Align::Left), ("why", Align::Left)]);
        table.row([
            "to-hq/a-long-name-000001.seg0001",
            "no log of any vault holds it",
        ]);
        let expected = "\
FILE  to-hq/a-long-name-000001.seg0001
WHY   no log of any
      vault holds it
";
        assert_eq!(table.render(Some(20), false), expected);
        let one_line =
            "FILE  to-hq/a-long-name-000001.seg0001\nWHY   no log of any vault holds it\n";
        assert_eq!(table.render_blocks(None, false), one_line);
    }

    #[test]
    fn wide_characters_count_as_the_cells_they_fill() {
        let mut table = Table::new([("site", Align::Left), ("n", Align::Right)]);
        table.row(["東京", "1"]);
        table.row(["Süd", "22"]);
        assert_eq!(table.render(None, false), "SITE   N\n東京   1\nSüd   22\n");
    }

    #[test]
    fn styled_cells_are_as_wide_as_their_text() {
        let mut table = Table::new([("state", Align::Left), ("n", Align::Right)]);
        table.row([Style::Good.paint("ok", true), "1".to_owned()]);
        let text = table.render(None, true);
        assert_eq!(
            text,
            "\u{1b}[4mSTATE\u{1b}[0m  \u{1b}[4mN\u{1b}[0m\n\u{1b}[32mok\u{1b}[0m     1\n"
        );
    }

    #[test]
    fn a_cell_cannot_break_its_row_or_steer_the_terminal() {
        let mut table = Table::new([("file", Align::Left)]);
        table.row(["a\nb\u{1b}[2J"]);
        assert_eq!(
            table.render(None, true),
            "\u{1b}[4mFILE\u{1b}[0m\na b\\u{1b}[2J\n"
        );
    }

    #[test]
    fn short_rows_are_filled_and_long_ones_are_cut_at_the_last_column() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Right)]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(None, false), "A  B\n1\n1  2\n");
    }
}
