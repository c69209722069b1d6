//! What `doctor` tries of a store: whether it is there, what it says of itself, whether its PIN is in danger, whether it does
//! what the product will ask of it, and whether its keys may be used.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Class, Error};
use crate::health::{StoreHealth, TokenHealth, health};
use crate::locked::LockedSecret;
use crate::pin::Prompt;
use crate::store::{KeyDescription, KeyKind, KeyStore, Probe, open};
use crate::uri::KeyUri;

/// One thing that was tried of a store.
#[derive(Debug)]
pub struct Finding {
    /// What was tried: `module`, `token`, `pin`, `sessions`, the name of a [`Probe`], `key LABEL`.
    pub check: String,
    /// What was found, or what is wrong.
    pub outcome: Result<String, Trouble>,
}

/// What is wrong with a store.
#[derive(Debug)]
pub struct Trouble {
    /// The stable code.
    pub code: &'static str,
    /// Who has to act.
    pub class: Class,
    /// What happened, and why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The store works all the same.
    pub works: bool,
}

impl Trouble {
    fn works(self) -> Self {
        Self {
            works: true,
            ..self
        }
    }

    fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            class: Class::Environment,
            message: message.into(),
            hint: Some(hint.into()),
            works: false,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self {
            code: error.code(),
            class: error.class(),
            message: error.to_string(),
            hint: error.hint(),
            works: false,
        }
    }
}

/// What was found, and the store if it could be opened.
#[derive(Debug)]
pub struct Examination {
    /// What was tried, in order.
    pub findings: Vec<Finding>,
    /// The store, logged in.
    pub store: Option<Arc<dyn KeyStore>>,
}

/// Tries the store that `uri` names. `prompt` is asked for the PIN as [`open`] asks. A PIN that is locked is not tried, nor
/// is the last try of one spent. Nothing lasting is made or changed in the store.
pub fn examine(uri: &KeyUri, prompt: Prompt<'_>) -> Examination {
    let mut examination = Examination {
        findings: Vec::new(),
        store: None,
    };
    examination.run(uri, prompt);
    examination
}

impl Examination {
    fn run(&mut self, uri: &KeyUri, prompt: Prompt<'_>) {
        if let KeyUri::Pkcs11(uri) = uri {
            self.module(uri.module_path());
        }
        let usable = match health(uri) {
            Ok(StoreHealth::Token(token)) => self.token(&token),
            Ok(StoreHealth::Folder(folder)) => {
                let found = format!(
                    "{}: {} key files, {} data files",
                    folder.facts.label,
                    folder.keys.len(),
                    folder.data.len()
                );
                self.good("key folder", found);
                for damage in folder.damages {
                    let hint =
                        "restore the file from a backup, or correct its rights with chmod 600";
                    let trouble = Trouble::new("KEY-FILE-INVALID", damage, hint);
                    self.add("key folder", Err(trouble.works()));
                }
                true
            }
            Err(error) => {
                let check = match error.code() {
                    code if code.starts_with("MODULE-") => "module",
                    code if code.starts_with("TOKEN-") => "token",
                    _ => "key store",
                };
                self.add(check, Err(error.into()));
                false
            }
        };
        if !usable {
            return;
        }
        let store = match open(uri, prompt) {
            Ok(store) => store,
            Err(error) => return self.add("key store", Err(error.into())),
        };
        let facts = store.facts();
        let described = [
            &facts.label,
            &facts.manufacturer,
            &facts.model,
            &facts.serial,
            &facts.library,
        ];
        let described: Vec<_> = described
            .into_iter()
            .filter(|fact| !fact.is_empty())
            .collect();
        let described: Vec<&str> = described.into_iter().map(String::as_str).collect();
        self.good(
            "key store",
            format!("{}: {}", facts.kind, described.join(", ")),
        );
        self.memory();
        match store.self_test() {
            Err(error) => self.add("self test", Err(error.into())),
            Ok(probes) => probes.into_iter().for_each(|probe| self.probe(probe)),
        }
        match store.labels() {
            Err(error) => self.add("keys", Err(error.into())),
            Ok(keys) => self.keys(&keys),
        }
        self.store = Some(store);
    }

    fn add(&mut self, check: impl Into<String>, outcome: Result<String, Trouble>) {
        let check = check.into();
        self.findings.push(Finding { check, outcome });
    }

    fn good(&mut self, check: &str, found: impl Into<String>) {
        self.add(check, Ok(found.into()));
    }

