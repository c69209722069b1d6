//! A vault that lies: its real home and keys, in the hands of somebody who writes into its log what they like. They can do
//! everything that the site's administrator can, the token's help included.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mintmark_keys::KeyStore;
use mintmark_ledger::decide::{DeviceRecord, Input, Lookup, LookupError, Submitted, decide};
use mintmark_ledger::entry::{Body, Entry, LogSequence, Request, Reserved, Signed, Submission};
use mintmark_ledger::ledger::View;
use mintmark_ledger::log::{FileLog, LogStore};
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use crate::{World, request};

/// Somebody with a vault's home and its keys.
pub struct Liar {
    home: PathBuf,
    keys: Arc<dyn KeyStore>,
}

/// A unit that is decided on, with its request, and not in the log.
#[derive(Clone, Debug)]
pub struct Unit {
    csr: Vec<u8>,
    product: Sku,
    reserved: Reserved,
}

impl Unit {
    /// Its certificate's serial number.
    pub fn serial(&self) -> String {
        hex::encode(serial_of(&self.reserved.tbs).unwrap())
    }
}

/// Somebody who asks for the first time.
struct Nobody;

impl Lookup for Nobody {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

impl Liar {
    /// Takes over the vault whose home is `$D/SITE`.
    pub fn of(world: &World, site: &str) -> Self {
        let uri = world.keys(site).parse().unwrap();
        let keys = mintmark_keys::open(&uri, &|_| unreachable!("the PIN is in a file")).unwrap();
        Self {
            home: world.path(site),
            keys,
        }
    }

    fn view(&self) -> View {
        View::open(&self.home).unwrap()
    }

    fn serials(&self) -> SerialCipher {
        let view = self.view();
        let state = view.state();
        let peer = state.enrolment().unwrap().serial_master;
        let shared = self
            .keys
            .agreement("vault-agree")
            .unwrap()
            .agree(&peer)
            .unwrap();
        SerialCipher::derive(&shared, state.vault().unwrap())
    }

    /// The unit that the vault would spend on a new device now.
    pub fn next_unit(&self, product: &str, device_id: &str) -> Unit {
        let der = request::der(device_id, &request::key());
        let csr = CertificationRequest::from_der(&der).unwrap();
        let product: Sku = product.parse().unwrap();
        let (view, serials) = (self.view(), self.serials());
        let input = Input::Request {
            product: &product,
            station: &StationId::console(),
            submission: Submitted::Verified(&csr),
        };
        let now = view.state().mark();
        let decision = decide(view.state(), &Nobody, Some(&serials), now, input).unwrap();
        let Body::Reserved(reserved) = decision.to_body() else {
            panic!("{decision:?}")
        };
        Unit {
            csr: der,
            product,
            reserved,
        }
    }

    /// The same unit in another slot, with the serial number that belongs to that.
    pub fn in_slot(&self, unit: &Unit, slot: u64) -> Unit {
        let mut moved = unit.clone();
        let old = serial_of(&unit.reserved.tbs).unwrap();
        let new = self
            .serials()
            .serial(unit.reserved.account, slot, unit.reserved.issue);
        let at = unit
            .reserved
            .tbs
            .windows(old.len())
            .position(|window| window == old)
            .unwrap();
        moved.reserved.tbs[at..at + new.len()].copy_from_slice(&new);
        moved.reserved.slot = slot;
        moved
    }

    /// Spends a unit whatever the rules say: logs it, signs it, and gives the certificate, DER.
    pub fn spend(&self, unit: &Unit) -> Vec<u8> {
        let state_view = self.view();
        let (time, size) = (state_view.state().mark(), state_view.size());
        drop(state_view);
        let signature = self
            .keys
            .signer("device-ca")
            .unwrap()
            .sign(&unit.reserved.tbs)
            .unwrap();
        let bodies = [
            Body::Request(Request {
                product: unit.product.clone(),
                station: StationId::console(),
                submission: Submission::Csr {
                    der: unit.csr.clone(),
                },
            }),
            Body::Reserved(unit.reserved.clone()),
            Body::Signed(Signed {
                reservation: LogSequence(size + 1),
                signature: signature.to_bytes().into(),
            }),
        ];
        let entry = |body| Entry {
            time,
            clock_behind_seconds: 0,
            body,
        };
        let records: Vec<Vec<u8>> = bodies.map(|body| entry(body).to_cbor()).into();
        let (mut log, _) = FileLog::open(&self.home.join("log"), None).unwrap();
        let head = log.head();
        log.append(&head, &records).unwrap();
        mintmark_pki::assemble(&unit.reserved.tbs, &signature).unwrap()
    }

    /// Every entry of the log.
    pub fn entries(&self) -> Vec<Entry> {
        let entries = self.view();
        entries
            .entries(LogSequence(0))
            .unwrap()
            .map(|entry| entry.unwrap().1)
            .collect()
    }

    /// Writes the log anew, with every checksum and link as it should be, and throws away what would contradict it.
    pub fn rewrite(&self, entries: &[Entry]) {
        let log = self.home.join("log");
        fs::remove_dir_all(&log).unwrap();
        fs::remove_dir_all(self.home.join("index")).unwrap();
        remove_if_there(&self.home.join("state.snapshot"));
        let mut log = FileLog::create(&log).unwrap();
        let records: Vec<Vec<u8>> = entries.iter().map(Entry::to_cbor).collect();
        let head = log.head();
        log.append(&head, &records).unwrap();
        drop(log);
        self.anchor();
    }

    /// Has the token say that this is the log: whoever has its PIN can.
    fn anchor(&self) {
        const LABEL: &str = "mintmark-anchor";
        let view = self.view();
        let state = view.state();
        let (log, _) = FileLog::open_read_only(&self.home.join("log"), None).unwrap();
        let vault = state.vault().unwrap();
        let mut counter = state.anchor();
        for value in self.keys.data(LABEL).unwrap() {
            let mut fields = Fields::decode("anchor", &value, value.len()).unwrap();
            counter = counter.max(fields.uint(2).unwrap());
            self.keys.remove_data(LABEL, &value).unwrap();
        }
        let bounds = state.accounts();
        let bounds = bounds.flat_map(|account| [account.tag.number(), account.next_slot]);
        let bounds: Vec<u64> = bounds.collect();
        let map = || {
            Map::new()
                .with(1, 1)
                .with(2, counter + 1)
                .with(3, vault.site.as_str())
                .with(4, vault.vault.as_str())
                .with(5, state.lineage().unwrap().as_bytes().to_vec())
                .with(6, log.head().size)
                .with(7, state.root().as_bytes().to_vec())
                .with(8, log.head().link.to_vec())
                .with_array(9, bounds.iter().copied())
        };
        let digest = Fingerprint::of(&map().encode());
        let value = map().with(10, digest.as_bytes().to_vec()).encode();
        self.keys.add_data(LABEL, &value).unwrap();
    }
}

fn remove_if_there(path: &Path) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
}
