//! By what stations know the service, and it them: its key is in a token, its certificate is of the station CA, and so are
//! theirs. The certificate is made when there is none, when the names have changed, and when two thirds of its life are over.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mintmark_console::files;
use mintmark_keys::{KeyStore, Purpose, Signer};
use mintmark_pki::{
    CERTIFICATE_FILE_BYTES_MAX, Certificate, Issuer, ServerName, Validity, assemble,
    station_server_tbs, to_pem,
};
use mintmark_protocol::encryption::random;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme, version};

use super::board::Wall;
use super::floor::now_unix;
use crate::failure::{Error, Result};
use crate::vault::Vault;

/// The service's certificate and that of the station CA, PEM, in the home.
pub(crate) const CERTIFICATE: &str = "serve-tls.pem";

/// The key of the service, of the first generation.
const KEY: &str = "serve-tls";

/// The last generation that is looked for.
const GENERATIONS_MAX: u32 = 9_999;

/// How long a certificate is good.
const VALID_SECONDS: u64 = 90 * 86_400;

/// By how much a certificate begins earlier than it is made: clocks of stations differ.
const BACKDATED_SECONDS: u64 = 300;

/// The most handshakes that wait for the token's signature.
const SIGNING_MAX: usize = 64;

/// How many threads have the token sign for handshakes.
const SIGNING_THREADS: usize = 2;

/// How long a handshake waits for the token.
const SIGNING_TIME: Duration = Duration::from_secs(8);

/// How many sessions a connection leaves to be resumed, without another signature of the token.
const SESSIONS_PER_CONNECTION: usize = 1;

/// Whether the key stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// It stays.
    Present,
    /// The next generation is made.
    Next,
}

/// The service's certificate as it stands in the home.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// The certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// Until when it is good, Unix seconds.
    pub(crate) until: u64,
    /// Between these times it is shown, Unix seconds; it is to be renewed at any other.
    fresh: Range<u64>,
    /// That of the station CA, DER.
    pub(crate) station_ca: Vec<u8>,
    /// The label of its key.
    pub(crate) label: String,
    /// It was made just now.
    pub(crate) made: bool,
}

/// The label of a generation of the key: `serve-tls`, then `serve-tls-2` and so on.
fn label(generation: u32) -> String {
    match generation {
        0 | 1 => KEY.to_owned(),
        later => format!("{KEY}-{later}"),
    }
}

/// The newest generation that the store holds; none at first.
fn newest(store: &dyn KeyStore) -> Result<Option<(u32, p256::PublicKey)>> {
    let mut newest = None;
    for generation in 1..=GENERATIONS_MAX {
        match store.find(&label(generation), Purpose::Sign)? {
            Some(key) => newest = Some((generation, key)),
            None => break,
        }
    }
    Ok(newest)
}

impl Vault<'_> {
    /// The key and the certificate of the service. They stay as they are while they are good for these names; what is
    /// missing is made, the station CA with it.
    ///
    /// # Errors
    /// NOT-ENROLLED; SERVER-NAME-INVALID; what the tokens, the log and the home fail with.
    pub(crate) fn service_credential(
        &mut self,
        home: &Path,
        store: &Arc<dyn KeyStore>,
        names: &[ServerName],
        key: Key,
    ) -> Result<Credential> {
        let (station_ca, signer) = self.station_ca()?;
        let path = home.join(CERTIFICATE);
        let (generation, public) = match (newest(&**store)?, key) {
            (Some(newest), Key::Present) => newest,
            (newest, _) => {
                let next = newest.map_or(1, |(generation, _)| generation + 1);
                (next, store.generate(&label(next), Purpose::Sign)?)
            }
        };
        let label = label(generation);
        let now = self.time();
        if let Some(certificate) = stored(&path)?
            && is_good(&certificate, &station_ca, names, &public, now)
        {
            return Ok(Credential::new(&certificate, &station_ca, label, false));
        }
        let serial: [u8; 16] = random()?;
        let tbs = station_server_tbs(&station_ca, names, &public, &serial, validity_at(now))?;
        let certificate = assemble(&tbs, &signer.sign(&tbs)?)?;
        let pem: String = [&*certificate, station_ca.certificate_der()]
            .map(|der| to_pem("CERTIFICATE", der))
            .concat();
        files::write_public_replace(&path, pem.as_bytes())?;
        let certificate = Certificate::from_der(&certificate)?;
        Ok(Credential::new(&certificate, &station_ca, label, true))
    }
}

/// The label of the key that `site station rotate-tls` would make, and until when its certificate would be good at this time.
///
/// # Errors
/// What the store fails with.
pub(crate) fn next_credential(store: &dyn KeyStore, now: u64) -> Result<(String, u64)> {
    let next = newest(store)?.map_or(1, |(generation, _)| generation + 1);
    Ok((label(next), validity_at(now).not_after_unix))
}

