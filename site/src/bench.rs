//! For benchmarks alone: the code of `site issue`, over a log of the caller's or in a process that goes on.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use mintmark_console::{Console, Failure};
use mintmark_ledger::index::{GatheredIndex, SledIndex};
use mintmark_ledger::ledger::Ledger;
use mintmark_ledger::log::LogStore;
use mintmark_protocol::identifier::{Sku, StationId};

use crate::commands::issue::{self, Arguments};
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::place::Session;
use crate::submission::{Submission, Submissions};
use crate::vault::{Answer, Answered, Asker, BATCH_MAX, Inlet, Outlet, Promise, Requests, Vault};

/// What is issued, and where.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The home of the vault.
    pub home: &'a Path,
    /// The product.
    pub product: &'a str,
    /// A request, or a folder of them.
    pub csr: &'a Path,
    /// Where certificates go.
    pub output: &'a Path,
}

impl Order<'_> {
    fn arguments(&self, csr: &Path) -> Result<Arguments> {
        Ok(Arguments {
            product: self.product.parse::<Sku>()?,
            csr: csr.to_owned(),
            output: self.output.to_owned(),
            dry_run: false,
        })
    }
}

/// `site issue`, over a log that `log` makes of the one in a folder. What is appended to it, the home never knows: a home
/// is good for one such run.
///
/// # Errors
/// As `site issue`.
pub fn issue_over(
    log: impl FnOnce(&Path) -> Box<dyn LogStore>,
    order: Order<'_>,
    console: &Console,
) -> std::result::Result<(), Failure> {
    let over = || -> Result<()> {
        let submissions = Submissions::find(order.csr, console)?;
        let vault = Vault::open(Home::open(Some(order.home))?, console)?;
        let vault = vault.over_ledger(|ledger| {
            let genesis = ledger.state().genesis().cloned();
            let genesis = genesis.ok_or_else(|| Error::unknown("INTERNAL", "the log is empty"))?;
            let time = ledger.state().mark();
            ledger.close()?;
            let index = GatheredIndex::new(SledIndex::open(&order.home.join("index"))?);
            let log = log(&order.home.join("log"));
            Ok(Ledger::over(log, Box::new(index), genesis, time)?)
        })?;
        issue::execute_with(
            Session::over(vault),
            &order.arguments(order.csr)?,
            &submissions,
            console,
        )?;
        Ok(())
    };
    Ok(over()?)
}

/// How long each request of a folder takes, by itself, in a vault that is open: from its file to its certificate's.
///
/// # Errors
/// As `site issue`.
pub fn issue_one_by_one(
    order: Order<'_>,
    console: &Console,
) -> std::result::Result<Vec<Duration>, Failure> {
    let one_by_one = || -> Result<Vec<Duration>> {
        let folder = Submissions::find(order.csr, console)?;
        let mut vault = Session::over(Vault::open(Home::open(Some(order.home))?, console)?);
        let mut took = Vec::new();
        for name in folder.names() {
            let begin = Instant::now();
            let path = order.csr.join(name);
            let submissions = Submissions::find(&path, console)?;
            issue::answer(&mut vault, &order.arguments(&path)?, &submissions, console)?;
            took.push(begin.elapsed());
        }
        vault.close()?;
        Ok(took)
    };
    Ok(one_by_one()?)
}

/// Issues for requests that `request` makes, one for each number below `count`, and throws the certificates away: they are
/// on record like any other, and no folder is filled with them.
///
/// # Errors
/// As `site issue`; INTERNAL if one of them is refused.
pub fn fill(
    home: &Path,
    product: &str,
    count: usize,
    request: impl Fn(usize) -> Vec<u8> + Sync,
    console: &Console,
) -> std::result::Result<(), Failure> {
    let fill = || -> Result<()> {
        let mut vault = Vault::open(Home::open(Some(home))?, console)?;
        vault.settle()?;
        let made = Made {
            count,
            request,
            product: product.parse()?,
            station: StationId::console(),
        };
        let failed = vault.issue(&made, &mut Discarded)?;
        vault.close()?;
        failed.map_or(Ok(()), Err)
    };
    Ok(fill()?)
}

/// Requests that are made when they are read.
struct Made<F> {
    count: usize,
    request: F,
    product: Sku,
    station: StationId,
}

impl<F: Fn(usize) -> Vec<u8> + Sync> Inlet for Made<F> {
    type Unreadable = Infallible;

    fn batches(&self) -> usize {
        self.count.div_ceil(BATCH_MAX)
    }

    fn asker(&self, _: usize) -> Option<Asker<'_>> {
        Some(Asker {
            station: &self.station,
            product: &self.product,
        })
    }

    fn read(&self, batch: usize) -> Requests<Infallible> {
        let first = batch * BATCH_MAX;
        let numbers = first..(first + BATCH_MAX).min(self.count);
        let made = numbers.map(|number| Submission::from_bytes(&(self.request)(number)));
        made.map(Ok).collect()
    }
}

/// Where certificates are thrown away.
struct Discarded;

impl<I: Inlet> Outlet<I> for Discarded {
    type Delivered = ();

    fn release(
        &mut self,
        _: &Vault<'_>,
        answered: Answered<I>,
        delivered: Promise<I, ()>,
    ) -> Result<()> {
        let issued = |answer: &Answer| matches!(answer, Answer::Issued(_));
        if !answered.answers.iter().all(issued) {
            return Err(Error::unknown(
                "INTERNAL",
                "a request was not answered by a certificate",
            ));
        }
        delivered.deliver(());
        Ok(())
    }

    fn report(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}
