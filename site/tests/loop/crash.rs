//! The vault is killed before each system call that makes something durable or visible, with a real token. Whatever was
//! cut off, the next run gives every device its certificate, the same as may have left already, and no slot twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use mintmark_protocol::media::MediaName;
use mintmark_protocol::revocation::Target;
use serde_json::json;

use crate::keys::{HMAC, expected, opened, with_key};
use crate::support::hq::{Way, put};
use crate::support::vault::SOFTHSM;
use crate::support::{Hq, Run, Vault, now};

const DEVICES: u8 = 5;

/// A vault with a token, an entitlement of one unit for each device, and their requests.
fn vault() -> Vault {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol(&mut hq, u64::from(DEVICES));
    for number in 0..DEVICES {
        vault.request(&format!("{number}.csr"), &format!("A{number}"), 20 + number);
    }
    vault
}

/// Runs a command and kills it at the entry of the `count`th call of `syscall`. False if it ended before.
fn killed(site: Command, syscall: &str, count: u32) -> bool {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={syscall}:signal=KILL:when={count}"))
        .arg(site.get_program())
        .args(site.get_args());
    for (name, value) in site.get_envs() {
        strace.env(name, value.unwrap());
    }
    let run = strace.stdin(Stdio::null()).output().unwrap();
    match run.status.code() {
        Some(0) => false,
        Some(code) => panic!("{code}: {:?}", Run::of(run)),
        // strace ends as the process that it traced did.
        None => true,
    }
}

/// The system calls that make something durable or visible.
const SYSCALLS: [&str; 4] = ["fdatasync", "fsync", "renameat2", "rename"];

/// Kills a command at each of those calls, each time in a new copy of the vault, and has `check` look at that.
fn kill_everywhere(
    kills_min: u32,
    vault: &Vault,
    arguments: impl Fn(&Vault) -> Vec<String>,
    check: impl Fn(&Vault, &str),
) {
    let mut kills = 0;
    for syscall in SYSCALLS {
        for count in 1.. {
            let copy = vault.fork();
            let arguments = arguments(&copy);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if !killed(copy.command(&arguments), syscall, count) {
                break;
            }
            kills += 1;
            check(&copy, &format!("killed at {syscall} {count}"));
        }
    }
    assert!(kills >= kills_min, "only {kills} kills");
}

/// Runs a command with a token that makes so many signatures and no more.
fn on_failing_token(vault: &Vault, module: &Path, signatures: u32, arguments: &[&str]) -> Run {
    let config = vault.home().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(SOFTHSM, module.to_str().unwrap())).unwrap();
    let mut site = vault.command(arguments);
    site.env("FAULTY_TARGET", SOFTHSM)
        .env("FAULTY_SIGNATURES", signatures.to_string());
    let run = Run::of(site.output().unwrap());
    std::fs::write(&config, text).unwrap();
    run
}

