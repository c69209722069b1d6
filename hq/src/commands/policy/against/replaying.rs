//! The log of one vault, decided anew.

use std::collections::{BTreeMap, HashMap};

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_ledger::apply::{Effect, apply};
use mintmark_ledger::decide::{
    Decision, DeviceRecord, Input, Lookup, LookupError, Submitted, decide,
};
use mintmark_ledger::entry::{
    Body, Content, DeviceOrder, Dispatch, Entry, KeyOutcome, KeyReceipt, LogSequence, Request,
    Signed, Submission, Verdict,
};
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::{DeviceIdSource, Entitlement};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::{Revocation, Target};
use serde_json::json;

use super::tally::{Past, Tally, Tried};
use crate::failure;

/// The log of one vault as it would have gone on.
pub(super) struct Replaying<'a> {
    pub(super) vault: &'a str,
    /// Until it is in force.
    pub(super) entitlement: Option<Entitlement>,
    pub(super) cipher: SerialCipher,
    pub(super) sources: BTreeMap<Sku, DeviceIdSource>,
    pub(super) state: State,
    pub(super) devices: Devices,
    /// A dispatch that matters, a confirmation of the clock, or a change of a station, whose acceptance comes next.
    pub(super) dispatch: Option<(Vec<u8>, Entry)>,
    /// The request before, until it is known what the vault made of it.
    pub(super) tried: Option<Tried>,
    pub(super) tally: Tally,
}

impl Replaying<'_> {
    pub(super) fn record(
        &mut self,
        raw: &[u8],
        sequence: u64,
        entry: Entry,
    ) -> Result<(), Failure> {
        let dispatched = self.dispatch.take();
        self.settle(Past::of(&entry.body));
        match &entry.body {
            // What the vault found of its clock holds whatever the policy.
            Body::Genesis(_)
            | Body::Start(_)
            | Body::Trust(_)
            | Body::Rotation(_)
            | Body::Clock(_)
            | Body::StationCa { .. } => {
                apply(&mut self.state, raw, &entry);
            }
            Body::Dispatch(dispatch) => {
                if let Verdict::Authentic(content) = &dispatch.content
                    && matters(content)
                {
                    self.dispatch = Some((raw.to_vec(), entry));
                }
            }
            // Who may ask is for the vault to say, whatever the policy.
            Body::ClockConfirm { .. } | Body::Station(_) => {
                self.dispatch = Some((raw.to_vec(), entry));
            }
            Body::DispatchAccepted | Body::ClockConfirmed | Body::StationChanged => {
                if let Some((asked, dispatch)) = dispatched {
                    apply(&mut self.state, &asked, &dispatch);
                    apply(&mut self.state, raw, &entry);
                    if self.state.is_enrolled() {
                        self.come_into_force(entry.time);
                    }
                }
            }
            Body::Request(request) => self.request(raw, sequence, &entry, request)?,
            Body::Device(order) => self.order(raw, &entry, order)?,
            // What was decided, signed, reported and sent is decided anew or passed over.
            _ => {}
        }
        Ok(())
    }

    /// It is known what the vault made of the request before, if it made anything of it.
    pub(super) fn settle(&mut self, past: Option<Past>) {
        if let Some(tried) = self.tried.take() {
            self.tally.count(tried, past);
        }
    }

    /// What somebody at the vault said of a device. Of one that would not have been made nothing could have been said.
    fn order(&mut self, raw: &[u8], entry: &Entry, order: &DeviceOrder) -> Result<(), Failure> {
        self.tally.orders += 1;
        let input = Input::Device(order);
        let cipher = Some(&self.cipher);
        let decision = decide(&self.state, &self.devices, cipher, entry.clock(), input);
        let decision = decision.map_err(failure::home_corrupt)?;
        match &decision {
            Decision::ChangeDevice(_) => {
                apply(&mut self.state, raw, entry);
                self.write(entry.time, decision.to_body());
            }
            other => {
                let code = other.refusal().map_or("", Refusal::code).to_owned();
                *self.tally.orders_refused.entry(code).or_default() += 1;
            }
        }
        Ok(())
    }

    fn come_into_force(&mut self, time: u64) {
        let Some(entitlement) = self.entitlement.take() else {
            return;
        };
        let plaintext = entitlement.to_cbor();
        let chain = self.state.dispatches();
        let fingerprint = Fingerprint::of(&plaintext);
        let dispatch = Dispatch {
            epoch: chain.epoch.unwrap_or_default(),
            sequence: chain.sequence.saturating_add(1),
            fingerprint,
            kind: "entitlement".to_owned(),
            id: entitlement.object_id(),
            version: entitlement.version,
            content: Verdict::Authentic(Content::Entitlement {
                fingerprint,
                plaintext,
            }),
        };
        self.write(time, Body::Dispatch(dispatch));
        self.write(time, Body::DispatchAccepted);
        for key in entitlement.keys {
            let receipt = KeyReceipt {
                entitlement: entitlement.id.clone(),
                label: key.label,
                outcome: KeyOutcome::Unwrapped,
            };
            self.write(time, Body::Key(receipt));
        }
    }

    fn write(&mut self, time: u64, body: Body) -> Option<Effect> {
        let entry = Entry {
            time,
            clock_behind_seconds: 0,
            body,
        };
        apply(&mut self.state, &entry.to_cbor(), &entry)
    }

    fn request(
        &mut self,
        raw: &[u8],
        sequence: u64,
        entry: &Entry,
        request: &Request,
    ) -> Result<(), Failure> {
        self.tally.requests += 1;
        let csr = match &request.submission {
            Submission::Csr { der } => {
                CertificationRequest::from_der(der).map_err(|error| error.code().to_owned())
            }
            Submission::Unreadable { code, .. } => Err(code.clone()),
        };
        let submission = match (&csr, &request.submission) {
            (Ok(csr), _) => Submitted::Verified(csr),
            (Err(code), Submission::Unreadable { sha256, .. }) => Submitted::Unreadable {
                sha256: *sha256,
                code,
            },
            (Err(code), Submission::Csr { der }) => Submitted::Unreadable {
                sha256: Fingerprint::of(der),
                code,
            },
        };
        let input = Input::Request {
            product: &request.product,
            station: &request.station,
            submission,
        };
        let decision = decide(
            &self.state,
            &self.devices,
            Some(&self.cipher),
            entry.clock(),
            input,
        )
        .map_err(failure::home_corrupt)?;
        match decision {
            Decision::Reserve(_) => {
                self.tally.issued += 1;
                self.tried = Some(Tried::Issued);
                apply(&mut self.state, raw, entry);
                if let Some(Effect::Reserved(device)) = self.write(entry.time, decision.to_body()) {
                    self.tally.units += u64::from(device.issue == 0);
                    let signed = Body::Signed(Signed {
                        reservation: device.reservation,
                        signature: [0; 64],
                    });
                    self.devices.add(device);
                    self.write(entry.time, signed);
                }
            }
            Decision::Existing { .. } => {
                self.tally.existing += 1;
                self.tried = Some(Tried::Existing);
            }
            // Nobody asks these of a request.
            Decision::ChangeDevice(_) | Decision::ChangeStation | Decision::ConfirmClock => {}
            Decision::Refuse(refusal) | Decision::RefuseDispatch(refusal) => {
                let code = refusal.code().to_owned();
                let example = json!({
                    "vault": self.vault,
                    "product": request.product.as_str(),
                    "device_id": csr.ok().and_then(|csr| self.device_id(&request.product, &csr)),
                    "time": rfc3339(entry.time),
                    "code": code,
                    "log_sequence": sequence,
                });
                self.tried = Some(Tried::Refused { code, example });
            }
            Decision::AcceptDispatch => {}
        }
        Ok(())
    }

    /// What a request calls its device, where the policy looks for it.
    fn device_id(&self, product: &Sku, csr: &CertificationRequest) -> Option<String> {
        let (serial, name) = (csr.subject_serial_number(), csr.common_name());
        let id = match self.sources.get(product) {
            Some(DeviceIdSource::SerialNumber) => serial,
            Some(DeviceIdSource::CommonName) => name,
            None => serial.or(name),
        };
        id.map(|id| id.to_string())
    }
}

