//! A round: wants of many stations that the vault answers together, as one row of its line.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use mintmark_console::{Exit, Failure};
use mintmark_ledger::entry::{DeviceAction, DeviceOrder};
use mintmark_ledger::refusal::Refusal;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use super::board::Tally;
use super::desk::{Answering, Given, Waiting, Want};
use super::engine::unavailable;
use crate::commands::device::device_status;
use crate::failure::{Error, Result};
use crate::submission::Submission;
use crate::vault::{Answer, Answered, Asker, BATCH_MAX, Inlet, Outlet, Promise, Requests, Vault};

/// Wants that are answered together.
pub(super) struct Round {
    batches: Vec<Batch>,
    orders: Vec<(DeviceOrder, Answering)>,
    histories: Vec<(Option<Sku>, DeviceId, Answering)>,
}

/// Requests of one station for one product.
struct Batch {
    station: StationId,
    product: Sku,
    /// Those of re-enrolments by their places, until the reworks are decided.
    again: Vec<usize>,
    submissions: Mutex<Vec<Submission>>,
    /// Who waits for them, each in its place.
    answers: Vec<Answering>,
}

impl Round {
    /// Sorts what waits into batches, as many as keep all processors busy.
    pub(super) fn of(round: Vec<Waiting>) -> Self {
        let certificates = round
            .iter()
            .filter(|waiting| matches!(waiting.want, Want::Certificate { .. }));
        let share = certificates
            .count()
            .div_ceil(2 * rayon::current_num_threads());
        let size = share.clamp(1, BATCH_MAX);
        let (mut batches, mut orders, mut histories) =
            (Vec::<Batch>::new(), Vec::new(), Vec::new());
        let mut open: BTreeMap<(StationId, Sku), usize> = BTreeMap::new();
        for Waiting {
            station,
            want,
            answer,
        } in round
        {
            match want {
                Want::Certificate {
                    product,
                    submission,
                    again,
                } => {
                    let key = (station, product);
                    let at = open.get(&key).copied();
                    let at =
                        at.filter(|at| batches.get(*at).is_some_and(|b| b.answers.len() < size));
                    let at = at.unwrap_or_else(|| {
                        batches.push(Batch {
                            station: key.0.clone(),
                            product: key.1.clone(),
                            again: Vec::new(),
                            submissions: Mutex::default(),
                            answers: Vec::new(),
                        });
                        let at = batches.len() - 1;
                        open.insert(key, at);
                        at
                    });
                    if let Some(batch) = batches.get_mut(at) {
                        if again {
                            batch.again.push(batch.answers.len());
                        }
                        batch.answers.push(answer);
                        let submissions = batch.submissions.get_mut();
                        submissions
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(submission);
                    }
                }
                Want::Device(order) => orders.push((order, answer)),
                Want::History { product, device_id } => {
                    histories.push((product, device_id, answer))
                }
            }
        }
        Self {
            batches,
            orders,
            histories,
        }
    }

    /// Answers all of it. Gives what the token failed with, if it did.
    pub(super) fn run(mut self, vault: &mut Vault<'_>, tally: &mut Tally) -> Result<Option<Error>> {
        let mut counter = Counter {
            answers: Vec::new(),
            askers: Vec::new(),
            open: Vec::new(),
            tally,
        };
        let orders = std::mem::take(&mut self.orders);
        let histories = std::mem::take(&mut self.histories);
        let answered = answer_orders(orders, vault, counter.tally)
            .and_then(|()| self.allow_reworks(vault, counter.tally))
            .and_then(|()| {
                for batch in &mut self.batches {
                    counter
                        .askers
                        .push((batch.station.clone(), batch.product.clone()));
                    counter.answers.push(std::mem::take(&mut batch.answers));
                }
                if self.batches.is_empty() {
                    return Ok(None);
                }
                vault.issue(&self, &mut counter)
            });
        let why = match &answered {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(error.failure().clone()),
        };
        let why = unavailable(why.unwrap_or_else(|| {
            Failure::new(
                Exit::Unknown,
                "CERTIFICATE-PENDING",
                "a unit is reserved for this device and could not be signed for yet",
            )
            .hint("ask again: it gets that very certificate, and no other unit is spent")
        }));
        let waiting = self.batches.into_iter().flat_map(|batch| batch.answers);
        let unanswered = counter
            .answers
            .into_iter()
            .flatten()
            .chain(counter.open)
            .chain(waiting);
        for answer in unanswered {
            answer.answer(Err(why.clone()));
        }
        for (product, device_id, answer) in histories {
            let history = vault.device_history(product.as_ref(), &device_id);
            answer.answer(match history {
                Ok(history) => {
                    let told = history.into_iter().map(|issue| {
                        let became = device_status(vault.state(), &issue);
                        (issue, became)
                    });
                    Ok(Given::History(told.collect()))
                }
                Err(error) => Err(unavailable(error.into())),
            });
        }
        answered
    }

