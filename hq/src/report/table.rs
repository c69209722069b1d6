//! The report for people at a terminal.

use mintmark_console::{Align, Console, Table};

use super::{Line, Report, serials_shown};

impl Report {
    /// Shows it on the console.
    pub(crate) fn show(&self, console: &Console) {
        console.line(self.summary());
        console.line(format!("of {}", self.scope()));
        for line in self.remarks() {
            console.line(line);
        }
        if !self.lines.is_empty() {
            console.line("");
            console.table(&self.account_table());
        }
        if !self.findings.is_empty() {
            console.line("");
            console.table(&self.finding_table());
        }
    }

    /// The same for a file.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{}\nof {}\n", self.summary(), self.scope());
        for line in self.remarks() {
            text += &format!("{line}\n");
        }
        if !self.lines.is_empty() {
            text += &format!("\n{}", self.account_table());
        }
        if !self.findings.is_empty() {
            text += &format!("\n{}", self.finding_table());
        }
        text
    }

    fn account_table(&self) -> Table {
        let names = ["SITE", "VAULT", "PRODUCT", "ENTITLEMENT"].map(|name| (name, Align::Left));
        let counts = [
            "AUTHORISED",
            "GOOD",
            "SCRAPPED",
            "VOIDED",
            "UNRESOLVED",
            "UNSPENT",
        ]
        .map(|name| (name, Align::Right));
        let mut table = Table::new(names.into_iter().chain(counts));
        for line in &self.lines {
            let counts = line.books.closing.counts();
            let counts = counts.into_iter().map(|(_, count)| count.to_string());
            table.row(line.name_cells().into_iter().chain(counts));
        }
        table
    }

    fn finding_table(&self) -> Table {
        let columns = ["SEVERITY", "CODE", "SITE", "VAULT"].map(|name| (name, Align::Left));
        let more = [
            ("RECORD", Align::Right),
            ("WHAT", Align::Left),
            ("SERIALS", Align::Left),
        ];
        let mut table = Table::new(columns.into_iter().chain(more));
        for finding in &self.findings {
            let sequence = finding.log_sequence.map(|at| at.to_string());
            table.row([
                finding.severity.to_string(),
                finding.code.clone(),
                finding.vault.site.to_string(),
                finding.vault.vault.to_string(),
                sequence.unwrap_or_default(),
                finding.text.clone(),
                serials_shown(&finding.serials),
            ]);
        }
        table
    }
}

impl Line {
    /// Site, vault, product and entitlement.
    pub(super) fn name_cells(&self) -> [String; 4] {
        [
            self.account.vault.site.to_string(),
            self.account.vault.vault.to_string(),
            self.account.sku.to_string(),
            self.account.entitlement.to_string(),
        ]
    }
}
