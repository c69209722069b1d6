//! `hq reconcile`: what was granted, held against what was made.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::identifier::{EntitlementId, SiteId, Sku};
use mintmark_protocol::report::ReportFormat;
use serde_json::json;

use crate::failure;
use crate::home::Home;
use crate::report::period::{Day, Period};
use crate::report::{Query, Report, seal};

/// Hold what was granted against what was made, and say what does not fit.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// One site; all if none is given.
    #[arg(long, value_name = "S")]
    site: Option<SiteId>,
    /// One product.
    #[arg(long, value_name = "SKU")]
    product: Option<Sku>,
    /// One entitlement.
    #[arg(long, value_name = "ID")]
    entitlement: Option<EntitlementId>,
    /// The first day, as 2027-01-31 (UTC); what was before is the opening balance.
    #[arg(long, value_name = "DAY")]
    since: Option<Day>,
    /// The last day; everything that was reported if none is given.
    #[arg(long, value_name = "DAY")]
    as_of: Option<Day>,
    /// After how many days without a bundle a vault is called silent, and a revocation unseen; without it, after as many as
    /// its entitlements let it work unreported.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3650))]
    silent_days: Option<u64>,
    /// How to show it: as a table unless --json is given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A file to write it to, in place of standard output.
    #[arg(long, value_name = "F")]
    output: Option<PathBuf>,
    /// Seal what is written with the report key of headquarters; `hq report verify` checks it.
    #[arg(long, requires = "output")]
    sign: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// The same as --json.
    Json,
    /// One row for each account, then one for each finding.
    Csv,
    /// A workbook.
    Xlsx,
    /// One page with plots, which needs nothing beside itself.
    Html,
}

impl From<Format> for ReportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => Self::Table,
            Format::Json => Self::Json,
            Format::Csv => Self::Csv,
            Format::Xlsx => Self::Xlsx,
            Format::Html => Self::Html,
        }
    }
}

impl Reconcile {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let format = self.format(console)?;
        let period = self.period()?;
        let home = Home::read_hq(home)?;
        let registry = home.registry()?;
        let query = Query {
            site: self.site,
            product: self.product,
            entitlement: self.entitlement,
            period,
            silent_days: self.silent_days,
        };
        let report = Report::new(&registry.sql, &home.config.name, query)?;
        let said = match (&self.output, format) {
            (None, Format::Json) => console.json(&report.to_json()),
            (None, Format::Table) => {
                report.show(console);
                Ok(())
            }
            (None, format) => console.write_data(&written(&report, format)?),
            (Some(output), format) => {
                let mut bytes = written(&report, format)?;
                if self.sign {
                    bytes = seal::seal(&home, format.into(), bytes, console)?;
                }
                files::write_replace(output, &bytes)?;
                if console.is_json() {
                    console.json(&json!({
                        "schema": "mintmark/reconcile-file/1",
                        "file": output.display().to_string(),
                        "balanced": report.balanced(),
                        "findings": report.findings.len(),
                        "sealed": self.sign,
                    }))
                } else {
                    console.note(format!("{}: {}", output.display(), report.summary()));
                    Ok(())
                }
            }
        };
        said.map_err(|error| Failure::output(&error))?;
        Ok(match report.is_clean() {
            true => Exit::Done,
            false => Exit::Negative,
        })
    }

    /// How to show it. A reader of JSON is not given anything else.
    fn format(&self, console: &Console) -> Result<Format, Failure> {
        match self.format {
            Some(format)
                if console.is_json() && format != Format::Json && self.output.is_none() =>
            {
                Err(failure::usage(
                    "USAGE",
                    "--json and --format ask for two different formats",
                    "leave out one of them, or write the other one to a file with --output",
                ))
            }
            None if console.is_json() => Ok(Format::Json),
            format => Ok(format.unwrap_or(Format::Table)),
        }
    }

    fn period(&self) -> Result<Period, Failure> {
        match (self.since, self.as_of) {
            (Some(since), Some(as_of)) if since > as_of => Err(failure::usage(
                "USAGE",
                format!("--since {since} is after --as-of {as_of}"),
                "both days belong to the period: the first must not be after the last",
            )),
            (since, as_of) => Ok(Period { since, as_of }),
        }
    }
}

/// What a file of this format holds.
fn written(report: &Report, format: Format) -> Result<Vec<u8>, Failure> {
    Ok(match format {
        Format::Json => format!("{:#}\n", report.to_json()).into_bytes(),
        Format::Table => report.to_text().into_bytes(),
        Format::Csv => report.to_csv()?,
        Format::Xlsx => report.to_xlsx()?,
        Format::Html => report.to_html().into_bytes(),
    })
}
