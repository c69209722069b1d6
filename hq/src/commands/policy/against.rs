//! `hq policy check --against`: what a policy would have refused of what vaults were asked before.
//!
//! The log that headquarters holds is run again with the policy in place of whatever the vault was granted: the log's
//! own beginning and enrolment, what officers ended, then each request and each order on a device, decided by the rules that
//! vaults have. What the vault decided itself stands beside it, so that it is known which devices would not exist.

use std::collections::{BTreeMap, HashMap};

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Failure};
use mintmark_ledger::apply::{Effect, apply};
use mintmark_ledger::decide::{
    Decision, DeviceRecord, Input, Lookup, LookupError, Submitted, decide,
};
use mintmark_ledger::entry::{
    Body, Content, DeviceOrder, Dispatch, Entry, KeyOutcome, KeyReceipt, LogSequence, Request,
    Signed, Submission, Verdict,
};
use mintmark_ledger::policy::{Draft, Policy as PolicyFile};
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::CertificationRequest;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::entitlement::{AccountTag, Credit, DeviceIdSource, Entitlement, Interval};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::{Revocation, Target};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clock::DAY_SECONDS;
use crate::failure;
use crate::home::Home;
use crate::import::kept;
use crate::import::records::Records;
use crate::keyring::{self, AUDIT, Keyring};
use crate::registry::bundles;
use crate::registry::vaults::{self, Vault};
use crate::serials::Serials;

/// Records that are read at a time.
const CHUNK_RECORDS: usize = 1024;
/// Refused requests that are shown one by one.
const EXAMPLES_MAX: usize = 20;

/// What would have become of the requests of one site.
pub(super) struct Trial {
    site: String,
    vaults: Vec<(String, Tally)>,
}

/// What would have become of some requests.
#[derive(Default)]
struct Tally {
    requests: u64,
    issued: u64,
    /// Those of `issued` that would have spent a unit; the others are further certificates of devices that were made.
    units: u64,
    /// Answered with the certificate that was issued before.
    existing: u64,
    refused: BTreeMap<String, Refusals>,
    /// Requests that the vault made a device for.
    made: u64,
    /// Requests that the vault refused, and that would have been issued.
    newly_issued: u64,
    /// What was said of devices: scrap, void, rework.
    orders: u64,
    orders_refused: BTreeMap<String, u64>,
    /// Of devices that were made, and of others.
    examples: [Vec<Value>; 2],
}

/// How often one rule would have refused.
#[derive(Clone, Copy, Default)]
struct Refusals {
    count: u64,
    /// Requests that the vault made a device for.
    made: u64,
}

/// What the vault itself made of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    /// A device got its first certificate.
    Made,
    /// A device got another one.
    MadeAgain,
    Existing,
    Refused,
}

impl Past {
    fn of(decision: &Body) -> Option<Self> {
        match decision {
            Body::Reserved(reserved) if reserved.issue == 0 => Some(Self::Made),
            Body::Reserved(_) => Some(Self::MadeAgain),
            Body::Existing { .. } => Some(Self::Existing),
            Body::Refused(_) => Some(Self::Refused),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Made | Self::MadeAgain => "issued",
            Self::Existing => "existing",
            Self::Refused => "refused",
        }
    }
}

/// What would have become of a request, until it is known what did.
enum Tried {
    Issued,
    Existing,
    Refused { code: String, example: Value },
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.issued += other.issued;
        self.units += other.units;
        self.existing += other.existing;
        self.made += other.made;
        self.newly_issued += other.newly_issued;
        self.orders += other.orders;
        for (code, refusals) in &other.refused {
            let sum = self.refused.entry(code.clone()).or_default();
            sum.count += refusals.count;
            sum.made += refusals.made;
        }
        for (code, count) in &other.orders_refused {
            *self.orders_refused.entry(code.clone()).or_default() += count;
        }
        for (all, more) in self.examples.iter_mut().zip(&other.examples) {
            let room = EXAMPLES_MAX.saturating_sub(all.len());
            all.extend(more.iter().take(room).cloned());
        }
    }

    fn count(&mut self, tried: Tried, past: Option<Past>) {
        let made = past == Some(Past::Made);
        self.made += u64::from(made);
        match tried {
            Tried::Issued => self.newly_issued += u64::from(past == Some(Past::Refused)),
            Tried::Existing => {}
            Tried::Refused { code, mut example } => {
                let refusals = self.refused.entry(code).or_default();
                refusals.count += 1;
                refusals.made += u64::from(made);
                example["outcome"] = past.map(Past::as_str).into();
                let [of_made, others] = &mut self.examples;
                let examples = if made { of_made } else { others };
                if examples.len() < EXAMPLES_MAX {
                    examples.push(example);
                }
            }
        }
    }

    /// Devices that were made at a request that would have been refused.
    fn made_refused(&self) -> u64 {
        self.refused.values().map(|refusals| refusals.made).sum()
    }

    /// Those of devices that were made first.
    fn examples(&self) -> impl Iterator<Item = &Value> {
        self.examples.iter().flatten().take(EXAMPLES_MAX)
    }

    fn to_json(&self, site: &str, vault: Option<&str>) -> Value {
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|(code, of)| json!({ "code": code, "count": of.count, "made": of.made }))
            .collect();
        let orders_refused: Vec<_> = self
            .orders_refused
            .iter()
            .map(|(code, count)| json!({ "code": code, "count": count }))
            .collect();
        let examples: Vec<_> = self.examples().collect();
        json!({
            "site": site,
            "vault": vault,
            "requests": self.requests,
            "issued": self.issued,
            "existing": self.existing,
            "refused": refused,
            "examples": examples,
            "units": self.units,
            "made": self.made,
            "made_refused": self.made_refused(),
            "newly_issued": self.newly_issued,
            "orders": self.orders,
            "orders_refused": orders_refused,
        })
    }
}

