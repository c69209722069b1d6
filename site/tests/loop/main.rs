//! The vault's whole loop over the built binary: enrolment, entitlement, issuing, reporting, acknowledgement; and what
//! goes wrong on the way.

#![cfg(test)]

mod chain;
mod crash;
mod damage;
mod hostile;
mod journey;
mod keys;
mod orders;
mod rolled_back;
mod rotation;
mod support;

/// What came of a file: outcome and code.
fn outcome(outcome: &str, code: Option<&str>) -> (String, Option<String>) {
    (outcome.to_owned(), code.map(str::to_owned))
}
