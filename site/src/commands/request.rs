//! `site request`: a station asks a vault for certificates for a file or a folder of certification requests.

mod rehearsal;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use mintmark_console::{Console, Exit, Failure, Stop, files};
use mintmark_keys::{KeyStore, KeyUri, Purpose};
use mintmark_pki::{Certificate, CertificationRequest, est, to_pem};
use mintmark_protocol::device_secret::DEVICE_SECRET_BYTES_MAX;
use mintmark_protocol::identifier::{DeviceId, Sku};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::tally::{Tally, serial};
use crate::delivery::{Delivered, Output, Parcel};
use crate::failure::{Error, Result};
use crate::station::{Enrolled, Line, Papers, Patience, Reply, STATION_KEY, Vault};
use crate::submission::{Submission, Submissions};
use crate::vault::{INTERRUPTED, Issued, SealedSecret, Unit, keyring::open_store};

/// How many answers are written together.
const DELIVERED_MAX: usize = 256;

/// What `site request` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The vault's service, such as https://vault.factory:8443
    #[arg(long, value_name = "URL")]
    vault: String,
    /// The station's own token or key folder: pkcs11:... or file:...
    #[arg(long, value_name = "URI")]
    keys: KeyUri,
    /// The product
    #[arg(long, value_name = "SKU")]
    product: Sku,
    /// A certification request, or a folder of them; PEM or DER
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) csr: PathBuf,
    /// The folder that certificates are written to, as <stem>.pem and <stem>.chain.pem, and secrets for the devices, as
    /// <stem>.<key>.secret.cose
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// What `site station approve` wrote for this station: needed once, since the token keeps it from then on
    #[arg(long, value_name = "F")]
    station: Option<PathBuf>,
    /// How many requests are under way at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// For how many seconds a request is tried again while the vault is busy or away
    #[arg(long, value_name = "N", default_value_t = 60)]
    patience_seconds: u64,
    /// Ask the vault whether it takes this station, and say which requests would be sent; send none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What came of one file.
enum Answer {
    Unreadable(files::Error),
    Refused(Submission, Failure),
    Certified(Box<Enrolled>),
    /// There is no answer, and there will be none for the rest.
    Stuck(Error),
}

/// A certificate that is to be written.
struct Certified {
    file: OsString,
    outcome: &'static str,
    issued: Issued,
    issuer_pem: String,
    secrets: Vec<SealedSecret>,
}

/// Asks.
pub(crate) fn execute(arguments: &Arguments, console: &Console) -> Result<Exit> {
    let store = open_store(&arguments.keys, console)?;
    let label = arguments.keys.object().unwrap_or(STATION_KEY);
    let signer = store
        .signer_for(label, Purpose::Authenticate)
        .map_err(|error| keyless(error.into()))?;
    let papers = papers(arguments, &*store, signer.public_key(), console)?;
    let vault = Vault::new(&arguments.vault, signer, &papers)?;
    let submissions = Submissions::find(&arguments.csr, console)?;
    if arguments.dry_run {
        return rehearsal::execute(arguments, &vault, &submissions, console);
    }
    let output = Output::open(&arguments.output)?;
    let stop = Stop::listen().map_err(super::issue::unheard)?;
    let mut tally = Tally::new(&arguments.product, submissions.names().len(), console);
    let asked = ask(arguments, vault, submissions, &output, &stop, &mut tally);
    if let Err(error) = tally.judge(asked) {
        let missing = [tally.unwritten(), tally.secrets_missing()];
        for missing in missing.into_iter().flatten() {
            console.report(missing.failure());
        }
        return Err(error);
    }
    tally.finish(false);
    match (tally.unwritten(), tally.secrets_missing()) {
        (None, None) => Ok(tally.exit()),
        (Some(error), _) | (None, Some(error)) => Err(error),
    }
}

/// By what the station is known: what was given now, or what its token keeps.
fn papers(
    arguments: &Arguments,
    store: &dyn KeyStore,
    key: &p256::PublicKey,
    console: &Console,
) -> Result<Papers> {
    let Some(path) = &arguments.station else {
        let kept = Papers::kept(store, key)?;
        return kept.ok_or_else(|| {
            let message = "this station's token keeps no certificate of a vault's";
            Error::environment("STATION-PAPERS-MISSING", message)
                .hint("give the file that `site station approve` wrote: --station FILE")
        });
    };
    let papers = Papers::read(path, key)?;
    if !arguments.dry_run
        && let Err(error) = papers.keep(store, key)
    {
        console.warn(format!(
            "the token does not keep what lets this station in, so give --station the next time too: {error}",
            error = error.failure().message
        ));
    }
    Ok(papers)
}

