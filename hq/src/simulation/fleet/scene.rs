//! What whoever cheats at a vault has at hand.

use mintmark_ledger::decide::{DeviceRecord, Input, Lookup, LookupError, RULES_VERSION, decide};
use mintmark_ledger::entry::{
    Body, Dispatch, Entry, LogSequence, Request, Reserved, Signed, Start, Submission,
};
use mintmark_ledger::serial::{Serial, SerialCipher, serial_of as serial_in};
use mintmark_ledger::{State, Submitted};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use super::super::headquarters::Files;
use super::super::random::Random;
use super::super::software::moved;
use super::super::vault::{Until, Vault};
use super::site::{Made, Site};
use super::{Expected, GW, TH};

/// A patched program looks nothing up.
struct Blind;

impl Lookup for Blind {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

/// The serial of a device's newest certificate.
pub(super) fn serial_of(vault: &Vault, made: &Made) -> Serial {
    let entries = vault.entries();
    let mut reserved = entries.iter().rev().filter_map(|entry| match &entry.body {
        Body::Reserved(reserved) => Some(reserved),
        _ => None,
    });
    let of_device = reserved.find(|reserved| reserved.device_id.as_str() == made.id);
    serial_in(&of_device.unwrap().tbs).unwrap()
}

/// A finding about one record that concerns no certificate.
pub(super) fn at(code: &'static str, log_sequence: u64) -> Expected {
    Expected {
        code,
        log_sequence: Some(log_sequence),
        serials: Vec::new(),
    }
}

/// A site whose time has come.
pub(super) struct Scene<'a> {
    pub(super) site: &'a mut Site,
    pub(super) now: u64,
    pub(super) random: &'a mut Random,
    /// A device of another site that headquarters has heard of, and its serial.
    pub(super) other: Option<(Made, Serial)>,
    /// What goes to headquarters at once.
    pub(super) delivered: Option<Files>,
}

