//! A token that is reached through a socket, as a network HSM is: SoftHSM behind `p11-kit server`. It can be killed,
//! stopped and started again under whoever uses it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::judge;
use crate::stores::{self, TokenObjects};

/// How long is waited for what should happen at once, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server of one token, until it is dropped.
#[derive(Debug)]
pub struct TokenServer {
    process: Child,
    socket: PathBuf,
    tokens: TokenObjects,
}

impl TokenServer {
    /// Serves the token `name` of a world's folder.
    #[track_caller]
    pub fn start(folder: &Path, name: &str) -> Self {
        let socket = socket(folder);
        let _ = fs::remove_file(&socket);
        let process = Command::new("p11-kit")
            .args(["server", "--foreground", "--name"])
            .arg(&socket)
            .arg("--provider")
            .arg(stores::module())
            .arg(format!("pkcs11:token={name}"))
            .env("SOFTHSM2_CONF", stores::configuration(folder))
            .env_remove("P11_KIT_SERVER_ADDRESS")
            // It starts a process for each connection; all of them are one group.
            .process_group(0)
            .stdout(Stdio::null())
            .spawn()
            .expect("p11-kit runs (package p11-kit)");
        let started = Instant::now();
        while !socket.exists() {
            assert!(started.elapsed() < PATIENCE, "p11-kit did not start");
            thread::sleep(Duration::from_millis(20));
        }
        let tokens = TokenObjects::of(folder);
        Self {
            process,
            socket,
            tokens,
        }
    }

    /// Sends it and its connections a signal: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let group = format!("-{}", self.process.id());
        judge::succeed(Command::new("kill").args([&format!("-{signal}"), "--", &group]));
    }

    /// Kills it and its connections.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.socket);
        self.tokens.put_back_what_was_cut_short();
    }
}

/// The socket of a world's token server.
fn socket(folder: &Path) -> PathBuf {
    folder.join("p11-kit")
}

/// What `P11_KIT_SERVER_ADDRESS` is for programs that use it.
pub(crate) fn address(folder: &Path) -> String {
    format!("unix:path={}", socket(folder).display())
}

/// p11-kit's client as it is.
fn plain_client() -> &'static str {
    const CANDIDATES: [&str; 3] = [
        "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
        "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
        "/usr/lib64/pkcs11/p11-kit-client.so",
    ];
    let client = CANDIDATES.iter().find(|path| Path::new(path).exists());
    client.unwrap_or_else(|| {
        panic!("p11-kit's client (package p11-kit-modules) is at none of {CANDIDATES:?}")
    })
}

/// The module that reaches a world's token through its server: p11-kit's client, with ECDH beside it.
pub fn client(folder: &Path) -> PathBuf {
    let client = plain_client();
    let module = folder.join("p11-kit-client-with-ecdh.so");
    if !module.exists() {
        judge::succeed(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-Wall", "-o"])
                .arg(&module)
                .arg(format!("-DREMOTE=\"{client}\""))
                .arg(format!("-DDIRECT=\"{}\"", stores::module().display()))
                .arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/token_server/with_ecdh.c"
                ))
                .arg("-ldl"),
        );
    }
    module
}

/// The URI of a token at hand, reached through its server instead.
pub fn through_server(folder: &Path, uri: &str) -> String {
    let client = client(folder);
    uri.replace(stores::module().to_str().unwrap(), client.to_str().unwrap())
}

/// The same by p11-kit's client as it is, which may pass no agreement on.
pub fn through_plain_server(uri: &str) -> String {
    uri.replace(stores::module().to_str().unwrap(), plain_client())
}