fn validity_at(now: u64) -> Validity {
    let begin = now.saturating_sub(BACKDATED_SECONDS);
    Validity {
        not_before_unix: begin,
        not_after_unix: begin.saturating_add(VALID_SECONDS),
    }
}

/// The first certificate of the file; none where there is no such file, or nothing that could be one.
fn stored(path: &Path) -> Result<Option<Certificate>> {
    match files::read_limited(path, 2 * CERTIFICATE_FILE_BYTES_MAX as u64) {
        Ok(bytes) => Ok(first(&bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn first(pem: &[u8]) -> Option<Certificate> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let text = std::str::from_utf8(pem).ok()?;
    let first = text.split_inclusive(END).next()?;
    Certificate::from_pem_or_der(first.as_bytes()).ok()
}

/// Whether the certificate says what one that is made now would say, and has more than a third of its life before it.
fn is_good(
    certificate: &Certificate,
    station_ca: &Issuer,
    names: &[ServerName],
    key: &p256::PublicKey,
    now: u64,
) -> bool {
    let validity = Validity {
        not_before_unix: certificate.not_before_unix(),
        not_after_unix: certificate.not_after_unix(),
    };
    let again = station_server_tbs(station_ca, names, key, certificate.serial(), validity);
    fresh(certificate).contains(&now)
        && again.is_ok_and(|again| again == certificate.tbs_der())
        && certificate.verify_issued_by(station_ca).is_ok()
}

/// The first two thirds of its life.
fn fresh(certificate: &Certificate) -> Range<u64> {
    let (begin, end) = (certificate.not_before_unix(), certificate.not_after_unix());
    begin..begin.saturating_add(end.saturating_sub(begin) / 3 * 2)
}

impl Credential {
    fn new(certificate: &Certificate, station_ca: &Issuer, label: String, made: bool) -> Self {
        Self {
            until: certificate.not_after_unix(),
            fresh: fresh(certificate),
            certificate: certificate.der().to_vec(),
            station_ca: station_ca.certificate_der().to_vec(),
            label,
            made,
        }
    }

    /// As rustls wants it.
    ///
    /// # Errors
    /// What the store fails with.
    fn certified(&self, store: &dyn KeyStore, workers: &Workers) -> Result<CertifiedKey> {
        let signer = store.signer(&self.label)?;
        let key = TokenKey {
            signer,
            jobs: workers.jobs.clone(),
        };
        // The station CA is what stations verify by: they have it.
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        Ok(CertifiedKey::new(chain, Arc::new(key)))
    }
}

/// What the file looked like when it was read, so that a change is noticed without reading it.
type Look = Option<(u64, i64, i64)>;

fn look(path: &Path) -> Look {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec()))
}

/// The key and the certificate that the next handshake is done with.
#[derive(Debug)]
pub(crate) struct Shown {
    path: PathBuf,
    store: Arc<dyn KeyStore>,
    workers: Workers,
    now: RwLock<(Arc<CertifiedKey>, Look)>,
    /// What seals the sessions that stations keep: with another certificate it is another one, so that nobody resumes a session
    /// that an earlier key began.
    tickets: RwLock<Arc<dyn ProducesTickets>>,
    /// Between these times the certificate is shown, Unix seconds.
    fresh: RwLock<Range<u64>>,
}

impl Shown {
    /// From what was established, with its key in this store.
    ///
    /// # Errors
    /// What the store fails with.
    pub(crate) fn new(
        home: &Path,
        store: Arc<dyn KeyStore>,
        credential: &Credential,
    ) -> Result<Arc<Self>> {
        let workers = Workers::start();
        let path = home.join(CERTIFICATE);
        let seen = look(&path);
        let certified = credential.certified(&*store, &workers)?;
        Ok(Arc::new(Self {
            path,
            store,
            workers,
            now: RwLock::new((Arc::new(certified), seen)),
            tickets: RwLock::new(tickets()?),
            fresh: RwLock::new(credential.fresh.clone()),
        }))
    }

    /// Whether two thirds of the certificate's life are over, or none of it has begun: it was made by a clock that was wrong.
    pub(crate) fn is_due(&self, time: u64) -> bool {
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        !fresh.contains(&time)
    }

    /// Where the key is.
    pub(crate) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Takes up another certificate, if the home holds another one since. Gives whether it did.
    ///
    /// # Errors
    /// What the home and the store fail with; what was shown before goes on being shown.
    pub(crate) fn reload(&self) -> Result<bool> {
        let seen = look(&self.path);
        let before = self.now.read().unwrap_or_else(PoisonError::into_inner).1;
        if seen == before {
            return Ok(false);
        }
        let Some(certificate) = stored(&self.path)? else {
            return Ok(false);
        };
        let missing = || {
            let message = "the key of the service's new certificate is not in the token";
            Error::environment("SERVE-KEY-MISSING", message)
                .hint("run `site station rotate-tls` with the same --tls-keys as `site serve`")
        };
        let (generation, key) = newest(&*self.store)?.ok_or_else(missing)?;
        let signer = self.store.signer(&label(generation))?;
        let spki = p256::pkcs8::EncodePublicKey::to_public_key_der(&key).ok();
        if spki.is_none_or(|spki| spki.as_bytes() != certificate.spki_der()) {
            return Err(missing());
        }
        let key = TokenKey {
            signer,
            jobs: self.workers.jobs.clone(),
        };
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let certified = CertifiedKey::new(chain, Arc::new(key));
        let tickets = tickets()?;
        *self.tickets.write().unwrap_or_else(PoisonError::into_inner) = tickets;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = (Arc::new(certified), seen);
        *self.fresh.write().unwrap_or_else(PoisonError::into_inner) = fresh(&certificate);
        Ok(true)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now.0))
    }
}