impl Scene<'_> {
    /// The place of the next record.
    pub(super) fn next(&self) -> u64 {
        self.site.vault.state().size()
    }

    /// When that may be.
    pub(super) fn time(&self) -> u64 {
        self.site.vault.state().mark().max(self.now)
    }

    /// The account of a product: its next slot, and how many there are.
    pub(super) fn slots(&self, product: &str) -> (u64, u64) {
        let mut accounts = self.site.vault.state().accounts();
        let account = accounts.find(|account| account.sku.as_str() == product);
        let account = account.unwrap();
        (account.next_slot, account.authorised)
    }

    /// What the rules decide on a request of a device that nobody has asked for.
    fn decided(&mut self, product: &str, csr: &CertificationRequest) -> Body {
        let time = self.time();
        let vault = &mut self.site.vault;
        let state = vault.state().clone();
        decided((&state, time), vault.serials(), product, csr)
    }

    /// What the rules would reserve; none if they refuse it.
    pub(super) fn due(&mut self, product: &str, csr: &CertificationRequest) -> Option<Reserved> {
        match self.decided(product, csr) {
            Body::Reserved(reserved) => Some(reserved),
            _ => None,
        }
    }

    /// The rule that refuses; none if none does.
    pub(super) fn refusal(&mut self, product: &str, csr: &CertificationRequest) -> Option<String> {
        match self.decided(product, csr) {
            Body::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }

    /// How an honest process begins, that many starts from now.
    pub(super) fn start(&self, ahead: u64) -> Start {
        let state = self.site.vault.state();
        Start {
            lineage: state.lineage().unwrap(),
            boot: state.boot() + ahead,
            rules_version: RULES_VERSION,
            software: "site 0.1.0".to_owned(),
            steady: self.site.vault.reading(self.time()).steady,
            anchor: Some(state.anchor()),
        }
    }

    /// Has the vault seal a bundle, perhaps one that says something else. Its last record.
    pub(super) fn seal_with(&mut self, change: Option<fn(&mut Bundle)>) -> Option<u64> {
        // A unit or a refusal: either is something to report.
        self.site.make(self.now, TH, Until::Done);
        let before = self.site.vault.state().bundles().sequence;
        self.site.vault.tampering.bundle = change;
        self.site.export(self.now);
        self.site.vault.tampering.bundle = None;
        let chain = self.site.vault.state().bundles();
        (chain.sequence > before).then(|| chain.log_size - 1)
    }

    /// Lets a record go home as another one, which the vault itself knows nothing of.
    pub(super) fn report_as(&mut self, place: u64, record: Vec<u8>) {
        self.site.vault.tampering.reported.insert(place, record);
    }

    /// Changes the next dispatch of a kind on its way into the log. Its record, once that is there.
    pub(super) fn tampered(&mut self, change: fn(&mut Dispatch) -> bool) -> Option<u64> {
        let tampering = &mut self.site.vault.tampering;
        if tampering.tampered_at.is_none() {
            tampering.dispatch = Some(change);
        }
        tampering.tampered_at
    }

    /// A reservation for a device of whatever product, as some rules would have it, of this account and slot.
    pub(super) fn reserved(
        &mut self,
        (product, slot): (&str, u64),
        csr: &CertificationRequest,
    ) -> Option<Reserved> {
        let time = self.time();
        let vault = &mut self.site.vault;
        let states: Vec<State> = [vault.state().clone()]
            .into_iter()
            .chain(vault.unspent.clone())
            .collect();
        let serials = vault.serials()?;
        for state in &states {
            for of in [product, TH, GW] {
                let decision = decided((state, time), Some(serials), of, csr);
                if let Body::Reserved(mut reserved) = decision {
                    let mut accounts = states[0].accounts();
                    let account = accounts.find(|account| account.sku.as_str() == product);
                    reserved.account = account?.tag;
                    return Some(moved(reserved, serials, slot));
                }
            }
        }
        None
    }

    /// Writes what somebody asks and what is answered, and signs for it. The reservation's record.
    pub(super) fn forge(
        &mut self,
        product: &'static str,
        csr: &CertificationRequest,
        reserved: Reserved,
    ) -> u64 {
        let (first, time) = (self.next(), self.time());
        let signature = self.site.vault.certifies(&reserved.tbs);
        let signed = Signed {
            reservation: LogSequence(first + 1),
            signature,
        };
        self.write_at(
            time,
            [
                request(product, csr.der()),
                Body::Reserved(reserved),
                Body::Signed(signed),
            ],
        );
        self.site.balance(product).good += 1;
        first + 1
    }

    /// The same of a new device and one slot of its product, with what is found for it.
    pub(super) fn forge_slot(
        &mut self,
        code: &'static str,
        product: &'static str,
        slot: u64,
    ) -> Option<Vec<Expected>> {
        let (_, csr) = self.site.fresh(product);
        let reserved = self.reserved((product, slot), &csr)?;
        let serials = serials(&reserved);
        let sequence = self.forge(product, &csr, reserved);
        Some(vec![Expected {
            code,
            log_sequence: Some(sequence),
            serials,
        }])
    }

    /// Writes records of now. The place of the first.
    pub(super) fn write<const N: usize>(&mut self, bodies: [Body; N]) -> u64 {
        self.write_at(self.time(), bodies)
    }

    /// The same, of another time.
    pub(super) fn write_at<const N: usize>(&mut self, time: u64, bodies: [Body; N]) -> u64 {
        let first = self.next();
        let entries = bodies.map(|body| Entry {
            time,
            clock_behind_seconds: 0,
            body,
        });
        self.site.vault.write(&entries);
        first
    }

    /// The records that the vault has sealed no bundle of.
    fn all_unreported(&self) -> impl Iterator<Item = (u64, Entry)> {
        let first = self.site.vault.state().bundles().log_size;
        let entries = (0..).zip(self.site.vault.entries());
        entries.skip_while(move |(at, _)| *at < first)
    }

    /// One of them, of those that are asked for: its place and what it says.
    pub(super) fn unreported(&mut self, fits: impl Fn(&Body) -> bool) -> Option<(u64, Entry)> {
        let fitting: Vec<_> = self
            .all_unreported()
            .filter(|(_, entry)| fits(&entry.body))
            .collect();
        self.random.pick(&fitting).cloned()
    }

    /// The place of the newest of them that is asked for.
    pub(super) fn newest_unreported(&self, fits: impl Fn(&Body) -> bool) -> Option<u64> {
        let fitting = self.all_unreported().filter(|(_, entry)| fits(&entry.body));
        fitting.map(|(at, _)| at).last()
    }
}

/// What the rules decide on a request, by a state and at a time, for who looks nothing up.
fn decided(
    (state, time): (&State, u64),
    serials: Option<&SerialCipher>,
    product: &str,
    csr: &CertificationRequest,
) -> Body {
    let input = Input::Request {
        product: &product.parse().unwrap(),
        station: &StationId::console(),
        submission: Submitted::Verified(csr),
    };
    decide(state, &Blind, serials, time, input)
        .unwrap()
        .to_body()
}

/// Somebody asks for a device.
pub(super) fn request(product: &str, der: &[u8]) -> Body {
    Body::Request(Request {
        product: product.parse().unwrap(),
        station: StationId::console(),
        submission: Submission::Csr { der: der.to_vec() },
    })
}

/// The serial that a reservation's certificate has.
pub(super) fn serials(reserved: &Reserved) -> Vec<String> {
    vec![hex::encode(serial_in(&reserved.tbs).unwrap())]
}
