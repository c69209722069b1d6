//! The report as a workbook: numbers are numbers, and text is never a formula.

use mintmark_console::{Exit, Failure, printable};
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::{Report, named_moves};
use crate::findings::Finding;

/// What a cell may hold, in characters (ECMA-376 has no limit; every program that reads such files has this one).
const CELL_CHARS_MAX: usize = 32_767;
/// Beyond this a number is not exact in a workbook, where all numbers are binary64: then it is written as text.
const EXACT_MAX: u64 = 1 << 53;
/// Rows of a sheet but its heading.
const ROWS_MAX: u32 = 1_048_575;

impl Report {
    /// The whole of it.
    ///
    /// # Errors
    /// [`Failure`] if the workbook cannot be put together.
    pub(crate) fn to_xlsx(&self) -> Result<Vec<u8>, Failure> {
        self.workbook().map_err(|error| {
            let message = "the workbook could not be made";
            Failure::new(Exit::Environment, "REPORT-NOT-MADE", message)
                .cause(error)
                .hint("write the report as csv or json")
        })
    }

    fn workbook(&self) -> Result<Vec<u8>, XlsxError> {
        let mut workbook = Workbook::new();
        // The time of making would make every file another one.
        let made = ExcelDateTime::from_timestamp(self.as_of.unwrap_or_default() as i64)
            .unwrap_or_default();
        workbook.set_properties(
            &rust_xlsxwriter::DocProperties::new()
                .set_title("Reconciliation")
                .set_creation_datetime(&made),
        );
        let (mut summary, mut accounts) = (Worksheet::new(), Worksheet::new());
        let (mut findings, mut days, mut refusals) =
            (Worksheet::new(), Worksheet::new(), Worksheet::new());
        // The summary comes first, and says what had no room in the others.
        let left_out = [
            ("Accounts", self.account_sheet(&mut accounts)?),
            ("Findings", self.finding_sheet(&mut findings)?),
            ("Days", self.day_sheet(&mut days)?),
            ("Refusals", self.refusal_sheet(&mut refusals)?),
        ];
        self.summary_sheet(&mut summary, &left_out)?;
        for sheet in [summary, accounts, findings, days, refusals] {
            workbook.push_worksheet(sheet);
        }
        workbook.save_to_buffer()
    }

    fn summary_sheet(
        &self,
        sheet: &mut Worksheet,
        left_out: &[(&str, LeftOut)],
    ) -> Result<(), XlsxError> {
        sheet.set_name("Summary")?;
        sheet.set_column_width(0, 18)?;
        sheet.set_column_width(1, 90)?;
        let mut rows = vec![
            Row::new().text("summary").text(&self.summary()),
            Row::new().text("headquarters").text(&self.hq_name),
            Row::new().text("of").text(&self.scope()),
            Row::new()
                .text("period")
                .text(&self.query.period.to_string()),
            Row::new()
                .text("balanced")
                .text(if self.balanced() { "yes" } else { "NO" }),
        ];
        for (name, count) in self.total().counts() {
            rows.push(Row::new().text(name).number(count));
        }
        for remark in self.remarks() {
            rows.push(Row::new().text("remark").text(&remark));
        }
        for (name, left_out) in left_out {
            if let Some(words) = left_out.in_words(name) {
                rows.push(Row::new().text("LEFT OUT").text(&words));
            }
        }
        fill(sheet, &["what", "value"], rows).map(|_| ())
    }

    fn account_sheet(&self, sheet: &mut Worksheet) -> Result<LeftOut, XlsxError> {
        sheet.set_name("Accounts")?;
        let rows = self.lines.iter().map(|line| {
            let counts = line.books.closing.counts().into_iter();
            let counts = counts.chain(named_moves(&line.books.moves));
            let names = line.name_cells();
            let row = names.iter().fold(Row::new(), |row, name| row.text(name));
            let row = counts.fold(row, |row, (_, count)| row.number(count));
            row.text(&line.books.faults.join("; "))
        });
        let header = [
            "site",
            "vault",
            "product",
            "entitlement",
            "authorised",
            "good",
            "scrapped",
            "voided",
            "unresolved",
            "unspent",
            "newly_reserved",
            "newly_burned",
            "newly_good",
            "newly_scrapped",
            "newly_voided",
            "does not balance",
        ];
        fill(sheet, &header, rows)
    }

    fn finding_sheet(&self, sheet: &mut Worksheet) -> Result<LeftOut, XlsxError> {
        sheet.set_name("Findings")?;
        sheet.set_column_width(5, 90)?;
        let header = [
            "severity",
            "code",
            "site",
            "vault",
            "log_sequence",
            "text",
            "serials",
            "evidence",
        ];
        fill(sheet, &header, self.findings.iter().map(finding_row))
    }

    fn day_sheet(&self, sheet: &mut Worksheet) -> Result<LeftOut, XlsxError> {
        sheet.set_name("Days")?;
        let rows = self.days.iter().filter_map(|day| {
            let line = self.lines.get(day.line)?;
            let row = Row::new().text(&day.day.to_string());
            let names = line.name_cells();
            let row = names.iter().fold(row, |row, name| row.text(name));
            let moves = named_moves(&day.moves).into_iter();
            Some(moves.fold(row, |row, (_, units)| row.number(units)))
        });
        let header = [
            "day",
            "site",
            "vault",
            "product",
            "entitlement",
            "newly_reserved",
            "newly_burned",
            "newly_good",
            "newly_scrapped",
            "newly_voided",
        ];
        fill(sheet, &header, rows)
    }

