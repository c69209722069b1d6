//! The report as CSV (RFC 4180): one row for each account, one for each finding, and a last one of what the report is of; the
//! first column says which.

use mintmark_console::{Failure, printable};

use super::{Report, named_moves};
use crate::failure;
use crate::findings::Finding;

/// What a finding has no cells for: an account's names and counts.
const ACCOUNT_CELLS: usize = 8;
/// The counts of an account.
const COUNT_CELLS: usize = 6;
/// What an account has no cells for.
const FINDING_CELLS: usize = 5;
/// What moved in an account.
const MOVE_CELLS: usize = 5;

const HEADER: [&str; 21] = [
    "row",
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
    "code",
    "severity",
    "log_sequence",
    "serials",
    "text",
    "newly_reserved",
    "newly_burned",
    "newly_good",
    "newly_scrapped",
    "newly_voided",
];

impl Report {
    /// The whole of it.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written, which memory never refuses.
    pub(crate) fn to_csv(&self) -> Result<Vec<u8>, Failure> {
        let mut csv = ::csv::WriterBuilder::new()
            .terminator(::csv::Terminator::CRLF)
            .from_writer(Vec::new());
        csv.write_record(HEADER).map_err(failure::home_corrupt)?;
        for line in &self.lines {
            let counts = line.books.closing.counts().into_iter();
            let moves = named_moves(&line.books.moves).into_iter();
            let cells = std::iter::once("account".to_owned())
                .chain(line.name_cells())
                .chain(counts.map(|(_, count)| count.to_string()))
                .chain(std::iter::repeat_n(String::new(), FINDING_CELLS))
                .chain(moves.map(|(_, units)| units.to_string()));
            csv.write_record(cells.map(|text| cell(&text)))
                .map_err(failure::home_corrupt)?;
        }
        for finding in &self.findings {
            csv.write_record(finding_cells(finding).map(|text| cell(&text)))
                .map_err(failure::home_corrupt)?;
        }
        csv.write_record(self.scope_cells().map(|text| cell(&text)))
            .map_err(failure::home_corrupt)?;
        csv.into_inner().map_err(failure::home_corrupt)
    }

    /// Of one site, product and entitlement, these are named; the sentence names everything.
    fn scope_cells(&self) -> impl Iterator<Item = String> {
        let named = |name: Option<String>| name.unwrap_or_default();
        let query = &self.query;
        let names = [
            "report".to_owned(),
            named(query.site.as_ref().map(ToString::to_string)),
            String::new(),
            named(query.product.as_ref().map(ToString::to_string)),
            named(query.entitlement.as_ref().map(ToString::to_string)),
        ];
        let text = names.len() + COUNT_CELLS + FINDING_CELLS - 1;
        let before = std::iter::repeat_n(String::new(), text - names.len());
        let after = std::iter::repeat_n(String::new(), HEADER.len() - text - 1);
        names
            .into_iter()
            .chain(before)
            .chain([self.scope()])
            .chain(after)
    }
}

fn finding_cells(finding: &Finding) -> impl Iterator<Item = String> {
    let names = [
        "finding".to_owned(),
        finding.vault.site.to_string(),
        finding.vault.vault.to_string(),
    ];
    let sequence = finding.log_sequence.map(|at| at.to_string());
    let rest = [
        finding.code.clone(),
        finding.severity.to_string(),
        sequence.unwrap_or_default(),
        finding.serials.join(" "),
        finding.text.clone(),
    ];
    let nothing = std::iter::repeat_n(String::new(), ACCOUNT_CELLS);
    let no_moves = std::iter::repeat_n(String::new(), MOVE_CELLS);
    names.into_iter().chain(nothing).chain(rest).chain(no_moves)
}

/// What a spreadsheet would take for a formula or a terminal for a command is made plain text: parts of it come from a
/// factory.
pub(super) fn cell(text: &str) -> String {
    let text = printable(text).into_owned();
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_can_be_neither_a_formula_nor_a_command() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "a,b"),
            ("=1+1", "'=1+1"),
            ("@x,y", "'@x,y"),
            ("-2+3", "'-2+3"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