/// Runs `site recover` where no file grows beyond what the log holds now.
fn recover_on_full_disk(vault: &Vault) -> Run {
    let log = vault.home().join("log/0000000000000000.log");
    let bytes = std::fs::metadata(log).unwrap().len();
    let site = vault.command(&["recover"]);
    let mut shell = Command::new("sh");
    let limited = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$@\"");
    shell.args(["-c", &limited, "sh"]);
    shell.arg(site.get_program()).args(site.get_args());
    for (name, value) in site.get_envs() {
        shell.env(name, value.unwrap());
    }
    Run::of(shell.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_token_that_fails_amid_issuing_leaves_reservations_that_recovery_completes() {
    let vault = vault();
    let module = vault.path("faulty.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-o"])
        .arg(&module)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loop/faulty.c"))
        .arg("-ldl")
        .status();
    assert!(compiled.unwrap().success());
    let (mut before, mut amid, mut partly) = (0, 0, 0);
    for signatures in 0.. {
        let copy = vault.fork();
        let issue = copy.issue_arguments();
        let issue: Vec<&str> = issue.iter().map(String::as_str).collect();
        let run = on_failing_token(&copy, &module, signatures, &issue);
        let account = copy.status()["accounts"][0].clone();
        let open = account["unresolved"].as_u64().unwrap();
        match run.code {
            Some(0) => break,
            // The keys prove themselves when they are opened: nothing was reserved yet.
            Some(3) => {
                assert_eq!(account["unspent"], json!(DEVICES), "{run:?}");
                before += 1;
                continue;
            }
            Some(5) => amid += 1,
            _ => panic!("{run:?}"),
        }
        assert!(open > 0, "{run:?}");
        assert!(run.err.contains("site recover"), "{run:?}");
        let given = copy.certificates();
        assert_eq!(run.lines().len(), given.len(), "{run:?}");
        assert_eq!(given.len() as u64 + open, u64::from(DEVICES), "{run:?}");
        partly += u32::from(!given.is_empty());
        for _ in 0..2 {
            let planned = copy.run(&["recover", "--dry-run"]).expect(0).json();
            assert_eq!(planned["open"].as_array().unwrap().len() as u64, open);
            assert_eq!(
                (&planned["completed"], &planned["unresolved"]),
                (&json!(0), &json!(open))
            );
            assert!(planned["open"][0]["serial"].is_string(), "{planned}");
        }
        for (recover, code) in [
            (recover_on_full_disk(&copy), "DISK-FULL"),
            (on_failing_token(&copy, &module, 0, &issue), "TOKEN-GONE"),
            (
                on_failing_token(&copy, &module, 0, &["recover"]),
                "TOKEN-GONE",
            ),
        ] {
            assert_eq!(recover.code, Some(5), "{recover:?}");
            assert_eq!(recover.errors(), [code], "{recover:?}");
            let units = if open == 1 { "unit is" } else { "units are" };
            let says = format!("{open} {units} reserved and not signed for");
            assert!(recover.err.contains(&says), "{recover:?}");
            assert!(!recover.err.contains("othing was changed"), "{recover:?}");
        }
        let recovered = copy.run(&["recover"]).expect(0).json();
        assert_eq!(
            (&recovered["completed"], &recovered["unresolved"]),
            (&json!(open), &json!(0))
        );
        let rows = copy.issue().expect(0).lines();
        assert!(
            rows.iter().all(|row| row["outcome"] == "existing"),
            "{rows:?}"
        );
        assert_eq!(rows.len(), usize::from(DEVICES));
        assert!(
            given
                .iter()
                .all(|given| copy.certificates().contains(given))
        );
    }
    assert!(
        before > 0 && amid > 0 && partly > 0,
        "{before} before, {amid} amid, {partly} partly"
    );
}

fn media(verb: &'static str) -> impl Fn(&Vault) -> Vec<String> {
    move |vault| {
        ["media", verb, vault.stick().to_str().unwrap()]
            .map(str::to_owned)
            .to_vec()
    }
}

#[test]
fn issuing_that_was_killed_gives_the_same_certificates_and_no_slot_twice() {
    kill_everywhere(8, &vault(), Vault::issue_arguments, |vault, at| {
        let left_already = vault.certificates();
        let run = vault.issue().expect(0);
        let rows = run.lines();
        assert_eq!(rows.len(), usize::from(DEVICES), "{at}: {run:?}");
        let slots: BTreeSet<u64> = rows
            .iter()
            .map(|row| row["slot"].as_u64().unwrap())
            .collect();
        assert_eq!(slots.len(), usize::from(DEVICES), "{at}: {run:?}");
        let certificates = vault.certificates();
        assert_eq!(certificates.len(), usize::from(DEVICES), "{at}");
        for certificate in left_already {
            assert!(
                certificates.contains(&certificate),
                "{at}: another certificate"
            );
        }
        let account = vault.status()["accounts"][0].clone();
        assert_eq!(account["good"], json!(DEVICES), "{at}");
        assert_eq!(
            (&account["unresolved"], &account["unspent"]),
            (&json!(0), &json!(0)),
            "{at}"
        );
        vault.run(&["audit", "verify"]).expect(0);
    });
}

