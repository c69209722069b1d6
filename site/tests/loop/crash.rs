//! The vault is killed before each system call that makes something durable or visible, with a real token. Whatever was
//! cut off, the next run gives every device its certificate, the same as may have left already, and no slot twice.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;

use crate::support::{Hq, Run, Vault};

const DEVICES: u8 = 3;

/// A vault with a token, an entitlement of one unit for each device, and their requests.
fn vault() -> Vault {
    let (vault, mut hq) = (Vault::with_softhsm(), Hq::new(1));
    vault.enrol(&mut hq, u64::from(DEVICES));
    for number in 0..DEVICES {
        vault.request(&format!("{number}.csr"), &format!("A{number}"), 20 + number);
    }
    vault
}

/// Runs `site issue` and kills it at the entry of the `count`th call of `syscall`. None if it did not get there.
fn killed_issue(vault: &Vault, syscall: &str, count: u32) -> Option<()> {
    let arguments = vault.issue_arguments();
    let site = vault.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={syscall}:signal=KILL:when={count}"))
        .arg(site.get_program())
        .args(site.get_args());
    for (name, value) in site.get_envs() {
        strace.env(name, value.unwrap());
    }
    let run = strace.output().unwrap();
    match run.status.code() {
        Some(0) => None,
        Some(code) => panic!("{code}: {:?}", Run::of(run)),
        // strace ends as the process that it traced did.
        None => Some(()),
    }
}

#[test]
fn killed_at_any_durable_step_the_next_run_gives_the_same_certificates_and_no_slot_twice() {
    for syscall in ["fdatasync", "fsync", "renameat2"] {
        let mut kills = 0;
        for count in 1.. {
            // One vault for each kill, so that each starts from the same place.
            let vault = vault();
            if killed_issue(&vault, syscall, count).is_none() {
                break;
            }
            kills += 1;
            let left_already = vault.certificates();
            let run = vault.issue().expect(0);
            let rows = run.lines();
            assert_eq!(
                rows.len(),
                usize::from(DEVICES),
                "{syscall} {count}: {run:?}"
            );
            let slots: BTreeSet<u64> = rows
                .iter()
                .map(|row| row["slot"].as_u64().unwrap())
                .collect();
            assert_eq!(
                slots.len(),
                usize::from(DEVICES),
                "{syscall} {count}: {run:?}"
            );
            let certificates = vault.certificates();
            assert_eq!(certificates.len(), usize::from(DEVICES));
            for certificate in left_already {
                assert!(
                    certificates.contains(&certificate),
                    "{syscall} {count}: another certificate"
                );
            }
            let account = vault.status()["accounts"][0].clone();
            assert_eq!(account["good"], json!(DEVICES), "{syscall} {count}");
            assert_eq!(
                (&account["unresolved"], &account["unspent"]),
                (&json!(0), &json!(0))
            );
            vault.run(&["audit", "verify"]).expect(0);
        }
        assert!(kills >= 2, "{syscall} was reached {kills} times");
    }
}

#[test]
fn a_token_that_is_gone_spends_nothing_and_one_that_was_exchanged_is_noticed() {
    let vault = vault();
    let tokens = vault.path("tokens");
    std::fs::rename(&tokens, vault.path("away")).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    let before = vault.status();
    assert_eq!(vault.issue().expect(3).errors(), ["TOKEN-MISSING"]);
    assert_eq!(
        vault.run(&["recover"]).expect(0).json()["completed"],
        json!(0)
    );
    assert_eq!(vault.status(), before);
    assert_eq!(
        vault.run(&["doctor"]).expect(3).json()["schema"],
        json!("mintmark/doctor/1")
    );

    let other = Vault::with_softhsm();
    other.init(&Hq::new(1)).expect(0);
    std::fs::remove_dir(&tokens).unwrap();
    std::fs::rename(other.path("tokens"), &tokens).unwrap();
    assert_eq!(vault.issue().expect(4).errors(), ["VAULT-KEY-CHANGED"]);
    assert_eq!(vault.status(), before);

    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::rename(vault.path("away"), &tokens).unwrap();
    vault.issue().expect(0);
}
