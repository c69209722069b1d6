//! What was granted, held against what was made: the whole of one report, before it is shown in any form.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::{Failure, printable};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{EntitlementId, SiteId, Sku, VaultName};
use rusqlite::Connection;

use self::books::{Balance, Books, Moved, Moves};
use self::granted::{Grants, Place};
use self::period::{Day, Period};
use crate::certified_again::CertifiedAgain;
use crate::clock::DAY_SECONDS;
use crate::failure;
use crate::findings::{Finding, Severity, kinds};
use crate::registry::accounts::{self, Account};
use crate::registry::postings::{self, Bucket, Posting};
use crate::registry::{bundles, dispatches, findings, vaults};

pub(crate) mod books;
mod chart;
mod crl_overdue;
mod csv;
mod granted;
mod html;
mod json;
mod leftover;
mod overdue;
pub(crate) mod period;
mod plots;
pub(crate) mod seal;
mod table;
mod xlsx;

/// What a report is of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// One site; all if there is none.
    pub(crate) site: Option<SiteId>,
    /// One product.
    pub(crate) product: Option<Sku>,
    /// One entitlement.
    pub(crate) entitlement: Option<EntitlementId>,
    /// Which days.
    pub(crate) period: Period,
    /// After how many days a site without a bundle is silent; what its entitlements say if none is given.
    pub(crate) silent_days: Option<u64>,
}

impl Query {
    /// In one line: of what, and of which days.
    fn in_words(&self) -> String {
        fn of<T: std::fmt::Display>(one: &str, all: &str, named: Option<&T>) -> String {
            named.map_or_else(|| all.to_owned(), |name| format!("{one} {name}"))
        }
        let silent = match self.silent_days {
            Some(days) => format!("; silent is who says nothing for more than {days} days"),
            None => String::new(),
        };
        format!(
            "{}; {}; {}; {}{silent}",
            of("site", "all sites", self.site.as_ref()),
            of("product", "all products", self.product.as_ref()),
            of("entitlement", "all entitlements", self.entitlement.as_ref()),
            self.period,
        )
    }
}

/// One account: one product of one entitlement of one vault.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// As of the newest bundle.
    pub(crate) account: Account,
    /// As of the period.
    pub(crate) books: Books,
    /// The most units of a UTC day, if there is a limit.
    pub(crate) per_day: Option<u64>,
    /// What it had from each day on.
    pub(crate) granted: Vec<(Day, u64)>,
}

impl Line {
    /// Whether its vault knows the entitlement to be revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.account.revoked_at.is_some()
    }

    /// Whether another vault took the place of its own while units were left.
    pub(crate) fn was_written_off(&self) -> bool {
        self.books.closing.written_off > 0 || self.account.used_after_all > 0
    }
}

/// What one account did on one UTC day of its log.
#[derive(Clone, Debug)]
pub(crate) struct DayLine {
    /// Which of the report's lines.
    pub(crate) line: usize,
    pub(crate) day: Day,
    pub(crate) moves: Moves,
}

/// How often a vault refused a product by one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) vault: VaultName,
    pub(crate) product: Sku,
    pub(crate) code: String,
}

/// Everything that there is to say.
pub(crate) struct Report {
    /// Whose it is: the name of headquarters.
    pub(crate) hq_name: String,
    pub(crate) query: Query,
    pub(crate) lines: Vec<Line>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) days: Vec<DayLine>,
    pub(crate) refusals: BTreeMap<Rule, u64>,
    /// Units that were spent by the end of a day and of which headquarters learned later, by day.
    pub(crate) unreported: BTreeMap<Day, u64>,
    /// The time of the newest checkpoint, Unix seconds.
    pub(crate) as_of: Option<u64>,
}