impl Shown {
    fn tickets(&self) -> Arc<dyn ProducesTickets> {
        let tickets = self.tickets.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&tickets)
    }
}

impl ProducesTickets for Shown {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.tickets().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets().decrypt(cipher)
    }
}

/// Keys of their own, which are in memory alone and good for half a day.
fn tickets() -> Result<Arc<dyn ProducesTickets>> {
    Ticketer::new().map_err(|error| broken(&error))
}

fn broken(why: &dyn std::fmt::Display) -> Error {
    Error::environment("SERVE-TLS", "TLS cannot be set up")
        .cause(why.to_string())
        .hint("report it")
}

/// The time by which stations' certificates are judged: the vault's. A clock that the vault does not believe keeps no station
/// out, so that whoever asks is told what is wrong.
struct VaultTime(Arc<Wall>);

impl std::fmt::Debug for VaultTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultTime")
    }
}

impl TimeProvider for VaultTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.time().unwrap_or_else(now_unix);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// How TLS is spoken: 1.3, and 1.2 where that is allowed. A client may show a certificate of the station CA; what it may do
/// without one is up to what it asks for.
///
/// # Errors
/// SERVE-TLS if the TLS library refuses what it is given.
pub(crate) fn config(
    shown: Arc<Shown>,
    station_ca: &[u8],
    wall: &Arc<Wall>,
    tls12: bool,
) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(station_ca.to_vec()))
        .map_err(|error| broken(&error))?;
    let stations =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| broken(&error))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match tls12 {
        true => &[&version::TLS13, &version::TLS12],
        false => &[&version::TLS13],
    };
    let mut config =
        ServerConfig::builder_with_details(provider, Arc::new(VaultTime(Arc::clone(wall))))
            .with_protocol_versions(versions)
            .map_err(|error| broken(&error))?
            .with_client_cert_verifier(stations)
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // What is to be resumed the station keeps, sealed: here it would be a kilobyte and a half for each.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = shown;
    config.send_tls13_tickets = SESSIONS_PER_CONNECTION;
    Ok(Arc::new(config))
}

/// What TLS is made of.
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

type Signed = std::result::Result<Vec<u8>, String>;

/// A handshake that waits for the token.
struct Job {
    signer: Arc<dyn Signer>,
    message: Vec<u8>,
    answer: SyncSender<Signed>,
}

/// Those who ask the token for handshakes' signatures. A module that hangs has them hang, and nobody else.
struct Workers {
    jobs: SyncSender<Job>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    fn start() -> Self {
        let (jobs, waiting) = sync_channel(SIGNING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..SIGNING_THREADS {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || work(&waiting));
        }
        Self { jobs }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = job else {
            return;
        };
        let signed = job.signer.sign(&job.message);
        let signed = signed
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .map_err(|error| error.to_string());
        // The handshake may have given up.
        let _ = job.answer.send(signed);
    }
}

/// The service's key, as rustls sees it.
struct TokenKey {
    signer: Arc<dyn Signer>,
    jobs: SyncSender<Job>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.signer.fmt(f)
    }
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let signer = TokenSigner {
            signer: Arc::clone(&self.signer),
            jobs: self.jobs.clone(),
        };
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(signer) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

/// One signature to be.
struct TokenSigner {
    signer: Arc<dyn Signer>,
    jobs: SyncSender<Job>,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.signer.fmt(f)
    }
}

impl rustls::sign::Signer for TokenSigner {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
        let failed = |why: &str| rustls::Error::General(format!("the service's token: {why}"));
        let (answer, signed) = sync_channel(1);
        let job = Job {
            signer: Arc::clone(&self.signer),
            message: message.to_vec(),
            answer,
        };
        if self.jobs.try_send(job).is_err() {
            return Err(failed("too many handshakes wait for it"));
        }
        // The thread may wait: the runtime has its other work done elsewhere.
        let signed = tokio::task::block_in_place(|| signed.recv_timeout(SIGNING_TIME));
        match signed {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(why)) => Err(failed(&why)),
            Err(_) => Err(failed("it does not answer")),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