    /// Before a device that has a certificate for another key gets one for this: the policy has to allow the rework. Those of
    /// which it does not are answered so.
    fn allow_reworks(&mut self, vault: &mut Vault<'_>, tally: &mut Tally) -> Result<()> {
        for batch in &mut self.batches {
            let submissions = batch.submissions.get_mut();
            let submissions = submissions.unwrap_or_else(PoisonError::into_inner);
            let mut refused: BTreeMap<usize, Refusal> = BTreeMap::new();
            for at in std::mem::take(&mut batch.again) {
                let Some(submission) = submissions.get(at) else {
                    continue;
                };
                if let Some(no) = rework(vault, &batch.station, &batch.product, submission)? {
                    refused.insert(at, no);
                }
            }
            if refused.is_empty() {
                continue;
            }
            let asked = std::mem::take(submissions).into_iter();
            let asked = asked.zip(std::mem::take(&mut batch.answers));
            for (at, (submission, answer)) in asked.enumerate() {
                match refused.remove(&at) {
                    None => {
                        submissions.push(submission);
                        batch.answers.push(answer);
                    }
                    Some(refusal) => {
                        tally.refused(&batch.product, &refusal);
                        answer.answer(Ok(Given::Certificate {
                            answer: Answer::Refused(refusal),
                            chain: Vec::new(),
                            secrets: Vec::new(),
                        }));
                    }
                }
            }
        }
        self.batches.retain(|batch| !batch.answers.is_empty());
        Ok(())
    }
}

/// Stages the rework of a device that has a certificate for another key, if there is one; why not, if that is refused.
fn rework(
    vault: &mut Vault<'_>,
    station: &StationId,
    product: &Sku,
    submission: &Submission,
) -> Result<Option<Refusal>> {
    let Submission::Verified(csr) = submission else {
        return Ok(None);
    };
    let Some(device_id) = vault.device_id(product, submission) else {
        return Ok(None);
    };
    let history = vault.device_history(Some(product), &device_id)?;
    let Some(newest) = history.last() else {
        return Ok(None);
    };
    if newest.spki_sha256 == Fingerprint::new(csr.spki_sha256()) {
        return Ok(None);
    }
    let order = DeviceOrder {
        action: DeviceAction::Rework,
        product: product.clone(),
        device_id: device_id.clone(),
        reason: "asked for again, with another key".to_owned(),
        station: station.clone(),
    };
    Ok(match vault.stage_order(&order)? {
        // One that was allowed before, and that nothing came of yet, is this one.
        None | Some(Refusal::ReworkOpen { .. }) => None,
        Some(refusal) => Some(refusal),
    })
}

/// Decides on device orders, which share a sync.
fn answer_orders(
    orders: Vec<(DeviceOrder, Answering)>,
    vault: &mut Vault<'_>,
    tally: &mut Tally,
) -> Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let mut decided = Vec::new();
    let mut failed = None;
    for (order, answer) in orders {
        match failed.is_none().then(|| vault.stage_order(&order)) {
            Some(Ok(refusal)) => decided.push((order, answer, refusal)),
            Some(Err(error)) => {
                answer.answer(Err(unavailable(error.failure().clone())));
                failed = Some(error);
            }
            None => drop(answer),
        }
    }
    let durable = match failed {
        Some(error) => Err(error),
        None => vault.commit_orders(),
    };
    for (order, answer, refusal) in decided {
        let given = match (&durable, refusal) {
            (Err(error), _) => Err(unavailable(error.failure().clone())),
            (Ok(()), Some(refusal)) => {
                tally.rule(&refusal);
                Ok(Given::Device(Err(refusal)))
            }
            (Ok(()), None) => {
                let history = vault.device_history(Some(&order.product), &order.device_id);
                match history {
                    Ok(mut history) => Ok(Given::Device(Ok(history.pop()))),
                    Err(error) => Err(unavailable(error.into())),
                }
            }
        };
        answer.answer(given);
    }
    durable
}