impl Report {
    /// Reads it from the registry of the headquarters of this name.
    pub(crate) fn new(sql: &Connection, hq_name: &str, query: Query) -> Result<Self, Failure> {
        let site = query.site.as_ref();
        let known = vaults::all(sql)?;
        if let Some(site) = site
            && !known.iter().any(|vault| vault.name.site == *site)
        {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site `{site}`"),
                "`hq site list` shows which there are",
            ));
        }
        let mut accounts = accounts::all(sql, site)?;
        accounts.retain(|account| {
            let product = query.product.as_ref();
            let entitlement = query.entitlement.as_ref();
            product.is_none_or(|product| account.sku == *product)
                && entitlement.is_none_or(|entitlement| account.entitlement == *entitlement)
        });
        let mut findings = findings::all(sql, site)?;
        CertifiedAgain::new(sql).explain(&mut findings)?;
        let mut of_today = leftover::unresolved(sql, site, &accounts)?;
        of_today.extend(overdue::all(sql, &known, &query)?);
        debug_assert!(
            of_today
                .iter()
                .all(|finding| kinds::is_known(&finding.code, finding.severity))
        );
        findings.extend(of_today);
        // Of one product, the findings are those of the vaults that make it: a log is one log.
        if query.product.is_some() || query.entitlement.is_some() {
            let of: BTreeSet<_> = accounts.iter().map(|account| &account.vault).collect();
            findings.retain(|finding| of.contains(&finding.vault));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let journal = postings::all(sql, site)?;
        let replaced = replaced(sql, &known)?;
        let grants = Grants::new(sql, site)?;
        let mut refusals = BTreeMap::new();
        let vaults: BTreeSet<_> = accounts.iter().map(|account| &account.vault).collect();
        for refused in postings::refusals(sql, site, &query.period.days())? {
            let wanted = query.product.as_ref();
            if vaults.contains(&refused.vault) && wanted.is_none_or(|of| refused.sku == *of) {
                let rule = Rule {
                    vault: refused.vault,
                    product: refused.sku,
                    code: refused.code,
                };
                *refusals.entry(rule).or_default() += refused.requests;
            }
        }
        let as_of = bundles::as_of(sql, site)?;
        let mut report = Self {
            hq_name: hq_name.to_owned(),
            query,
            lines: Vec::new(),
            findings,
            days: Vec::new(),
            refusals,
            unreported: BTreeMap::new(),
            as_of,
        };
        report.keep_books(accounts, &journal, &grants, &replaced);
        Ok(report)
    }

    fn keep_books(
        &mut self,
        accounts: Vec<Account>,
        journal: &[Posting],
        grants: &Grants,
        replaced: &BTreeMap<VaultName, Day>,
    ) {
        let period = self.query.period;
        let mut moved: BTreeMap<Place, Moved> = BTreeMap::new();
        let places: BTreeMap<Place, usize> = accounts
            .iter()
            .enumerate()
            .map(|(at, account)| ((account.vault.clone(), account.tag), at))
            .collect();
        let mut days: BTreeMap<(usize, Day), Moves> = BTreeMap::new();
        for posting in journal {
            let place = (posting.vault.clone(), posting.tag);
            let Some(line) = places.get(&place) else {
                continue;
            };
            let of = moved.entry(place).or_default();
            if period.is_before(posting.day) {
                of.before.add(posting.moved, posting.units);
            } else if period.is_after(posting.day) {
                of.after.add(posting.moved, posting.units);
            } else {
                of.during.add(posting.moved, posting.units);
                let day = days.entry((*line, Day(posting.day))).or_default();
                day.add(posting.moved, posting.units);
                self.note_unreported(posting);
            }
        }
        self.days = days
            .into_iter()
            .map(|((line, day), moves)| DayLine { line, day, moves })
            .collect();
        for account in accounts {
            let place = (account.vault.clone(), account.tag);
            let moved = moved.remove(&place).unwrap_or_default();
            let before = match period.since {
                Some(day) if day.0 > 0 => grants.at(&place, day.0 - 1),
                _ => 0,
            };
            let (at_end, sent) = (
                grants.at(&place, *period.days().end()),
                grants.at(&place, u64::MAX),
            );
            // What was left when another vault took over is written off since that day.
            let is_over = replaced
                .get(&account.vault)
                .is_some_and(|day| !period.is_after(day.0));
            let written_off = if is_over { account.written_off } else { 0 };
            self.lines.push(Line {
                books: Books::new(&account, (before, at_end, sent), moved, written_off),
                per_day: grants.per_day(&place),
                granted: grants.days(&place).to_vec(),
                account,
            });
        }
    }

    /// A unit is unreported from the day on which it was spent until headquarters learned of it.
    fn note_unreported(&mut self, posting: &Posting) {
        const DAYS_MAX: u64 = 3_660;
        if posting.moved.debit != Bucket::Unspent {
            return;
        }
        let (first, end) = (posting.day, posting.reported_day);
        // A clock that was far behind is a finding, and no reason to count for ages.
        for day in (first..end).take(DAYS_MAX as usize) {
            let sum = self.unreported.entry(Day(day)).or_default();
            *sum = sum.saturating_add(posting.units);
        }
    }

    /// Whether the books of every account balance.
    pub(crate) fn balanced(&self) -> bool {
        self.lines.iter().all(|line| line.books.balance())
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.balanced() && !self.findings.iter().any(Finding::counts)
    }

    /// All accounts together.
    pub(crate) fn total(&self) -> Balance {
        let mut total = Balance::default();
        for line in &self.lines {
            total.add(&line.books.closing);
        }
        total
    }

    /// All accounts that have something in common, together.
    pub(crate) fn totals<K: Ord>(&self, key: impl Fn(&Line) -> K) -> BTreeMap<K, Balance> {
        let mut totals: BTreeMap<K, Balance> = BTreeMap::new();
        for line in &self.lines {
            let total = totals.entry(key(line)).or_default();
            total.add(&line.books.closing);
        }
        totals
    }

    /// How many findings there are of each severity, the gravest first.
    pub(crate) fn counted(&self) -> Vec<(Severity, usize)> {
        let count = |severity| {
            let of = |finding: &&Finding| finding.severity == severity;
            (severity, self.findings.iter().filter(of).count())
        };
        [
            Severity::Critical,
            Severity::Major,
            Severity::Minor,
            Severity::Note,
        ]
        .map(count)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Whose report it is, and of what: without it, nobody could say what is not in it.
    pub(crate) fn scope(&self) -> String {
        format!("{}: {}", printable(&self.hq_name), self.query.in_words())
    }

    /// In one line.
    pub(crate) fn summary(&self) -> String {
        let mut counted: Vec<String> = self
            .counted()
            .into_iter()
            .map(|(severity, count)| format!("{count} {severity}"))
            .collect();
        if counted.is_empty() {
            counted.push("none".to_owned());
        }
        let as_of = match self.as_of {
            Some(as_of) => format!("as of {}", mintmark_console::time::rfc3339(as_of)),
            None => "nothing was reported yet".to_owned(),
        };
        let period = match self.query.period {
            period if period.is_whole() => String::new(),
            period => format!("; {period}"),
        };
        format!(
            "{} accounts, {}; findings: {}; {as_of}{period}",
            self.lines.len(),
            if self.balanced() {
                "balanced"
            } else {
                "NOT BALANCED"
            },
            counted.join(", "),
        )
    }

    /// What is to be said of single accounts, in sentences: why one does not balance, what was written off, what can no
    /// longer be spent.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for line in &self.lines {
            let (account, closing) = (&line.account, &line.books.closing);
            let Account {
                vault,
                sku,
                entitlement,
                ..
            } = account;
            for fault in &line.books.faults {
                remarks.push(format!(
                    "{vault}: the account of {sku} in {entitlement} does not balance: {fault}"
                ));
            }
            for remark in &line.books.remarks {
                remarks.push(format!(
                    "{vault}: of {sku} in {entitlement}, by the days of this period alone: {remark}; grants count by \
                     headquarters' day, and units by the vault's"
                ));
            }
            if line.was_written_off() {
                let mut remark = format!(
                    "{vault}: {} units of {sku} in {entitlement} are written off with it, and may be granted again to its \
                     successor",
                    closing.written_off
                );
                if account.used_after_all > 0 {
                    remark += &format!(
                        "; {} more were written off and turned out to be used",
                        account.used_after_all
                    );
                }
                remarks.push(remark);
            }
            if closing.unspent() > 0 && line.is_revoked() {
                remarks.push(format!(
                    "{vault}: {} unspent units of {sku} in {entitlement} cannot be spent, as the entitlement is revoked",
                    closing.unspent()
                ));
            }
        }
        remarks
    }
}

