//! What goes on the board beside the counts: what changes seldom, or takes a moment to gather.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mintmark_console::{Exit, Failure};
use mintmark_protocol::identifier::Sku;

use super::board::{Board, Product};
use crate::clock::Disbelief;
use crate::commands::now;
use crate::commands::status::RefusedContent;
use crate::home::OUTBOX;
use crate::vault::{Vault, not_enrolled};

/// Whether anything can be issued by a vault that is open and whose token answers.
pub(super) fn ready(vault: &Vault<'_>) -> std::result::Result<(), Failure> {
    let state = vault.state();
    if !state.is_enrolled() {
        return Err(not_enrolled().into());
    }
    if let Some(disbelief) = Disbelief::of(state, now()) {
        let failure = Failure::new(Exit::Negative, disbelief.code, disbelief.message);
        return Err(failure.hint(disbelief.advice));
    }
    if state.disabled_at().is_some() {
        let message = "headquarters has disabled this vault";
        return Err(Failure::new(Exit::Negative, "VAULT-DISABLED", message)
            .hint("run `site rotate`, carry its request to headquarters, and import the grant"));
    }
    Ok(())
}

/// What came from headquarters and was refused, looked for again when something came.
#[derive(Default)]
pub(super) struct Refused {
    /// What it was looked for by.
    seen: Option<(u64, u64)>,
    pub(super) rows: Vec<RefusedContent>,
}

impl Refused {
    pub(super) fn look(&mut self, home: &Path, vault: &Vault<'_>) {
        let state = vault.state();
        let seen = (
            state.bundles().acknowledged_log_size,
            state.dispatches().sequence,
        );
        if self.seen == Some(seen) {
            return;
        }
        if let Ok(view) = mintmark_ledger::ledger::View::open(home) {
            self.rows = crate::commands::status::refused(&view);
            self.seen = Some(seen);
        }
    }
}

/// When a bundle was sealed last, looked for again when there is another.
#[derive(Default)]
pub(super) struct Exported {
    sequence: u64,
    when: Option<u64>,
}

impl Exported {
    pub(super) fn when(&mut self, home: &Path, sequence: u64) -> Option<u64> {
        if sequence != self.sequence {
            let files = std::fs::read_dir(home.join(OUTBOX)).into_iter().flatten();
            let made = files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok());
            let newest = made.max()?.duration_since(UNIX_EPOCH).ok()?;
            (self.sequence, self.when) = (sequence, Some(newest.as_secs()));
        }
        self.when
    }
}

impl Board {
    /// What changes seldom.
    pub(super) fn fill(&mut self, vault: &Vault<'_>) {
        let state = vault.state();
        let stations = state.stations();
        let live = stations.filter(|station| station.revoked.is_none());
        self.stations = Arc::new(
            live.map(|station| (station.certificate_sha256, station.clone()))
                .collect(),
        );
        self.station_ca = state.station_ca().map(Arc::from);
        let mut products: BTreeMap<Sku, Product> = BTreeMap::new();
        let granted = state.entitlements().values();
        let running = granted
            .filter(|granted| granted.revoked.is_none() && granted.terms.window.until > self.time);
        for terms in running.flat_map(|granted| &granted.terms.products) {
            let product = products
                .entry(terms.sku.clone())
                .or_insert_with(|| Product {
                    sku: terms.sku.clone(),
                    device_id_source: terms.device_id_source,
                    key_algorithms: Vec::new(),
                });
            for algorithm in &terms.key_algorithms {
                if !product.key_algorithms.contains(algorithm) {
                    product.key_algorithms.push(algorithm.clone());
                }
            }
        }
        self.products = Arc::new(products.into_values().collect());
        if let Some(device_ca) = state.device_cas().last() {
            self.chain = Arc::new(vault.chain(device_ca.generation).unwrap_or_default());
        }
    }
}