#[test]
fn an_import_that_was_killed_is_finished_by_the_next_one() {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    let init = vault.init(&hq).expect(0).json();
    vault.export().expect(0);
    let second = hq.manifest(2, Some(hq.manifests[0].2), now() + 7200);
    hq.publish(second);
    hq.carry_trust(&vault.stick());
    let fingerprint = init["enrolment_fingerprint"].as_str().unwrap();
    let (name, grant) = hq.grant(&vault.stick(), &vault.name, fingerprint);
    put(&vault.stick(), &name, &grant);
    kill_everywhere(6, &vault, media("import"), |vault, at| {
        for (outcome, code) in vault.import().expect(0).outcomes() {
            assert!(
                matches!(outcome.as_str(), "imported" | "already"),
                "{at}: {outcome} {code:?}"
            );
        }
        let status = vault.status();
        let (enrolled, trust_version) = (&status["enrolled"], &status["trust_version"]);
        assert_eq!((enrolled, trust_version), (&json!(true), &json!(2)), "{at}");
        assert_eq!(
            status["dispatch"],
            json!({"epoch": 1, "sequence": 1}),
            "{at}"
        );
        vault.run(&["audit", "verify"]).expect(0);
    });
}

#[test]
fn a_key_that_was_being_taken_in_is_in_the_token_once_and_the_log_says_so() {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let mut terms = hq.terms("th200", 2, 1);
    with_key(Way::Token)(&hq, &mut terms);
    let (name, entitlement) = hq.mint(&terms, 2);
    put(&vault.stick(), &name, &entitlement);
    vault.request("0.csr", "A0", 20);
    kill_everywhere(5, &vault, media("import"), |vault, at| {
        vault.import().expect(0);
        let status = vault.status();
        let key = &status["keys"][0];
        assert_eq!(
            (&key["state"], &key["received"]),
            (&json!("held"), &json!("unwrapped")),
            "{at}"
        );
        let listed = vault.pkcs11(&["--list-objects", "--type", "secrkey"]);
        assert_eq!(listed.matches("key-service").count(), 1, "{at}: {listed}");
        let row = vault.issue().expect(0).lines()[0].clone();
        let file = row["secrets"][0]["file"].as_str().unwrap();
        assert_eq!(*opened(&hq, file, 20).secret, expected("A0", HMAC), "{at}");
        vault.run(&["audit", "verify"]).expect(0);
    });
}

#[test]
fn a_key_that_was_being_destroyed_or_refused_is_not_in_the_token_afterwards() {
    let mut revoked = (Vault::with_softhsm(), Hq::new(1));
    revoked
        .0
        .enrol_with(&mut revoked.1, 1, with_key(Way::Token));
    let end = revoked
        .1
        .revoke(Target::Entitlement("th200".parse().unwrap()));
    let mut wrong = (Vault::with_softhsm(), Hq::new(1));
    wrong.0.enrol(&mut wrong.1, 1);
    let mut terms = wrong.1.terms("th200", 2, 1);
    with_key(Way::Token)(&wrong.1, &mut terms);
    terms.keys[0].check_value[0] ^= 1;
    let entitlement = wrong.1.mint(&terms, 2);
    for ((vault, _), (name, bytes), state) in
        [(revoked, end, "over"), (wrong, entitlement, "refused")]
    {
        put(&vault.stick(), &name, &bytes);
        kill_everywhere(5, &vault, media("import"), |vault, at| {
            vault.import().expect(0);
            assert_eq!(vault.status()["keys"][0]["state"], json!(state), "{at}");
            let listed = vault.pkcs11(&["--list-objects", "--type", "secrkey"]);
            assert!(!listed.contains("key-service"), "{at}: {listed}");
            vault.run(&["audit", "verify"]).expect(0);
        });
    }
}

#[test]
fn issuing_with_secrets_that_was_killed_gives_every_device_its_secret_and_counts_each_use_once() {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol_with(&mut hq, u64::from(DEVICES), |hq, terms| {
        with_key(Way::Token)(hq, terms);
        terms.keys[0].uses_max = Some(u64::from(DEVICES));
    });
    for number in 0..DEVICES {
        vault.request(&format!("{number}.csr"), &format!("A{number}"), 20 + number);
    }
    kill_everywhere(8, &vault, Vault::issue_arguments, |vault, at| {
        let rows = vault.issue().expect(0).lines();
        assert_eq!(rows.len(), usize::from(DEVICES), "{at}");
        for (number, row) in (0..DEVICES).zip(&rows) {
            let file = row["secrets"][0]["file"].as_str().unwrap();
            let secret = opened(&hq, file, 20 + number);
            assert_eq!(
                *secret.secret,
                expected(&format!("A{number}"), HMAC),
                "{at}"
            );
        }
        assert_eq!(vault.status()["keys"][0]["uses"], json!(DEVICES), "{at}");
        let parts = std::fs::read_dir(vault.path("out")).unwrap();
        let names = parts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(
            !names.into_iter().any(|name| name.ends_with(".part")),
            "{at}"
        );
    });
}

