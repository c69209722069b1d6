//! One client: a TLS connection that is kept, and HTTP over it. Keys are in memory, so that what a client costs is small.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An EST server, and who asks it.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    authority: String,
    name: ServerName<'static>,
    path: String,
    identities: Vec<Arc<ClientConfig>>,
}

/// What a station connects with: TLS 1.3, a trusted CA, a certificate and its key, all PEM.
pub(crate) fn tls(trusted: &Path, certificate: &Path, key: &Path) -> Arc<ClientConfig> {
    let chain = |path: &Path| {
        let certificates = CertificateDer::pem_file_iter(path).unwrap();
        certificates.map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(trusted));
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(
            chain(certificate),
            PrivateKeyDer::from_pem_file(key).unwrap(),
        );
    Arc::new(config.unwrap())
}

impl Target {
    /// `https://HOST:PORT/PATH`, which `simpleenroll` is under.
    pub(crate) fn new(url: &str, identities: Vec<Arc<ClientConfig>>) -> Self {
        let uri: Uri = url.parse().unwrap();
        let host = uri.host().unwrap();
        let port = uri.port_u16().unwrap_or(443);
        let bare = host.trim_matches(['[', ']']);
        let mut addresses = (bare, port).to_socket_addrs().unwrap();
        Self {
            address: addresses.next().unwrap(),
            authority: format!("{host}:{port}"),
            name: ServerName::try_from(bare.to_owned()).unwrap(),
            path: format!("{}/simpleenroll", uri.path().trim_end_matches('/')),
            identities,
        }
    }

    /// The connection of one client of many: identities are taken in turn.
    pub(crate) async fn connect(&self, client: usize) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let identity = &self.identities[client % self.identities.len()];
        let connector = TlsConnector::from(Arc::clone(identity));
        let stream = connector.connect(self.name.clone(), stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection {
            sender,
            authority: self.authority.clone(),
            path: self.path.clone(),
        }
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    path: String,
}

impl Connection {
    /// Asks for a certificate, and gives the body of the answer. No answer but 200 is one.
    pub(crate) async fn enrol(&mut self, body: Bytes) -> Bytes {
        let request = Request::post(&*self.path)
            .header(HOST, &*self.authority)
            .header(CONTENT_TYPE, "application/pkcs10")
            .header("content-transfer-encoding", "base64")
            .header(ACCEPT, "*/*")
            .body(Full::new(body))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(
            status == 200,
            "{status}: {}",
            String::from_utf8_lossy(&body)
        );
        body
    }
}