/// Since when another vault has the place of each that was replaced.
fn replaced(
    sql: &Connection,
    vaults: &[vaults::Vault],
) -> Result<BTreeMap<VaultName, Day>, Failure> {
    let mut replaced = BTreeMap::new();
    for vault in vaults {
        if let Some(by) = &vault.successor {
            let name = VaultName {
                site: vault.name.site.clone(),
                vault: by.clone(),
            };
            let since = dispatches::first_made_at(sql, &name, Kind::EnrolmentGrant)?;
            let since = since.unwrap_or_default() / DAY_SECONDS;
            replaced.insert(vault.name.clone(), Day(since));
        }
    }
    Ok(replaced)
}

/// The serials that a person is shown, and how many more there are.
pub(crate) fn serials_shown(serials: &[String]) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<&str> = serials.iter().take(SHOWN).map(String::as_str).collect();
    match serials.len().saturating_sub(SHOWN) {
        0 => shown.join(" "),
        more => format!("{} +{more} more", shown.join(" ")),
    }
}

/// The moves that every form of a report shows, by name.
pub(crate) fn named_moves(moves: &Moves) -> [(&'static str, u64); 5] {
    [
        ("newly_reserved", Bucket::Reserved),
        ("newly_burned", Bucket::Burned),
        ("newly_good", Bucket::Good),
        ("newly_scrapped", Bucket::Scrapped),
        ("newly_voided", Bucket::Voided),
    ]
    .map(|(name, bucket)| (name, moves.credited_to(bucket)))
}
