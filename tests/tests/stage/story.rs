//! What happened in the fixed world, message by message. Each vector is one of these messages.

mod log;
mod orders;
mod scenes;
mod world;

use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::Fingerprint;

use super::keys::key;
use super::{granted, restored};

pub(crate) use self::log::*;
pub(crate) use self::orders::*;
pub(crate) use self::world::*;

/// 2027-01-01T00:00:00Z.
pub const NEW_YEAR: u64 = 1_798_761_600;

pub const HOUR: u64 = 3600;

pub const DAY: u64 = 86_400;

/// When the last message of the story was made. Attacks happen the day after.
pub const END: u64 = NEW_YEAR + 10 * DAY;

pub const NAME: &str = "Acme";

pub const EPOCH: u64 = 1;

/// A message of the story, with the name of its vector.
pub struct Told {
    pub name: String,
    pub about: &'static str,
    pub bytes: Vec<u8>,
}

/// Everything that was sent, and the vault's log at the end.
pub struct Story {
    pub told: Vec<Told>,
    pub log: Log,
    dispatches: Vec<Fingerprint>,
    seen: Option<BundleSeen>,
}

impl Story {
    fn tell(&mut self, name: &str, about: &'static str, bytes: Vec<u8>) {
        let name = name.to_owned();
        self.told.push(Told { name, about, bytes });
    }

    /// Wraps a content into the next dispatch.
    fn dispatch(
        &mut self,
        kind: Kind,
        id: String,
        version: u64,
        content: Vec<u8>,
        certificates: Vec<Vec<u8>>,
    ) -> (Dispatch, Fingerprint) {
        let dispatch = Dispatch {
            vault: vault(),
            epoch: EPOCH,
            sequence: self.dispatches.len() as u64 + 1,
            previous: self.dispatches.last().copied(),
            bundle_seen: self.seen,
            kind,
            id,
            version,
            content,
            certificates,
            made_at: self.log.now,
        };
        let (bytes, fingerprint) = dispatch
            .seal(&manifest(), &|m| key("dispatch").sign(m))
            .unwrap();
        self.dispatches.push(fingerprint);
        let name = format!("dispatch-{}", dispatch.sequence);
        let about = match dispatch.kind {
            Kind::EnrolmentGrant => {
                "wraps the enrolment grant, with the two certificates that the root made for it"
            }
            Kind::Acknowledgement => "wraps the acknowledgement",
            Kind::Entitlement => "wraps the entitlement",
            _ => "wraps an order of the officers",
        };
        self.tell(&name, about, bytes);
        (dispatch, fingerprint)
    }

    /// From the key ceremony to the last dispatch.
    pub fn tell_all() -> Self {
        let mut story = Self {
            told: Vec::new(),
            log: Log::new(),
            dispatches: Vec::new(),
            seen: None,
        };
        story.trust_and_enrolment();
        story.entitle();
        story.report();
        story.amend();
        let reported = story.size_reported();
        story
            .told
            .extend(restored::told(&story.log.records, reported));
        let evidence = super::evidence::told(&story.log.records, &story.bytes_of("audit-bundle-1"));
        story.told.extend(evidence);
        let record = granted::Record::of(&|name| story.bytes_of(name));
        story.told.push(granted::told(&record));
        story
    }

    /// A message that was told.
    fn bytes_of(&self, name: &str) -> Vec<u8> {
        let told = self.told.iter().find(|told| told.name == name);
        told.unwrap().bytes.clone()
    }

    /// How many records the first report covers.
    fn size_reported(&self) -> u64 {
        let bytes = self.bytes_of("audit-bundle-1");
        let bundle = Bundle::open(&bytes, &vault(), &key("vault-sign").public).unwrap();
        bundle.content().checkpoint.size
    }
}
