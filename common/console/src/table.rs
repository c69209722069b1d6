//! Tables of plain aligned columns, for eyes and for `awk` alike.

use crate::printable::printable_styled;
use crate::style::{Style, plain};
use std::fmt;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
/// No column is cut below this width, as nothing readable would remain.
const COLUMN_WIDTH_MIN: usize = 6;

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
    /// `width_max` is the terminal's width; `None` means a pipe or a file, where no cell is ever cut.
    pub(crate) fn render(&self, width_max: Option<usize>, colored: bool) -> String {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| self.cells(row, colored))
            .collect();
        let headers: Vec<String> = self
            .columns
            .iter()
            .map(|(header, _)| header.to_uppercase())
            .collect();
        let mut widths: Vec<usize> = headers.iter().map(|header| header.width()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(plain(cell).width());
            }
        }
        if let Some(width_max) = width_max {
            shrink(&mut widths, width_max);
        }
        let mut text = String::new();
        self.push_line(&mut text, &headers, &widths, colored);
        for row in &rows {
            self.push_line(&mut text, row, &widths, false);
        }
        text
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
            let cell = cut(cell, *width);
            let padding = " ".repeat(width.saturating_sub(plain(&cell).width()));
            let cell = if underlined {
                Style::Underline.paint(&cell, true)
            } else {
                cell
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

/// Takes width from the widest column, again and again, until the line fits or nothing more can be taken.
fn shrink(widths: &mut [usize], width_max: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width_max {
        // Of columns equally wide the last gives way, as the first ones name the row.
        let Some(widest) = widths.iter_mut().max_by_key(|width| **width) else {
            return;
        };
        if *widest <= COLUMN_WIDTH_MIN {
            return;
        }
        *widest -= 1;
    }
}

fn cut(cell: &str, width: usize) -> String {
    let shown = plain(cell);
    if shown.width() <= width {
        return cell.to_owned();
    }
    let mut kept = String::new();
    let mut kept_width = 0;
    for character in shown.chars() {
        kept_width += character.width().unwrap_or(0);
        if kept_width + 1 > width {
            break;
        }
        kept.push(character);
    }
    kept.push('…');
    kept
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
    fn a_terminal_gets_the_widest_column_cut_with_an_ellipsis() {
        let mut table = accounts();
        table.row(["TH-300", "a-very-long-entitlement-identifier", "12"]);
        let text = table.render(Some(32), false);
        let expected = "\
PRODUCT  ENTITLEMENT       UNITS
TH-200   th200-2027q1      50000
P-9      p9                    7
TH-300   a-very-long-ent…     12
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_terminal_too_narrow_for_anything_still_gets_readable_cells() {
        let text = accounts().render(Some(3), false);
        assert_eq!(text.lines().nth(1), Some("TH-200  th200…  50000"));
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
