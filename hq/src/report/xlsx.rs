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
const ROWS_MAX: usize = 1_048_575;

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
        self.summary_sheet(workbook.add_worksheet())?;
        self.account_sheet(workbook.add_worksheet())?;
        self.finding_sheet(workbook.add_worksheet())?;
        self.day_sheet(workbook.add_worksheet())?;
        self.refusal_sheet(workbook.add_worksheet())?;
        workbook.save_to_buffer()
    }

    fn summary_sheet(&self, sheet: &mut Worksheet) -> Result<(), XlsxError> {
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
        fill(sheet, &["what", "value"], rows)
    }

    fn account_sheet(&self, sheet: &mut Worksheet) -> Result<(), XlsxError> {
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

    fn finding_sheet(&self, sheet: &mut Worksheet) -> Result<(), XlsxError> {
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

    fn day_sheet(&self, sheet: &mut Worksheet) -> Result<(), XlsxError> {
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

    fn refusal_sheet(&self, sheet: &mut Worksheet) -> Result<(), XlsxError> {
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

/// One row.
struct Row(Vec<Cell>);

impl Row {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn text(mut self, text: &str) -> Self {
        let text = printable(text).chars().take(CELL_CHARS_MAX).collect();
        self.0.push(Cell::Text(text));
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.push(match number {
            0..=EXACT_MAX => Cell::Number(number),
            _ => Cell::Text(number.to_string()),
        });
        self
    }
}

fn fill(
    sheet: &mut Worksheet,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold();
    for (column, name) in (0..).zip(header) {
        sheet.write_string_with_format(0, column, *name, &bold)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    let mut last = 0;
    for (number, row) in (1..).zip(rows.into_iter().take(ROWS_MAX)) {
        for (column, cell) in (0..).zip(row.0) {
            match cell {
                Cell::Text(text) => sheet.write_string(number, column, text)?,
                Cell::Number(value) => sheet.write_number(number, column, value as f64)?,
            };
        }
        last = number;
    }
    if let Some(columns) = u16::try_from(header.len()).ok().filter(|_| last > 0) {
        sheet.autofilter(0, 0, last, columns - 1)?;
    }
    Ok(())
}