impl Trial {
    /// Tries a policy on every request in the logs that headquarters holds of a site, or of one vault of it.
    pub(super) fn run(
        home: &Home,
        named: &str,
        policy: &PolicyFile,
        console: &Console,
    ) -> Result<Self, Failure> {
        let registry = home.registry()?;
        let mut chosen = vaults::all(&registry.sql)?;
        chosen.retain(|vault| vault.name.site.as_str() == named || vault.name.to_string() == named);
        let Some(first) = chosen.first() else {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site or vault `{named}`"),
                "`hq site list` shows which there are",
            ));
        };
        let site = first.name.site.to_string();
        let ring = Keyring::new(&home.config, console)?;
        let serials = Serials::new(&ring);
        let audit = ring.agreement(AUDIT)?;
        let agree = keyring::agree(&*audit);
        let log = Log {
            home,
            sql: &registry.sql,
            console,
            opener: Opener {
                public_key: audit.public_key(),
                agree: &agree,
                former: Some(&ring),
            },
        };
        let mut vaults = Vec::new();
        for vault in &chosen {
            let tally = try_on(&log, vault, policy, &serials)?;
            vaults.push((vault.name.vault.to_string(), tally));
        }
        Ok(Self { site, vaults })
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, tally) in &self.vaults {
            total.add(tally);
        }
        total
    }

    /// The whole site, and each of its vaults where it has several.
    pub(super) fn to_json(&self) -> Value {
        if let [(vault, tally)] = &self.vaults[..] {
            return tally.to_json(&self.site, Some(vault));
        }
        let mut json = self.total().to_json(&self.site, None);
        json["vaults"] = self
            .vaults
            .iter()
            .map(|(vault, tally)| tally.to_json(&self.site, Some(vault)))
            .collect();
        json
    }

    /// In plain words.
    pub(super) fn words(&self) -> Vec<String> {
        let total = self.total();
        let mut words = vec![
            String::new(),
            format!("Against the log of {}:", self.site),
            "  The window is widened to cover the log, and credit is not counted: only the other rules are tried."
                .to_owned(),
            format!(
                "  Of {} requests, {} would have been issued, {} answered again, {} refused.",
                total.requests,
                total.issued,
                total.existing,
                total.refused.values().map(|of| of.count).sum::<u64>(),
            ),
        ];
        if total.made > 0 {
            words.push(format!(
                "  Would have been refused: {} of {} devices that were made.",
                total.made_refused(),
                total.made
            ));
        }
        if total.newly_issued > 0 {
            words.push(format!(
                "  Would have been issued: {} that the vault refused.",
                total.newly_issued
            ));
        }
        words.extend(total.refused.iter().map(|(code, of)| match of.made {
            0 => format!("  {code}: {}", of.count),
            made => format!(
                "  {code}: {}, {made} of them of devices that were made",
                of.count
            ),
        }));
        if total.orders > 0 {
            let refused: u64 = total.orders_refused.values().sum();
            let orders = total.orders;
            words.push(format!(
                "  Of {orders} orders on devices (scrap, void, rework), {refused} would have been refused."
            ));
        }
        let counted = total.orders_refused.iter();
        words.extend(counted.map(|(code, count)| format!("  {code}: {count}")));
        words.extend(total.examples().map(|example| {
            let text = |name: &str| example[name].as_str().unwrap_or("-").to_owned();
            let (time, vault, device) = (text("time"), text("vault"), text("device_id"));
            let past = match example["outcome"].as_str() {
                Some("issued") => "  was issued",
                Some("refused") => "  was refused",
                _ => "",
            };
            format!("    {time}  {vault}  {device}  {}{past}", text("code"))
        }));
        words
    }
}

/// The log that headquarters holds of each vault.
struct Log<'a> {
    home: &'a Home,
    sql: &'a Connection,
    console: &'a Console,
    opener: Opener<'a>,
}