impl Inlet for Round {
    type Unreadable = Infallible;

    fn batches(&self) -> usize {
        self.batches.len()
    }

    fn asker(&self, batch: usize) -> Option<Asker<'_>> {
        let Batch {
            station, product, ..
        } = self.batches.get(batch)?;
        Some(Asker { station, product })
    }

    fn read(&self, batch: usize) -> Requests<Infallible> {
        let Some(batch) = self.batches.get(batch) else {
            return Vec::new();
        };
        let submissions = batch.submissions.lock();
        let mut submissions = submissions.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *submissions)
            .into_iter()
            .map(Ok)
            .collect()
    }
}

/// Hands out the answers of a round.
struct Counter<'t> {
    /// Who waits, by batch and place.
    answers: Vec<Vec<Answering>>,
    askers: Vec<(StationId, Sku)>,
    /// Whose unit is reserved and not signed for.
    open: Vec<Answering>,
    tally: &'t mut Tally,
}

impl Outlet<Round> for Counter<'_> {
    type Delivered = ();

    fn release(
        &mut self,
        vault: &Vault<'_>,
        answered: Answered<Round>,
        delivered: Promise<Round, ()>,
    ) -> Result<()> {
        let Answered {
            batch,
            requests,
            answers,
        } = answered;
        let askers = self.answers.get_mut(batch).map(std::mem::take);
        let product = self.askers.get(batch).map(|(_, product)| product);
        let (Some(askers), Some(product)) = (askers, product) else {
            delivered.deliver(());
            return Ok(());
        };
        let submissions: Vec<Submission> = requests
            .into_iter()
            .map(|request| match request {
                Ok(submission) => submission,
                Err(never) => match never {},
            })
            .collect();
        let units: Vec<_> = submissions
            .iter()
            .zip(&answers)
            .filter_map(|(submission, answer)| match answer {
                Answer::Issued(issued) | Answer::Existing(issued) => Some((submission, issued)),
                Answer::Refused(_) | Answer::Open => None,
            })
            .collect();
        let mut sealed = vault.seal_secrets(product, &units).into_iter();
        for (answer, asker) in answers.into_iter().zip(askers) {
            let device_ca = match &answer {
                Answer::Issued(issued) => {
                    self.tally.count(product, "issued");
                    Some(issued.device_ca)
                }
                Answer::Existing(issued) => {
                    self.tally.count(product, "existing");
                    Some(issued.device_ca)
                }
                Answer::Refused(refusal) => {
                    self.tally.refused(product, refusal);
                    None
                }
                Answer::Open => {
                    self.tally.count(product, "open");
                    self.open.push(asker);
                    continue;
                }
            };
            let (chain, secrets) = match device_ca {
                Some(generation) => (vault.chain(generation), sealed.next().unwrap_or_default()),
                None => (Ok(Vec::new()), Vec::new()),
            };
            asker.answer(match chain {
                Ok(chain) => Ok(Given::Certificate {
                    answer,
                    chain,
                    secrets,
                }),
                Err(error) => Err(unavailable(error.into())),
            });
        }
        delivered.deliver(());
        Ok(())
    }

    fn report(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, product: &Sku, outcome: &'static str) {
        let count = self.requests.entry((product.clone(), outcome)).or_default();
        *count = count.saturating_add(1);
    }

    fn refused(&mut self, product: &Sku, refusal: &Refusal) {
        self.count(product, "refused");
        self.rule(refusal);
    }

    fn rule(&mut self, refusal: &Refusal) {
        let count = self.refusals.entry(refusal.code().to_owned()).or_default();
        *count = count.saturating_add(1);
    }
}
