//! Scenes that runs came upon, each by itself.

use super::headquarters::{BEGINNING, Headquarters};
use super::random::Random;
use super::software::csr;
use super::vault::{Answer, Backup, Until, Vault};
use crate::clock::virtual_time;

/// Headquarters, and a vault that it has let in.
struct Scene {
    hq: Headquarters,
    vault: Vault,
    now: u64,
    asked: u64,
}

impl Scene {
    fn new() -> Self {
        virtual_time::set(BEGINNING);
        let hq = Headquarters::new();
        let mut scene = Self {
            vault: Vault::new("berlin", &hq),
            hq,
            now: BEGINNING,
            asked: 0,
        };
        scene.send();
        scene
    }

    /// What headquarters owes arrives at the vault.
    fn send(&mut self) -> Vec<String> {
        self.now += 3600;
        virtual_time::set(self.now);
        self.vault.import(self.now, &self.hq.export())
    }

    /// What the vault owes arrives at headquarters: what became of each file.
    fn report(&mut self) -> Vec<(String, Option<String>)> {
        self.now += 3600;
        virtual_time::set(self.now);
        let (_, items) = self.hq.import(&self.vault.export(self.now));
        items
            .into_iter()
            .map(|item| (item.outcome, item.code))
            .collect()
    }

    /// A new device is made.
    fn issue(&mut self) {
        self.asked += 1;
        let request = csr(&format!("D{}", self.asked), self.asked);
        let answer = self
            .vault
            .request(self.now, "TH-200", &request, Until::Done);
        assert_eq!(answer, Answer::Issued);
    }

    fn restore(&mut self, backup: &Backup) {
        self.now += 3600;
        self.vault
            .restore(self.now, backup, &mut Random::new(self.now));
    }

    fn codes(&self) -> Vec<String> {
        let report = self.hq.reconcile().json;
        let findings = report["findings"].as_array().unwrap().iter();
        let codes = findings.map(|finding| finding["code"].as_str().unwrap().to_owned());
        codes.collect()
    }
}

#[test]
fn a_home_that_is_put_back_twice_before_anything_of_it_was_reported_goes_on() {
    let mut scene = Scene::new();
    scene.issue();
    let backup = scene.vault.backup();
    for _ in 0..2 {
        scene.issue();
        scene.restore(&backup);
        let imported = [("imported".to_owned(), Some("FINDINGS".to_owned()))];
        assert_eq!(scene.report(), imported, "{:?}", scene.codes());
        let said = scene.send();
        assert!(
            said.contains(&"a tail of 0 records imported".to_owned()),
            "{said:?}"
        );
        scene.issue();
    }
    assert_eq!(scene.report(), [("imported".to_owned(), None)]);
    scene.send();
    scene.issue();
    // What may have been spent in the histories that were lost is skipped, and nothing else is found.
    let codes = scene.codes();
    assert!(
        codes
            .iter()
            .all(|code| code == "RESTORE-DECLARED" || code == "UNRESOLVED"),
        "{codes:?}"
    );
}

#[test]
fn a_history_that_was_given_up_does_not_come_back_over_the_one_that_is_held() {
    let mut scene = Scene::new();
    scene.issue();
    let early = scene.vault.backup();
    for _ in 0..4 {
        scene.issue();
    }
    // More records than headquarters will hold, and of a lineage that it will have seen the end of.
    let late = scene.vault.backup();
    scene.restore(&early);
    scene.report();
    scene.send();
    assert_eq!(scene.report(), [("imported".to_owned(), None)]);
    assert!(late.size > scene.vault.state().size());
    scene.restore(&late);
    let refused = [("refused".to_owned(), Some("RESTORE-FORK".to_owned()))];
    assert_eq!(scene.report(), refused);
    assert!(scene.codes().contains(&"FORK".to_owned()));
    // The vault is not lost for that: a copy from before it was given up is as good as ever.
    scene.restore(&early);
    let imported = [("imported".to_owned(), Some("FINDINGS".to_owned()))];
    assert_eq!(scene.report(), imported);
    scene.send();
    scene.issue();
}