    fn refusal_sheet(&self, sheet: &mut Worksheet) -> Result<LeftOut, XlsxError> {
        sheet.set_name("Refusals")?;
        let rows = self.refusals.iter().map(|(rule, requests)| {
            Row::new()
                .text(rule.vault.site.as_str())
                .text(rule.vault.vault.as_str())
                .text(rule.product.as_str())
                .text(&rule.code)
                .number(*requests)
        });
        let header = ["site", "vault", "product", "rule", "requests"];
        fill(sheet, &header, rows)
    }
}

fn finding_row(finding: &Finding) -> Row {
    let row = Row::new()
        .text(finding.severity.as_str())
        .text(&finding.code)
        .text(finding.vault.site.as_str())
        .text(finding.vault.vault.as_str());
    let row = match finding.log_sequence {
        Some(sequence) => row.number(sequence),
        None => row.text(""),
    };
    row.text(&finding.text)
        .text(&finding.serials.join(" "))
        .text(&finding.evidence.to_string())
}

enum Cell {
    Text(String),
    Number(u64),
}

/// What of a sheet is not in it, as no program could read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LeftOut {
    /// Cells that were cut.
    cells: usize,
    /// Rows that are not there.
    rows: usize,
}

impl LeftOut {
    fn in_words(self, sheet: &str) -> Option<String> {
        let Self { cells, rows } = self;
        (self != Self::default()).then(|| {
            format!(
                "a workbook has no room for all of the sheet {sheet}: {rows} rows are not in it, and {cells} cells are cut; \
                 {WHOLE}"
            )
        })
    }
}

/// Where the rest is.
const WHOLE: &str = "the csv and json forms of this report have all of it";

/// One row.
struct Row {
    cells: Vec<Cell>,
    /// How many of its cells were cut.
    cut: usize,
}

impl Row {
    fn new() -> Self {
        Self {
            cells: Vec::new(),
            cut: 0,
        }
    }

    fn text(mut self, text: &str) -> Self {
        let mut text = printable(text).to_string();
        let chars = text.chars().count();
        if chars > CELL_CHARS_MAX {
            let note = format!(" ... CUT: {chars} characters in all; {WHOLE}");
            let kept = CELL_CHARS_MAX.saturating_sub(note.chars().count());
            text = text.chars().take(kept).chain(note.chars()).collect();
            self.cut += 1;
        }
        self.cells.push(Cell::Text(text));
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.cells.push(match number {
            0..=EXACT_MAX => Cell::Number(number),
            _ => Cell::Text(number.to_string()),
        });
        self
    }
}

/// Writes a sheet. Of more rows than it has room for, the last says how many are not there.
fn fill(
    sheet: &mut Worksheet,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<LeftOut, XlsxError> {
    fill_up_to(sheet, header, rows, ROWS_MAX)
}

fn fill_up_to(
    sheet: &mut Worksheet,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
    rows_max: u32,
) -> Result<LeftOut, XlsxError> {
    let bold = Format::new().set_bold();
    for (column, name) in (0..).zip(header) {
        sheet.write_string_with_format(0, column, *name, &bold)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    let mut left_out = LeftOut::default();
    let mut last = 0;
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        last += 1;
        if last == rows_max && rows.peek().is_some() {
            left_out.rows = 1 + rows.by_ref().count();
            let words = format!("{} MORE ROWS ARE LEFT OUT; {WHOLE}", left_out.rows);
            sheet.write_string(last, 0, words)?;
            break;
        }
        left_out.cells += row.cut;
        for (column, cell) in (0..).zip(row.cells) {
            match cell {
                Cell::Text(text) => sheet.write_string(last, column, text)?,
                Cell::Number(value) => sheet.write_number(last, column, value as f64)?,
            };
        }
    }
    if let Some(columns) = u16::try_from(header.len()).ok().filter(|_| last > 0) {
        sheet.autofilter(0, 0, last, columns - 1)?;
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: &Row) -> &str {
        match &row.cells[0] {
            Cell::Text(text) => text,
            Cell::Number(_) => panic!("a number"),
        }
    }

    #[test]
    fn a_cell_that_is_cut_says_so() {
        let whole = "s".repeat(CELL_CHARS_MAX);
        let row = Row::new().text(&whole);
        assert_eq!((text(&row), row.cut), (whole.as_str(), 0));
        let row = Row::new().text(&format!("{whole}s"));
        assert_eq!((text(&row).chars().count(), row.cut), (CELL_CHARS_MAX, 1));
        let note = format!(" ... CUT: 32768 characters in all; {WHOLE}");
        assert!(text(&row).ends_with(&note), "{}", &text(&row)[32_600..]);
    }

    #[test]
    fn rows_for_which_there_is_no_room_are_counted() {
        let filled = |rows: u64| {
            let rows = (0..rows).map(|row| Row::new().number(row));
            fill_up_to(&mut Worksheet::new(), &["n"], rows, 5).unwrap()
        };
        assert_eq!(filled(5), LeftOut::default());
        let three = LeftOut { cells: 0, rows: 3 };
        assert_eq!(filled(7), three);
        assert_eq!(
            three.in_words("Days").unwrap(),
            format!(
                "a workbook has no room for all of the sheet Days: 3 rows are not in it, and 0 cells are cut; {WHOLE}"
            )
        );
        assert_eq!(LeftOut::default().in_words("Days"), None);
        let long = "s".repeat(CELL_CHARS_MAX + 1);
        let cut = fill_up_to(&mut Worksheet::new(), &["t"], [Row::new().text(&long)], 5).unwrap();
        assert_eq!(cut, LeftOut { cells: 1, rows: 0 });
    }
}