/// Whether what HQ sent holds under whatever policy: that the vault was let in, what time officers said it is, and what they
/// ended. An entitlement that they ended is none of the policy's, even where it has its name.
fn matters(content: &Content) -> bool {
    match content {
        Content::Grant { .. } | Content::ClockCorrection { .. } => true,
        Content::Revocation { plaintext, .. } => {
            Revocation::from_cbor(plaintext).is_ok_and(|revocation| {
                matches!(revocation.target, Target::Vault | Target::DeviceCa(_))
            })
        }
        Content::Entitlement { .. }
        | Content::Acknowledgement { .. }
        | Content::Reanchor { .. } => false,
    }
}

/// The devices that would have been made.
#[derive(Default)]
pub(super) struct Devices {
    units: BTreeMap<LogSequence, DeviceRecord>,
    devices: HashMap<(Sku, DeviceId), LogSequence>,
    keys: HashMap<Fingerprint, LogSequence>,
}

impl Devices {
    fn add(&mut self, device: DeviceRecord) {
        let at = device.reservation;
        self.keys.insert(device.spki_sha256, at);
        let name = (device.sku.clone(), device.device_id.clone());
        self.devices.insert(name, at);
        self.units.insert(at, device);
    }
}

impl Lookup for Devices {
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        let at = self.devices.get(&(sku.clone(), device_id.clone()));
        Ok(at.and_then(|at| self.units.get(at)).cloned())
    }

    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        let at = self.keys.get(spki_sha256);
        Ok(at.and_then(|at| self.units.get(at)).cloned())
    }
}
