//! How a station asks: over TLS, known by its certificate and the key in its token, knowing the vault by the station CA. Each
//! connection is kept, and made anew when it breaks; whoever is told to come again does, as long as there is patience.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mintmark_console::{Exit, Failure};
use mintmark_keys::Signer;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CertificateError, ClientConfig, RootCertStore, SignatureAlgorithm, SignatureScheme};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::Papers;
use crate::failure::{Error, Result};

/// The largest answer, in bytes: a certificate, its chain, and secrets.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long an answer may take; the service says that it has none sooner than that.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// How long a station waits before it comes again, when it was not told for how long.
const AGAIN_SECONDS_MAX: u64 = 8;
/// The port where none is named.
const PORT: u16 = 443;

/// A vault's service, as a station reaches it.
pub(crate) struct Vault {
    tls: TlsConnector,
    host: String,
    port: u16,
    name: ServerName<'static>,
    authority: String,
}

/// A certificate, as the service gives it.
#[derive(Debug, Deserialize)]
pub(crate) struct Enrolled {
    pub(crate) outcome: String,
    pub(crate) device_id: String,
    pub(crate) entitlement: String,
    pub(crate) slot: u64,
    pub(crate) serial: Option<String>,
    pub(crate) certificate: String,
    pub(crate) chain: String,
    #[serde(default)]
    pub(crate) secrets: Vec<Secret>,
}

/// A secret that goes with it.
#[derive(Debug, Deserialize)]
pub(crate) struct Secret {
    pub(crate) key: String,
    pub(crate) message: Option<String>,
    pub(crate) code: Option<String>,
}

/// What the vault says.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A certificate.
    Enrolled(Box<Enrolled>),
    /// No, for good.
    Refused(Failure),
}

/// Why there is no answer.
#[derive(Debug)]
enum Away {
    /// Nothing changes that by waiting.
    Never(Error),
    /// It may be there later.
    Now { why: Error, after: Duration },
}

/// What is asked: how, where, and with what.
type Question<'q> = (Method, &'static str, &'q Bytes);

/// What the vault tells, or why not, for good.
type Answer<T> = std::result::Result<T, Failure>;

/// How long a station goes on asking when it gets no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(pub(crate) Duration);

/// One connection, while it lasts.
#[derive(Default)]
pub(crate) struct Line(Option<SendRequest<Full<Bytes>>>);

#[derive(Deserialize)]
struct Told {
    error: ToldError,
}

#[derive(Deserialize)]
struct ToldError {
    code: String,
    message: String,
    cause: Option<String>,
    hint: Option<String>,
    exit_code: Option<i32>,
}

