//! A token that goes away and comes back: SoftHSM behind `p11-kit server`, which is killed, stopped and started again
//! under a store that stays open.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod softhsm;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mintmark_keys::{
    Error, KeyStore, KeyUri, Pin, Purpose, SecretAlgorithm, Signer, counter_kdf, open, verify,
};
use p256::SecretKey;
use softhsm::{PIN, SoftHsm, never, remote_module, run, softhsm_module, spy_module};

/// How often a test looks for what must come to pass, a tenth of a second apart.
const LOOKS: usize = 600;

/// `p11-kit server`, and what it started for each connection.
struct Server {
    process: Child,
    socket: PathBuf,
    /// What SoftHSM knows of its tokens, which it cuts short and writes again at every login, so that a kill in between
    /// takes the token with it: a module that keeps its tokens itself does not lose them so.
    tokens: BTreeMap<PathBuf, Vec<u8>>,
}

impl Server {
    /// Serves `tokens` of the module `provider`.
    fn start_with(hsm: &SoftHsm, provider: PathBuf, tokens: &[&str]) -> Self {
        let socket = hsm.folder.join("p11-kit");
        let _ = fs::remove_file(&socket);
        let process = Command::new("p11-kit")
            .args(["server", "--foreground", "--name"])
            .arg(&socket)
            .arg("--provider")
            .arg(provider)
            .args(tokens.iter().map(|token| format!("pkcs11:token={token}")))
            .env_remove("P11_KIT_SERVER_ADDRESS")
            .process_group(0)
            .stdout(Stdio::null())
            .spawn()
            .expect("p11-kit runs (package p11-kit)");
        wait_until(|| socket.exists());
        let tokens = fs::read_dir(hsm.folder.join("tokens")).unwrap();
        let objects = tokens.map(|token| token.unwrap().path().join("token.object"));
        let tokens = objects.filter_map(|object| Some((object.clone(), fs::read(object).ok()?)));
        Self {
            process,
            socket,
            tokens: tokens.collect(),
        }
    }

    fn start(hsm: &SoftHsm) -> Self {
        Self::start_with(hsm, softhsm_module(), &["vault"])
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.process.id());
        run(Command::new("kill").args([signal, "--", &group]));
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-KILL");
        self.process.wait().unwrap();
        let _ = fs::remove_file(&self.socket);
        for (object, whole) in &self.tokens {
            if fs::metadata(object).map_or(0, |now| now.len()) < whole.len() as u64 {
                fs::write(object, whole).unwrap();
            }
        }
    }
}

/// Says that it is over, however it ends: those who wait for it end too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[track_caller]
fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come to pass");
}

/// Calls until the token is back; it may be gone meanwhile, and nothing else may be wrong.
#[track_caller]
fn back<T>(call: impl Fn() -> Result<T, Error>) -> T {
    for _ in 0..LOOKS {
        match call() {
            Ok(value) => return value,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("the token did not come back");
}

#[track_caller]
fn gone<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "TOKEN-GONE", "{error}");
    assert!(error.is_transient() && error.hint().is_some());
    assert!(error.to_string().contains("\"vault\""), "{error}");
}

fn uri(hsm: &SoftHsm) -> KeyUri {
    hsm.uri_through(&remote_module(), "token=vault")
}

/// An open store with a key to sign with, and the key.
fn store_and_signer(hsm: &SoftHsm) -> (Arc<dyn KeyStore>, Arc<dyn Signer>) {
    let store = open(&uri(hsm), &never).unwrap();
    store.generate("vault-sign", Purpose::Sign).unwrap();
    let signer = store.signer("vault-sign").unwrap();
    (store, signer)
}