    /// Whether somebody else could put another library in the module's place.
    fn module(&mut self, path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = std::fs::metadata(path) else {
            return;
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let shown = path.display();
        let outcome = match mode & 0o002 {
            0 => Ok(shown.to_string()),
            _ => Err(Trouble::new(
                "MODULE-EXPOSED",
                format!("every user of this machine can write to {shown} (mode {mode:04o})"),
                format!("install it anew from where it came, and run `chmod o-w {shown}`"),
            )
            .works()),
        };
        self.add("module", outcome);
    }

    /// What the token says without a PIN. Whether the PIN may be tried.
    fn token(&mut self, token: &TokenHealth) -> bool {
        let facts = &token.facts;
        let named = format!(
            "{:?}, serial {}, slot {}, firmware {}, {} mechanisms",
            facts.label,
            facts.serial.escape_debug(),
            token.slot,
            facts.firmware,
            facts.mechanisms.len()
        );
        let broken = Trouble::new(
            "TOKEN-FAILED",
            "the token failed its own test and is out of use (CKF_ERROR_STATE)",
            "reset or restart it; if it fails again, stop using it and have it replaced",
        );
        let store = || format!("the token {:?}", facts.label);
        let outcome = match (token.error_state, token.write_protected) {
            (true, _) => Err(broken),
            (false, true) => Err(Trouble::from(Error::TokenWriteProtected {
                store: store(),
                action: "let anything be changed in it",
            })
            .works()),
            (false, false) => Ok(named),
        };
        self.add("token", outcome);
        let (pin, usable) = pin(token, store());
        self.add("pin", pin);
        let sessions = match token.sessions_free {
            Some(0) => Err(Error::TokenSessions { store: store() }.into()),
            Some(free) => Ok(format!("{free} are free, as the token says")),
            None => Ok("the token names no limit".to_owned()),
        };
        self.add("session limit", sessions);
        match token.private_memory_free {
            Some(0) => {
                let action = "keep another object";
                let full = Error::TokenFull {
                    store: store(),
                    action,
                };
                self.add("token memory", Err(full.into()));
            }
            Some(free) => self.good("token memory", format!("{free} bytes are free")),
            None => {}
        }
        usable && !token.error_state
    }

    /// Whether secrets of this process stay out of the swap space.
    fn memory(&mut self) {
        let outcome = match LockedSecret::copied(&[0; 32]).is_locked() {
            true => Ok("secrets are kept out of the swap space (mlock)".to_owned()),
            false => Err(Trouble::new(
                "MEMORY-UNLOCKED",
                "the system locks no memory for this process: a secret may get into the swap space",
                "raise the limit (`ulimit -l`, in a unit of systemd: LimitMEMLOCK=), or encrypt the swap space",
            )
            .works()),
        };
        self.add("memory lock", outcome);
    }

    fn probe(&mut self, probe: Probe) {
        let outcome = probe.outcome.map_err(|message| {
            let (code, hint) = probe.advice.unwrap_or(("TOKEN-UNFIT", None));
            let class = Class::Environment;
            Trouble {
                code,
                class,
                message,
                hint: hint.or(Some("use another store".into())),
                works: false,
            }
        });
        self.add(probe.name, outcome);
    }

    /// The keys that are there, whoever made them.
    fn keys(&mut self, keys: &[KeyDescription]) {
        if keys.is_empty() {
            self.good("keys", "there is none yet");
        }
        for key in keys {
            let what = match (key.kind, key.purpose) {
                (KeyKind::Pair, Some(purpose)) => format!("P-256, to {purpose}"),
                (KeyKind::Pair, None) => "a key pair".to_owned(),
                (KeyKind::Transport, _) => "RSA, to unwrap".to_owned(),
                (KeyKind::Secret(Some(algorithm)), _) => algorithm.to_string(),
                (KeyKind::Secret(None), _) => "a symmetric key".to_owned(),
            };
            let outcome = match &key.problem {
                None => Ok(format!("{what}, with the attributes that it must have")),
                Some(problem) => Err(Trouble::new(
                    "KEY-ATTRIBUTES",
                    format!("{what} that would be refused: {problem}"),
                    "if it is one of this product's, find out who made it, and use a store with a proper key; a key of others \
                     can stay",
                )
                .works()),
            };
            self.add(format!("key {}", key.label), outcome);
        }
    }
}

/// How the PIN stands, and whether it may be tried.
fn pin(token: &TokenHealth, store: String) -> (Result<String, Trouble>, bool) {
    if token.pin_locked {
        return (Err(Error::PinLocked { store }.into()), false);
    }
    if !token.pin_initialised {
        return (Err(Error::PinNotInitialised { store }.into()), false);
    }
    if token.pin_to_be_changed {
        return (
            Err(Trouble::from(Error::PinExpired { store }).works()),
            true,
        );
    }
    if token.pin_final_try {
        let trouble = Trouble::new(
            "PIN-LAST-TRY",
            format!(
                "one try is left for the PIN of {store}, and this does not spend it: another wrong PIN locks the token"
            ),
            "make sure of the PIN, then log in once with the token's own tool (pkcs11-tool --login --list-objects), which \
             gives all tries back",
        );
        return (Err(trouble), false);
    }
    if token.pin_count_low {
        let trouble = Trouble::new(
            "PIN-TRIES-LOW",
            format!("a wrong PIN of {store} was tried since the last right one"),
            "find out who tried it; the right PIN gives all tries back",
        );
        return (Err(trouble.works()), true);
    }
    let found = "set, not locked, and the token tells of no wrong try (some never do)";
    (Ok(found.to_owned()), true)
}