#[test]
fn a_rotation_that_was_killed_gives_one_request() {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    let rotate = |_: &Vault| vec!["rotate".to_owned()];
    kill_everywhere(4, &vault, rotate, |vault, at| {
        let kept = std::fs::read(vault.home().join("enrol-2.cose")).ok();
        let asked = vault.run(&["rotate"]).expect(0).json();
        let request = std::fs::read(vault.home().join("enrol-2.cose")).unwrap();
        assert!(
            kept.is_none_or(|kept| kept == request),
            "{at}: another request"
        );
        assert_eq!(asked["generation"], json!(2), "{at}");
        let rotation = &vault.status()["rotation"];
        assert_eq!(
            rotation["enrolment_fingerprint"], asked["enrolment_fingerprint"],
            "{at}"
        );
        vault.export().expect(0);
        let listed = vault.pkcs11(&["--list-objects", "--type", "privkey"]);
        assert_eq!(listed.matches("device-ca-2").count(), 1, "{at}: {listed}");
        vault.run(&["audit", "verify"]).expect(0);
    });
}

#[test]
fn an_export_that_was_killed_is_finished_by_the_next_one_and_hq_can_read_it() {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol(&mut hq, 1);
    kill_everywhere(6, &vault, media("export"), |vault, at| {
        let items = vault.export().expect(0).json()["items"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(items.len(), 2, "{at}: {items:?}");
        let name = MediaName::parse(items[1]["file"].as_str().unwrap()).unwrap();
        let (bundle, records) = hq.receive(&vault.stick(), &name);
        assert_eq!(bundle.content().sequence, 1, "{at}");
        assert_eq!(
            bundle.content().checkpoint.size,
            records.len() as u64,
            "{at}"
        );
        vault.run(&["audit", "verify"]).expect(0);
        // Nothing that nobody knows of stays in the outbox.
        let kept = std::fs::read_dir(vault.home().join("outbox"))
            .unwrap()
            .count();
        assert_eq!(kept, 2, "{at}");
    });
}

#[test]
fn an_init_that_was_killed_leaves_no_home_or_a_whole_one() {
    let (vault, hq) = (Vault::with_softhsm(), Hq::new(1));
    let (_, trust, fingerprint) = &hq.manifests[0];
    std::fs::write(vault.path("trust.cose"), trust).unwrap();
    let arguments = |vault: &Vault| vault.init_arguments(&fingerprint.to_string());
    kill_everywhere(6, &vault, arguments, |vault, at| {
        if vault.home().exists() {
            assert_eq!(vault.status()["enrolled"], json!(false), "{at}");
        } else {
            vault.init(&hq).expect(0);
        }
        vault.export().expect(0);
    });
}

#[test]
fn a_token_that_is_gone_spends_nothing_and_one_that_was_exchanged_is_noticed() {
    let vault = vault();
    let tokens = vault.path("tokens");
    std::fs::rename(&tokens, vault.path("away")).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    // The token is told of for what it is; everything else stays.
    let status = || {
        let mut status = vault.status();
        for of_token in ["hsm", "next", "next_steps"] {
            status.as_object_mut().unwrap().remove(of_token).unwrap();
        }
        status
    };
    let before = status();
    assert_eq!(vault.status()["hsm"]["code"], "TOKEN-MISSING");
    assert_eq!(vault.issue().expect(3).errors(), ["TOKEN-MISSING"]);
    assert_eq!(
        vault.run(&["recover"]).expect(3).errors(),
        ["TOKEN-MISSING"]
    );
    assert_eq!(status(), before);
    assert_eq!(
        vault.run(&["doctor"]).expect(3).json()["schema"],
        json!("mintmark/doctor/1")
    );

    let other = Vault::with_softhsm();
    other.init(&Hq::new(1)).expect(0);
    std::fs::remove_dir(&tokens).unwrap();
    std::fs::rename(other.path("tokens"), &tokens).unwrap();
    assert_eq!(vault.issue().expect(4).errors(), ["VAULT-KEY-CHANGED"]);
    assert_eq!(status(), before);

    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::rename(vault.path("away"), &tokens).unwrap();
    vault.issue().expect(0);
}
