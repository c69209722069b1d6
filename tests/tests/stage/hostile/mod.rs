//! The attack list: what somebody hostile would put on a stick, made with exactly the keys that each attack supposes.

mod content;
mod device;
mod envelope;
pub mod homeward;
mod officer;
mod order;
pub mod restored;

use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use serde_json::{Value, json};

use super::forge::Parts;
use super::home::{fingerprint, vector};
use super::keys::key;
use super::story::{END, EPOCH, lineage, manifest, vault};

/// Where the dispatch stands on the stick that the vault has not seen yet.
pub const NEXT: &str = "to-berlin_v1/dispatch-1-000005.cose";

/// What the vault's program makes of a file.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// Refused, or held, and nothing has changed.
    Nothing(&'static str, i32),
    /// The dispatch is authentic and takes its place in the chain; its content is refused and has no effect.
    Content(&'static str),
    /// It is what the vault has already.
    Already,
    /// It is imported, and nothing that matters has changed.
    Harmless,
}

/// One hostile file.
pub struct Case {
    pub file: &'static str,
    pub about: &'static str,
    pub receiver: &'static str,
    pub bytes: Vec<u8>,
    /// The rule that refuses it; empty if none has to.
    pub rule: &'static str,
    /// What else the test has to know.
    pub facts: Value,
}

/// One attack of the list.
pub struct Attack {
    pub name: &'static str,
    pub about: &'static str,
    pub gain: &'static str,
    pub cases: Vec<Case>,
}

impl Attack {
    fn new(name: &'static str, about: &'static str, gain: &'static str) -> Self {
        Self {
            name,
            about,
            gain,
            cases: Vec::new(),
        }
    }

    /// A dispatch for the vault, in the place that is next.
    fn vault(
        self,
        file: &'static str,
        about: &'static str,
        verdict: Verdict,
        bytes: Vec<u8>,
    ) -> Self {
        self.vault_at(file, about, NEXT, verdict, bytes)
    }

    /// A file for the vault, in this place on the stick.
    fn vault_at(
        mut self,
        file: &'static str,
        about: &'static str,
        place: &str,
        verdict: Verdict,
        bytes: Vec<u8>,
    ) -> Self {
        let (rule, outcome, exit, effect) = match verdict {
            Verdict::Nothing(rule, exit @ 3) => (rule, "held", exit, "nothing has changed"),
            Verdict::Nothing(rule, exit) => (rule, "refused", exit, "nothing has changed"),
            Verdict::Content(rule) => (
                rule,
                "refused",
                1,
                "the chain advances, and nothing else has changed",
            ),
            Verdict::Already => ("", "already", 0, "nothing has changed"),
            Verdict::Harmless => (
                "",
                "imported",
                0,
                "the chain advances, and nothing else has changed",
            ),
        };
        self.cases.push(Case {
            file,
            about,
            receiver: "vault",
            bytes,
            rule,
            facts: json!({"place": place, "outcome": outcome, "exit": exit, "effect": effect}),
        });
        self
    }

    /// A file for headquarters or for an officer, judged by what opens it there.
    fn opened(
        mut self,
        receiver: &'static str,
        file: &'static str,
        about: &'static str,
        (rule, opens): (&'static str, &'static str),
        bytes: Vec<u8>,
    ) -> Self {
        self.cases.push(Case {
            file,
            about,
            receiver,
            bytes,
            rule,
            facts: json!({"opens": opens}),
        });
        self
    }

    /// Says more about the newest case.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.cases.last_mut().unwrap().facts[name] = value.into();
        self
    }

    /// The same trick needs a home at headquarters that has a past: that is tried on one which lives.
    fn told(
        mut self,
        file: &'static str,
        about: &'static str,
        rule: &'static str,
        facts: Value,
    ) -> Self {
        self.cases.push(Case {
            file,
            about,
            receiver: "hq",
            bytes: Vec::new(),
            rule,
            facts,
        });
        self
    }
}

/// The whole list.
pub fn attacks() -> Vec<Attack> {
    [order::attacks(), content::attacks(), envelope::attacks()].concat_attacks()
}

trait Concat {
    fn concat_attacks(self) -> Vec<Attack>;
}

impl<const N: usize> Concat for [Vec<Attack>; N] {
    fn concat_attacks(self) -> Vec<Attack> {
        let both = self.into_iter().flatten().map(homeward::added);
        both.map(device::added)
            .map(officer::added)
            .map(restored::added)
            .collect()
    }
}

/// The dispatch that is next, taken apart.
fn next() -> Parts {
    Parts::of(&vector("dispatch-5.cose"))
}

/// That dispatch with another protected header, signed with the real dispatch key.
fn next_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = next();
    let header = header(&parts.protected);
    parts.with_protected(header).signed(&[key("dispatch")])
}

/// That dispatch with another payload, signed with the real dispatch key.
fn next_of(payload: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = next();
    let payload = payload(&parts.payload());
    parts.with_payload(payload).signed(&[key("dispatch")])
}

/// An authentic dispatch: what whoever holds the dispatch key can make of any content.
fn dispatch(kind: Kind, id: String, version: u64, content: Vec<u8>) -> Dispatch {
    Dispatch {
        vault: vault(),
        epoch: EPOCH,
        sequence: 5,
        previous: Some(fingerprint("dispatch-4")),
        bundle_seen: Some(BundleSeen {
            lineage: lineage(),
            sequence: 1,
            fingerprint: fingerprint("audit-bundle-1"),
        }),
        kind,
        id,
        version,
        content,
        certificates: Vec::new(),
        made_at: END,
    }
}

fn seal(dispatch: &Dispatch) -> Vec<u8> {
    dispatch
        .seal(&manifest(), &|m| key("dispatch").sign(m))
        .unwrap()
        .0
}

/// That content in the next dispatch.
fn wrapped(kind: Kind, content: Vec<u8>) -> Vec<u8> {
    let claimed = mintmark_protocol::envelope::claim(&content, content.len());
    let id = claimed.map_or_else(|_| "x".to_owned(), |claimed| claimed.context.id);
    seal(&dispatch(kind, id, 1, content))
}

/// An entitlement, or what looks like one, in the next dispatch.
fn entitling(content: Vec<u8>) -> Vec<u8> {
    wrapped(Kind::Entitlement, content)
}

/// The second entitlement, taken apart.
fn entitlement() -> Parts {
    Parts::of(&vector("second-entitlement.cose"))
}

fn sha256(bytes: &[u8]) -> Fingerprint {
    Fingerprint::of(bytes)
}

fn dispatch_for(vault: VaultName) -> Dispatch {
    let content = vector("second-entitlement.cose");
    Dispatch {
        vault,
        ..dispatch(Kind::Entitlement, "x".to_owned(), 1, content)
    }
}
