//! The report as one page that needs nothing beside itself: no script, no picture, no letter from elsewhere. Everything that
//! comes from a site is escaped by the templates.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use mintmark_console::printable;
use mintmark_console::time::rfc3339;

use super::books::Balance;
use super::chart::grouped;
use super::{Line, Report, named_moves, plots};
use crate::findings::Finding;

/// Whatever slipped in: nothing is loaded and nothing runs.
const CONTENT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const COUNTS: [&str; 6] = [
    "Authorised",
    "Good",
    "Scrapped",
    "Voided",
    "Unresolved",
    "Unspent",
];

impl Report {
    /// The page.
    pub(crate) fn to_html(&self) -> String {
        let of = match &self.query.site {
            Some(site) => format!("Reconciliation of {site}"),
            None => "Reconciliation".to_owned(),
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(CONTENT_POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (of) }
                    style { (PreEscaped(include_str!("page.css"))) }
                }
                body {
                    a.skip href="#totals" { "Skip to the totals" }
                    header {
                        h1 { (of) }
                        p.soft { (self.describe()) }
                        nav aria-label="Contents" { ul {
                            @for (id, name) in [
                                ("totals", "Totals"), ("findings", "Findings"), ("plots", "Plots"), ("accounts", "Accounts"),
                            ] {
                                li { a href=(format!("#{id}")) { (name) } }
                            }
                        } }
                    }
                    main {
                        (self.verdict())
                        (self.totals_section())
                        (self.findings_section())
                        (plots::section(self))
                        (self.accounts_section())
                    }
                }
            }
        };
        page.into_string()
    }

    fn describe(&self) -> String {
        let mut words = match self.as_of {
            Some(as_of) => format!("As of {}, the newest checkpoint", rfc3339(as_of)),
            None => "Nothing was reported yet".to_owned(),
        };
        words += &format!(". Of {}", self.scope());
        words + ". Days are UTC days, by the clocks of the logs."
    }

    fn verdict(&self) -> Markup {
        let class = if self.is_clean() { "good" } else { "bad" };
        html! {
            p class=(format!("verdict {class}")) role="status" { (self.summary()) }
            @let remarks = self.remarks();
            @if !remarks.is_empty() {
                ul { @for remark in &remarks { li { (shown(remark)) } } }
            }
        }
    }

    fn totals_section(&self) -> Markup {
        html! {
            section aria-labelledby="totals" {
                h2 id="totals" { "Totals" }
                (totals("All together", "", [(String::new(), self.total())]))
                @let sites = self.totals(|line| line.account.vault.site.to_string());
                @if sites.len() > 1 { (totals("By site", "Site", sites)) }
                @let products = self.totals(|line| line.account.sku.to_string());
                @if products.len() > 1 { (totals("By product", "Product", products)) }
                @let entitlements = self.totals(|line| line.account.entitlement.to_string());
                @if entitlements.len() > 1 { (totals("By entitlement", "Entitlement", entitlements)) }
            }
        }
    }

    fn findings_section(&self) -> Markup {
        html! {
            section.findings aria-labelledby="findings" {
                h2 id="findings" { "Findings" }
                @if self.findings.is_empty() {
                    p { "None." }
                } @else {
                    div.scroll tabindex="0" role="region" aria-label="Findings" {
                        table {
                            thead { tr {
                                @for name in ["Severity", "Code", "Site", "Vault"] { th scope="col" { (name) } }
                                th scope="col" .number { "Record" }
                                th scope="col" { "What, and the evidence" }
                            } }
                            tbody { @for finding in &self.findings { (row_of(finding)) } }
                        }
                    }
                }
            }
        }
    }

    fn accounts_section(&self) -> Markup {
        html! {
            section aria-labelledby="accounts" {
                h2 id="accounts" { "Accounts" }
                p.soft { "What was authorised is what is good, scrapped, voided, unresolved and unspent." }
                div.scroll tabindex="0" role="region" aria-label="Accounts" {
                    table {
                        thead { tr { (name_heads()) @for name in COUNTS { th scope="col" .number { (name) } } th scope="col" { "Balanced" } } }
                        tbody { @for line in &self.lines { tr {
                            (names_of(line))
                            @for (_, count) in line.books.closing.counts() { td.number { (grouped(count)) } }
                            td { @if line.books.balance() { "yes" } @else { strong.critical { "NO" } } }
                        } } }
                    }
                }
                h3 { "What moved in the period" }
                div.scroll tabindex="0" role="region" aria-label="What moved in the period" {
                    table {
                        thead { tr {
                            (name_heads())
                            @for name in ["Reserved", "Burned", "Certified", "Scrapped", "Voided"] { th scope="col" .number { (name) } }
                        } }
                        tbody { @for line in &self.lines { tr {
                            (names_of(line))
                            @for (_, count) in named_moves(&line.books.moves) { td.number { (grouped(count)) } }
                        } } }
                    }
                }
            }
        }
    }
}

fn totals(caption: &str, name: &str, rows: impl IntoIterator<Item = (String, Balance)>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    @if !name.is_empty() { th scope="col" { (name) } }
                    @for name in COUNTS { th scope="col" .number { (name) } }
                } }
                tbody { @for (key, balance) in rows { tr {
                    @if !name.is_empty() { th scope="row" { (key) } }
                    @for (_, count) in balance.counts() { td.number { (grouped(count)) } }
                } } }
            }
        }
    }
}

fn row_of(finding: &Finding) -> Markup {
    html! {
        tr {
            td { span class=(format!("severity {}", finding.severity)) { (finding.severity) } }
            th scope="row" { (finding.code) }
            td { (finding.vault.site) }
            td { (finding.vault.vault) }
            td.number { @if let Some(sequence) = finding.log_sequence { (grouped(sequence)) } }
            td.text {
                (shown(&finding.text))
                details {
                    summary { "Evidence" }
                    @if !finding.serials.is_empty() {
                        p { "Serials: " code { (finding.serials.join(" ")) } }
                    }
                    pre { (shown_lines(&format!("{:#}", finding.evidence))) }
                }
            }
        }
    }
}

fn name_heads() -> Markup {
    html! { @for name in ["Site", "Vault", "Product", "Entitlement"] { th scope="col" { (name) } } }
}

fn names_of(line: &Line) -> Markup {
    html! { @for name in line.name_cells() { td { (name) } } }
}

/// Text in which nothing hides: what would turn the direction of writing or vanish is shown as what it is.
fn shown(text: &str) -> String {
    printable(text).into_owned()
}

fn shown_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(shown).collect();
    lines.join("\n")
}