impl Vault {
    /// The service at a URL, for the station with this key and these papers.
    ///
    /// # Errors
    /// VAULT-URL-INVALID.
    pub(crate) fn new(url: &str, signer: Arc<dyn Signer>, papers: &Papers) -> Result<Self> {
        let invalid = || {
            let message = format!("{url} is not the address of a vault");
            Error::usage("VAULT-URL-INVALID", message).hint("such as https://vault.factory:8443")
        };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let (Some("https"), Some(authority), true) = (uri.scheme_str(), uri.authority(), plain)
        else {
            return Err(invalid());
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config(signer, papers)?)),
            port: authority.port_u16().unwrap_or(PORT),
            name: ServerName::try_from(host.clone()).map_err(|_| invalid())?,
            authority: authority.to_string(),
            host,
        })
    }

    /// Asks for a certificate until there is an answer, or no patience left.
    pub(crate) async fn enrol(
        &self,
        line: &mut Line,
        body: &Bytes,
        patience: Patience,
    ) -> std::result::Result<Reply, Error> {
        let question = (Method::POST, "/api/v1/enrol", body);
        let answer: Answer<Box<Enrolled>> = self.insist(line, question, patience).await?;
        Ok(match answer {
            Ok(enrolled) => Reply::Enrolled(enrolled),
            Err(failure) => Reply::Refused(failure),
        })
    }

    /// Asks how the vault is, which it tells no station that it does not let in.
    pub(crate) async fn greet(&self, line: &mut Line, patience: Patience) -> Result<()> {
        let nothing = Bytes::new();
        let question = (Method::GET, "/api/v1/status", &nothing);
        let answer: Answer<IgnoredAny> = self.insist(line, question, patience).await?;
        answer.map(drop).map_err(Error::from)
    }

    async fn insist<T: DeserializeOwned>(
        &self,
        line: &mut Line,
        question: Question<'_>,
        patience: Patience,
    ) -> Result<Answer<T>> {
        let end = Instant::now() + patience.0;
        let mut pause = Duration::from_millis(200);
        loop {
            let (why, after) = match self.ask(line, &question).await {
                Ok(reply) => return Ok(reply),
                Err(Away::Never(error)) => return Err(error),
                Err(Away::Now { why, after }) => (why, after),
            };
            let wait = after.max(pause);
            if Instant::now() + wait > end {
                return Err(why);
            }
            sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(AGAIN_SECONDS_MAX));
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        line: &mut Line,
        (method, path, body): &Question<'_>,
    ) -> std::result::Result<Answer<T>, Away> {
        let mut sender = match line.0.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(*path)
            .header(HOST, &self.authority)
            .header(
                USER_AGENT,
                concat!("mintmark-site/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::clone(body)))
            .map_err(|error| Away::Never(self.broken(&error)))?;
        let answer = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| self.unreachable(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.unreachable(error))?;
            Ok((head, body.to_bytes()))
        };
        let (head, body) = timeout(ANSWER_TIME, answer)
            .await
            .map_err(|_| self.unreachable("it did not answer in time"))??;
        if sender.ready().await.is_ok() {
            line.0 = Some(sender);
        }
        if head.status == StatusCode::OK {
            let told = serde_json::from_slice(&body);
            return Ok(Ok(told.map_err(|error| Away::Never(self.broken(&error)))?));
        }
        let failure = failure(&body, head.status);
        let after = head.headers.get(RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
        match head.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(Away::Now {
                why: failure.into(),
                after: Duration::from_secs(after.unwrap_or(1)),
            }),
            status if status.is_server_error() => Err(Away::Now {
                why: failure.into(),
                after: Duration::from_secs(1),
            }),
            // What concerns the station concerns every device.
            StatusCode::UNAUTHORIZED => Err(Away::Never(failure.into())),
            _ if is_about_the_station(&failure.code) => Err(Away::Never(failure.into())),
            _ => Ok(Err(failure)),
        }
    }

    async fn connect(&self) -> std::result::Result<SendRequest<Full<Bytes>>, Away> {
        let connect = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
            let stream = stream.map_err(|error| self.unreachable(error))?;
            // A request is one small write; nothing is gained by waiting for more.
            let _ = stream.set_nodelay(true);
            let stream = self.tls.connect(self.name.clone(), stream).await;
            let stream = stream.map_err(|error| self.tls_failed(&error))?;
            let (sender, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.unreachable(error))?;
            tokio::spawn(connection);
            Ok(sender)
        };
        timeout(CONNECT_TIME, connect)
            .await
            .map_err(|_| self.unreachable("no connection was made in time"))?
    }

    fn unreachable(&self, cause: impl std::fmt::Display) -> Away {
        let message = format!("the vault at {} cannot be reached", self.authority);
        let why = Error::environment("VAULT-UNREACHABLE", message).cause(cause).hint(
            "check the address and that `site serve` runs there, then run the same command again: asking twice is free",
        );
        Away::Now {
            why,
            after: Duration::ZERO,
        }
    }

    fn broken(&self, cause: &dyn std::fmt::Display) -> Error {
        let message = format!("{} does not answer as a vault does", self.authority);
        Error::environment("VAULT-ANSWER-INVALID", message)
            .cause(cause)
            .hint("check the address, and that both ends run the same version")
    }

    /// A vault that is another one stays so; a connection that breaks may hold the next time.
    fn tls_failed(&self, error: &std::io::Error) -> Away {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) if is_about_time(why) => {
                let message = format!(
                    "by this machine's clock the certificate of the vault at {} is not valid now",
                    self.authority
                );
                let hint = "compare this machine's clock with what `site status` says at the vault; a vault whose own time is set right \
                            makes another certificate within a minute";
                Away::Never(
                    Error::negative("VAULT-CERTIFICATE-TIME", message)
                        .cause(why)
                        .hint(hint),
                )
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let message = format!(
                    "the service at {} is not the vault that let this station in",
                    self.authority
                );
                Away::Never(Error::negative("VAULT-UNTRUSTED", message).cause(why).hint(
                    "check the address; a vault that is a new one has to approve the station anew",
                ))
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                let message = format!(
                    "the vault at {} does not take this station's certificate",
                    self.authority
                );
                Away::Never(
                    Error::negative("STATION-REJECTED", message)
                        .cause(format!("{alert:?}"))
                        .hint(
                            "have the station approved there, and give the new file with --station",
                        ),
                )
            }
            _ => self.unreachable(error),
        }
    }
}

fn is_about_time(why: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        why,
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
    )
}

/// Whether a refusal would meet every other request too.
fn is_about_the_station(code: &str) -> bool {
    matches!(
        code,
        "STATION-UNKNOWN"
            | "STATION-REVOKED"
            | "STATION-EXPIRED"
            | "STATION-PRODUCT-NOT-ALLOWED"
            | "STATION-NOT-ALLOWED"
    )
}

/// What the service says, as if a command here had said it.
fn failure(body: &[u8], status: StatusCode) -> Failure {
    let Ok(Told { error }) = serde_json::from_slice(body) else {
        let message = format!("the vault answered {status}, and not as this station expects");
        return Failure::new(Exit::Environment, "VAULT-ANSWER-INVALID", message)
            .hint("check the address, and that both ends run the same version");
    };
    let exit = match error.exit_code {
        Some(2) => Exit::Usage,
        Some(3) => Exit::Environment,
        Some(4) => Exit::Integrity,
        Some(5) => Exit::Unknown,
        _ => Exit::Negative,
    };
    Failure {
        cause: error.cause,
        hint: error.hint,
        ..Failure::new(exit, error.code, error.message)
    }
}

fn config(signer: Arc<dyn Signer>, papers: &Papers) -> Result<ClientConfig> {
    let broken = |error: rustls::Error| {
        Error::environment("STATION-TLS", "TLS cannot be set up")
            .cause(error)
            .hint("have the station approved again, and give the new file with --station")
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(papers.station_ca.clone()))
        .map_err(broken)?;
    let chain = vec![CertificateDer::from(papers.certificate.clone())];
    let certified = CertifiedKey::new(chain, Arc::new(TokenKey(signer)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(broken)?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shown(Arc::new(certified))));
    Ok(config)
}

/// The one certificate that a station has.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The station's key, in its token, as rustls sees it.
struct TokenKey(Arc<dyn Signer>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(Self(Arc::clone(&self.0))) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for TokenKey {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
        // The thread may wait for the token: the runtime has its other work done elsewhere.
        let signature = tokio::task::block_in_place(|| self.0.sign(message));
        let signature = signature
            .map_err(|error| rustls::Error::General(format!("the station's token: {error}")))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