fn ask(
    arguments: &Arguments,
    vault: Vault,
    submissions: Submissions,
    output: &Output,
    stop: &Stop,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let runtime = runtime()?;
    let work = Arc::new(Work {
        product: arguments.product.clone(),
        patience: Patience(Duration::from_secs(arguments.patience_seconds)),
        vault,
        submissions,
        next: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let (sender, mut answers) = channel(DELIVERED_MAX);
    for _ in 0..arguments.parallel {
        runtime.spawn(Arc::clone(&work).go(sender.clone()));
    }
    drop(sender);
    let delivered = deliver(&work, &mut answers, output, stop, tally);
    // Whatever ended it, nobody asks for more.
    work.over.store(true, Ordering::Relaxed);
    drop(answers);
    runtime.shutdown_timeout(Duration::from_secs(1));
    delivered
}

fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| {
        Error::environment("STATION-THREADS", "threads cannot be started")
            .cause(error)
            .hint("free memory or processes, then run the same command again")
    })
}

/// What the tasks share.
struct Work {
    product: Sku,
    patience: Patience,
    vault: Vault,
    submissions: Submissions,
    /// The next file to ask for.
    next: AtomicUsize,
    /// Nothing more is asked.
    over: AtomicBool,
}

impl Work {
    /// Asks for one file after the other, over one connection, until there are none.
    async fn go(self: Arc<Self>, answers: Sender<(OsString, Answer)>) {
        let mut line = Line::default();
        while !self.over.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = self.submissions.names().get(at) else {
                return;
            };
            let read = tokio::task::block_in_place(|| self.submissions.read(name));
            let answer = match read {
                Err(error) => Answer::Unreadable(error),
                Ok(submission) => self.answer(&mut line, submission).await,
            };
            if matches!(answer, Answer::Stuck(_)) {
                self.over.store(true, Ordering::Relaxed);
            }
            if answers.send((name.clone(), answer)).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, line: &mut Line, submission: Submission) -> Answer {
        let request = match verified(&submission) {
            Ok(request) => request,
            Err(failure) => return Answer::Refused(submission, failure),
        };
        let csr = to_pem("CERTIFICATE REQUEST", request.der());
        let body = json!({ "product": self.product.as_str(), "csr": csr }).to_string();
        match self
            .vault
            .enrol(line, &Bytes::from(body), self.patience)
            .await
        {
            Ok(Reply::Enrolled(enrolled)) => Answer::Certified(enrolled),
            Ok(Reply::Refused(failure)) => Answer::Refused(submission, failure),
            Err(error) => Answer::Stuck(error),
        }
    }
}

/// Writes what comes, and tells of it. The first reason why no more comes is what it ends with.
fn deliver(
    work: &Work,
    answers: &mut Receiver<(OsString, Answer)>,
    output: &Output,
    stop: &Stop,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let mut stuck = None;
    let mut group = Vec::new();
    while answers.blocking_recv_many(&mut group, DELIVERED_MAX) > 0 {
        let mut certified = Vec::new();
        for (name, answer) in group.drain(..) {
            let file = work.submissions.path(&name);
            let row = match answer {
                Answer::Unreadable(error) => tally.unreadable(&file, &error),
                Answer::Refused(submission, failure) => {
                    tally.refused(&file, &submission, device_of(&submission), failure.into())
                }
                Answer::Certified(enrolled) => match Certified::new(name, *enrolled) {
                    Ok(one) => {
                        certified.push(one);
                        continue;
                    }
                    Err(error) => {
                        stuck.get_or_insert(error);
                        continue;
                    }
                },
                Answer::Stuck(error) => {
                    stuck.get_or_insert(error);
                    continue;
                }
            };
            tally.add(row);
        }
        write(work, certified, output, tally);
        tally.print()?;
        if let Some(signal) = stop.asked() {
            work.over.store(true, Ordering::Relaxed);
            let message = format!("stopped by {signal} before every request was answered");
            stuck.get_or_insert(
                Error::environment(INTERRUPTED, message)
                    .hint("run the same command again: asking twice is free"),
            );
        }
    }
    stuck.map_or(Ok(()), Err)
}