with_softhsm! {
    fn a_token_that_went_away_is_gone_and_then_back_with_all_its_keys(hsm) {
        hsm.token("vault");
        let direct = open(&hsm.uri("token=vault"), &never).unwrap();
        let agreed = direct.generate("vault-agree", Purpose::Agree).unwrap();
        let server = Server::start(hsm);
        let (store, signer) = store_and_signer(hsm);
        store.import_secret("set", SecretAlgorithm::HmacSha256, &[7; 32]).unwrap();
        let secret = store.secret("set", SecretAlgorithm::HmacSha256).unwrap();
        let derived = counter_kdf(SecretAlgorithm::HmacSha256, &[7; 32], "x", b"").unwrap();
        // p11-kit 0.24 does not pass ECDH on: a key for it is opened, and agrees on nothing; later ones do both.
        let agreement = store.agreement("vault-agree").unwrap();
        assert_eq!(*agreement.public_key(), agreed);
        let peer = SecretKey::from_slice(&[7; 32]).unwrap();
        let agrees = |result: Result<zeroize::Zeroizing<[u8; 32]>, Error>| match result {
            Ok(secret) => assert_eq!(secret.as_slice(), peer.diffie_hellman(&agreed).raw_secret_bytes().as_slice()),
            Err(error) => assert!(error.to_string().contains("CKR_MECHANISM_INVALID"), "{error}"),
        };
        agrees(agreement.agree(&peer.public_key()));
        let mut server = Some(server);
        for round in 0..3 {
            let before = store.liveness();
            assert!(before.connected);
            assert_eq!((before.calls, before.busy_since), (0, None));
            server.take().unwrap().kill();
            gone(signer.sign(b"message"));
            gone(agreement.agree(&peer.public_key()));
            gone(secret.derive("x", b""));
            gone(store.check());
            gone(store.find("vault-sign", Purpose::Sign));
            assert!(!store.liveness().connected);
            server = Some(Server::start(hsm));
            // Whichever call comes first finds it.
            match round {
                0 => back(|| store.check()),
                1 => assert_eq!(back(|| secret.derive("x", b"")), derived),
                _ => assert_eq!(back(|| store.find("vault-sign", Purpose::Sign)), Some(*signer.public_key())),
            }
            let after = store.liveness();
            assert!(after.connected);
            assert_eq!(after.connections, before.connections + 1);
            assert!(verify(signer.public_key(), b"message", &signer.sign(b"message").unwrap()));
            assert_eq!(secret.derive("x", b"").unwrap(), derived);
            agrees(agreement.agree(&peer.public_key()));
        }
    }

    fn a_token_that_is_away_while_its_store_is_opened_is_found_at_the_next_try(hsm) {
        hsm.token("vault");
        assert_eq!(open(&uri(hsm), &never).unwrap_err().code(), "TOKEN-MISSING");
        let _server = Server::start(hsm);
        wait_until(|| open(&uri(hsm), &never).is_ok());
    }

    fn threads_that_sign_all_the_time_see_nothing_but_a_token_that_is_gone(hsm) {
        hsm.token("vault");
        let mut server = Some(Server::start(hsm));
        let (store, signer) = store_and_signer(hsm);
        let (done, signed) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..6 {
                let (signer, done, signed) = (&signer, &done, &signed);
                scope.spawn(move || {
                    let mut count = 0;
                    while !done.load(Ordering::SeqCst) {
                        count += 1;
                        let message = format!("{thread} {count}");
                        match signer.sign(message.as_bytes()) {
                            Ok(signature) => {
                                assert!(verify(signer.public_key(), message.as_bytes(), &signature));
                                signed.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(error) => {
                                assert_eq!(error.code(), "TOKEN-GONE", "{error}");
                                thread::sleep(Duration::from_millis(10));
                            }
                        }
                    }
                });
            }
            let _over = Over(&done);
            for _ in 0..4 {
                let before = signed.load(Ordering::SeqCst);
                wait_until(|| signed.load(Ordering::SeqCst) > before + 20);
                server.take().unwrap().kill();
                server = Some(Server::start(hsm));
            }
            let before = signed.load(Ordering::SeqCst);
            wait_until(|| signed.load(Ordering::SeqCst) > before + 20);
        });
        let liveness = store.liveness();
        assert!(liveness.connected && liveness.connections >= 5, "{liveness:?}");
        assert_eq!((liveness.calls, liveness.busy_since), (0, None));
    }

    fn a_call_that_does_not_return_is_seen_and_goes_on_when_the_token_does(hsm) {
        hsm.token("vault");
        let server = Server::start(hsm);
        let (store, signer) = store_and_signer(hsm);
        server.signal("-STOP");
        thread::scope(|scope| {
            // More than there are sessions, so that some of them wait for one.
            let calls: Vec<_> = (0..32).map(|_| scope.spawn(|| signer.sign(b"message"))).collect();
            wait_until(|| store.liveness().busy_since.is_some_and(|since| since.elapsed() > Duration::from_millis(500)));
            let liveness = store.liveness();
            assert!(liveness.calls >= 1 && liveness.connected, "{liveness:?}");
            assert!(calls.iter().all(|call| !call.is_finished()));
            server.signal("-CONT");
            for call in calls {
                assert!(verify(signer.public_key(), b"message", &call.join().unwrap().unwrap()));
            }
        });
        assert_eq!((store.liveness().calls, store.liveness().busy_since), (0, None));
        // One that is killed while calls hang in it lets them go.
        server.signal("-STOP");
        thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| signer.sign(b"message"))).collect();
            wait_until(|| store.liveness().calls > 0);
            server.kill();
            for call in calls {
                gone(call.join().unwrap());
            }
        });
        let _server = Server::start(hsm);
        back(|| signer.sign(b"message"));
    }

    fn a_pin_that_was_typed_is_asked_for_once_however_often_the_token_goes(hsm) {
        hsm.token("vault");
        let mut server = Some(Server::start(hsm));
        let uri: KeyUri = format!("pkcs11:token=vault?module-path={}", remote_module().display()).parse().unwrap();
        let asked = Cell::new(0);
        let prompt = |_: &str| {
            asked.set(asked.get() + 1);
            Ok(Pin::new(PIN.into()))
        };
        let store = open(&uri, &prompt).unwrap();
        for _ in 0..2 {
            server.take().unwrap().kill();
            gone(store.check());
            server = Some(Server::start(hsm));
            back(|| store.check());
        }
        assert_eq!(asked.get(), 1);
    }

    fn a_pin_that_became_wrong_is_tried_once_until_the_store_is_opened_again(hsm) {
        hsm.token("vault");
        let spied = || Server::start_with(hsm, spy_module(), &["vault"]);
        let server = spied();
        let (_store, signer) = store_and_signer(hsm);
        server.kill();
        fs::write(hsm.pin_file(), "999999").unwrap();
        let _server = spied();
        let logins = hsm.calls("C_Login");
        let mut error = signer.sign(b"message").unwrap_err();
        while error.is_transient() {
            thread::sleep(Duration::from_millis(100));
            error = signer.sign(b"message").unwrap_err();
        }
        assert_eq!(error.code(), "PIN-INCORRECT", "{error}");
        fs::write(hsm.pin_file(), PIN).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(signer.sign(b"message").unwrap_err().code(), "PIN-INCORRECT"));
            }
        });
        assert_eq!(hsm.calls("C_Login"), logins + 1);
        let store = open(&uri(hsm), &never).unwrap();
        store.signer("vault-sign").unwrap().sign(b"message").unwrap();
    }

    fn a_key_that_was_exchanged_while_the_token_was_away_is_never_used(hsm) {
        hsm.token("vault");
        let server = Server::start(hsm);
        let (store, signer) = store_and_signer(hsm);
        let authenticates = store.signer_for("vault-sign", Purpose::Authenticate).unwrap();
        server.kill();
        for kind in ["privkey", "pubkey"] {
            hsm.pkcs11_tool("vault", &["--delete-object", "--type", kind, "--label", "vault-sign"]);
        }
        let mut server = Server::start(hsm);
        let verdict = |signer: &Arc<dyn Signer>| loop {
            match signer.sign(b"message").unwrap_err() {
                error if error.is_transient() => thread::sleep(Duration::from_millis(100)),
                error => return error.code(),
            }
        };
        assert_eq!(verdict(&signer), "KEY-MISSING");
        server.kill();
        hsm.pkcs11_tool("vault", &["--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign", "--label", "vault-sign", "--id", "01"]);
        server = Server::start(hsm);
        for _ in 0..3 {
            assert_eq!(verdict(&signer), "KEY-ATTRIBUTES");
            assert_eq!(verdict(&authenticates), "KEY-CHANGED");
        }
        server.kill();
    }

    fn a_token_that_is_away_costs_another_one_of_its_module_nothing(hsm) {
        hsm.token("vault");
        hsm.token("other");
        let server = Server::start_with(hsm, softhsm_module(), &["vault", "other"]);
        let (vault, signer) = store_and_signer(hsm);
        let other = open(&hsm.uri_through(&remote_module(), "token=other"), &never).unwrap();
        other.generate("other-sign", Purpose::Sign).unwrap();
        let other_signer = other.signer("other-sign").unwrap();
        server.kill();
        gone(signer.sign(b"message"));
        other_signer.sign(b"message").unwrap_err();
        // Both come back, though one of them starts the module anew under the other.
        let server = Server::start_with(hsm, softhsm_module(), &["vault", "other"]);
        for _ in 0..3 {
            back(|| signer.sign(b"message"));
            back(|| other_signer.sign(b"message"));
        }
        server.kill();
        let _server = Server::start_with(hsm, softhsm_module(), &["other"]);
        back(|| other_signer.sign(b"message"));
        let connections = other.liveness().connections;
        // For long enough that the module would be started anew.
        for _ in 0..25 {
            gone(signer.sign(b"message"));
            other_signer.sign(b"message").unwrap();
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(other.liveness().connections, connections);
        assert!(!vault.liveness().connected);
    }
}