impl Log<'_> {
    /// Reads every record that can be read, in order. A person sees how far that has come, after what it is done for.
    fn each(
        &self,
        vault: &Vault,
        what: &str,
        mut visit: impl FnMut(&[u8], u64, Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let record = self.home.record();
        let held = bundles::of_vault(self.sql, &vault.name)?;
        let count = |held: &bundles::Held| held.log_size.saturating_sub(held.first);
        let records = held.iter().map(count).sum();
        let what = format!("{what} the log of {}", vault.name);
        let progress = self.console.progress(&what, Some(records));
        for held in held {
            let bundle = kept::bundle(&record, vault, &held)?;
            let read = |number| kept::segment(&record, bundle.content(), number);
            let mut records = Records::new(bundle.content(), &read, self.opener);
            loop {
                let chunk = records.chunk(CHUNK_RECORDS)?;
                if chunk.is_empty() {
                    break;
                }
                progress.advance(chunk.len() as u64);
                for (sequence, raw) in chunk {
                    // What cannot be read asked for nothing; the import has found it.
                    if let Ok(entry) = Entry::from_cbor(&raw) {
                        visit(&raw, sequence, entry)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn try_on(
    log: &Log<'_>,
    vault: &Vault,
    policy: &PolicyFile,
    serials: &Serials<'_>,
) -> Result<Tally, Failure> {
    let mut asked: Option<Interval> = None;
    log.each(vault, "reading", |_, _, entry| {
        if let Body::Request(_) = entry.body {
            let (from, until) = (entry.time, entry.time.saturating_add(1));
            let before = asked.get_or_insert(Interval { from, until });
            before.from = before.from.min(from);
            before.until = before.until.max(until);
        }
        Ok(())
    })?;
    let Some(asked) = asked else {
        return Ok(Tally::default());
    };
    // Wide enough for any weekly hours to lie in it, so that what was asked outside of them is refused as such.
    let asked = Interval {
        from: asked.from.saturating_sub(7 * DAY_SECONDS),
        until: asked.until.saturating_add(7 * DAY_SECONDS),
    };
    let mut trial = Replaying {
        vault: vault.name.vault.as_str(),
        entitlement: Some(entitlement(vault, policy, asked)?),
        cipher: serials.of(vault)?,
        sources: policy
            .products()
            .iter()
            .map(|product| (product.sku.clone(), product.device_id_source))
            .collect(),
        state: State::new(),
        devices: Devices::default(),
        dispatch: None,
        tried: None,
        tally: Tally::default(),
    };
    log.each(vault, "trying", |raw, sequence, entry| {
        trial.record(raw, sequence, entry)
    })?;
    trial.settle(None);
    Ok(trial.tally)
}

/// The policy as the vault would have had it: in force whenever it was asked, on credit without end.
fn entitlement(
    vault: &Vault,
    policy: &PolicyFile,
    asked: Interval,
) -> Result<Entitlement, Failure> {
    let tags: BTreeMap<&Sku, AccountTag> = (1..)
        .zip(policy.products())
        .filter_map(|(number, product)| Some((&product.sku, AccountTag::new(number)?)))
        .collect();
    let compiled = policy.in_window(asked).compile(&Draft {
        vault: &vault.name,
        version: 1,
        drafted_at: asked.from,
        approve_until: u64::MAX,
        salt: [0; 32],
        accounts: &|sku| tags[sku],
        // Nothing is delivered: what the keys allow is tried, as if the token had taken them.
        keys: &|_, _| Some(([0; 32], Vec::new())),
    });
    let mut entitlement = compiled.map_err(|error| {
        failure::usage(
            "POLICY-NOT-TRIED",
            format!(
                "the policy cannot be tried on the log of {}: {error}",
                vault.name
            ),
            "take out what this version cannot grant; a log whose times jump far apart holds too many working hours",
        )
    })?;
    entitlement.credit = Credit {
        unreported_units_max: u64::MAX,
        unreported_days_max: u64::MAX,
    };
    Ok(entitlement)
}

/// The log of one vault as it would have gone on.
struct Replaying<'a> {
    vault: &'a str,
    /// Until it is in force.
    entitlement: Option<Entitlement>,
    cipher: SerialCipher,
    sources: BTreeMap<Sku, DeviceIdSource>,
    state: State,
    devices: Devices,
    /// A dispatch that matters, a confirmation of the clock, or a change of a station, whose acceptance comes next.
    dispatch: Option<(Vec<u8>, Entry)>,
    /// The request before, until it is known what the vault made of it.
    tried: Option<Tried>,
    tally: Tally,
}

impl Replaying<'_> {
    fn record(&mut self, raw: &[u8], sequence: u64, entry: Entry) -> Result<(), Failure> {
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
    fn settle(&mut self, past: Option<Past>) {
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
struct Devices {
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