fn write(work: &Work, mut certified: Vec<Certified>, output: &Output, tally: &mut Tally<'_>) {
    let parcels = certified.iter_mut().map(Certified::parcel).collect();
    let landed = output.land(vec![output.consign(parcels)]);
    let landed: Vec<Result<Delivered>> = landed.into_iter().flatten().collect();
    for (one, delivered) in certified.iter().zip(landed) {
        let file = work.submissions.path(&one.file);
        let row = tally.certified(&file, one.outcome, &one.issued, Some(delivered));
        tally.add(row);
    }
}

impl Certified {
    /// What a service gave, as what a vault would have given.
    ///
    /// # Errors
    /// VAULT-ANSWER-INVALID if it is nothing that a vault gives.
    fn new(file: OsString, enrolled: Enrolled) -> Result<Self> {
        let invalid = |what: &str| {
            let message = format!("what the vault gave for {} holds no {what}", file.display());
            Error::environment("VAULT-ANSWER-INVALID", message)
                .hint("check the address, and that both ends run the same version")
        };
        let certificate = Certificate::from_pem_or_der(enrolled.certificate.as_bytes())?;
        let issuer_pem = enrolled
            .chain
            .split_inclusive("-----END CERTIFICATE-----\n")
            .next()
            .ok_or_else(|| invalid("device CA"))?
            .to_owned();
        let hexadecimal = enrolled.serial.as_deref().unwrap_or_default();
        let serial = hex::decode(hexadecimal).ok();
        let secrets = enrolled.secrets.into_iter().map(|secret| {
            let label = secret.key.parse().map_err(|_| invalid("key label"))?;
            let message = match (secret.message, secret.code) {
                (Some(message), _) => est::decode_body(
                    message.as_bytes(),
                    mintmark_pki::Object::CertsOnly,
                    DEVICE_SECRET_BYTES_MAX,
                )
                .map_err(Error::from),
                (None, code) => Err(not_given(code)),
            };
            Ok(SealedSecret { label, message })
        });
        Ok(Self {
            outcome: match enrolled.outcome.as_str() {
                "issued" => "issued",
                _ => "existing",
            },
            issuer_pem,
            secrets: secrets.collect::<Result<_>>()?,
            issued: Issued {
                unit: Unit {
                    device_id: enrolled.device_id.parse().map_err(|_| invalid("device"))?,
                    entitlement: enrolled
                        .entitlement
                        .parse()
                        .map_err(|_| invalid("entitlement"))?,
                    slot: enrolled.slot,
                    serial: serial.and_then(|serial| serial.try_into().ok()),
                },
                der: certificate.der().to_vec(),
                device_ca: 0,
                secrets: Vec::new(),
                keys_over: BTreeMap::new(),
                earlier: Vec::new(),
            },
            file,
        })
    }

    fn parcel(&mut self) -> Parcel<'_> {
        Parcel {
            file: &self.file,
            serial: serial(&self.issued.unit).unwrap_or_default(),
            der: &self.issued.der,
            issuer_pem: &self.issuer_pem,
            secrets: std::mem::take(&mut self.secrets),
            earlier: Vec::new(),
        }
    }
}

/// A secret that the vault did not give.
fn not_given(code: Option<String>) -> Error {
    let code = code.unwrap_or_else(|| "SECRETS-MISSING".to_owned());
    let failure = Failure::new(Exit::Negative, code, "the vault gives no such secret");
    failure
        .hint("see the vault's `site audit log`; the certificate is good without it")
        .into()
}

/// A station whose key is not there has most likely not been set up.
fn keyless(error: Error) -> Error {
    match error.code() {
        "KEY-MISSING" => error.hint(
            "run `site station request` on this station first, with the same --keys; then have the vault's operator approve it",
        ),
        _ => error,
    }
}

/// The request, or what the vault would say of something else.
fn verified(submission: &Submission) -> std::result::Result<&CertificationRequest, Failure> {
    match submission {
        Submission::Verified(request) => Ok(request),
        Submission::Unreadable { error, .. } => Err(Error::from(error.clone()).of_a_file().into()),
    }
}

/// The device, by what its request says.
fn device_of(submission: &Submission) -> Option<DeviceId> {
    let Submission::Verified(request) = submission else {
        return None;
    };
    let name = request.subject_serial_number().or(request.common_name())?;
    name.parse().ok()
}
