//! Sticks on their way, and what is made of them where they arrive.

use mintmark_protocol::media::MediaName;

use super::super::SITES;
use super::super::fraud::Held;
use super::super::headquarters::{Files, Item};
use super::{DAY, HOUR, MINUTE, Stick, To, World};

impl World {
    /// A vault writes a stick for headquarters.
    pub(super) fn report(&mut self, vault: usize) {
        let files = self.vaults[vault].export(self.now);
        self.launch(To::Headquarters, files, SITES[vault]);
    }

    /// Headquarters writes a stick for each vault.
    pub(super) fn send_from_headquarters(&mut self) {
        let files = self.hq.export();
        for (vault, site) in SITES.iter().enumerate() {
            if self.random.chance(75) {
                let ours = format!("to-{site}_v1/");
                let ours = |path: &String| path.starts_with(&ours) || path.starts_with("trust-");
                let files = files.iter().filter(|(path, _)| ours(path));
                let files = files.map(|(path, bytes)| (path.clone(), bytes.clone()));
                self.launch(To::Vault(vault), files.collect(), "headquarters");
            }
        }
    }

    /// A stick goes out: it may be lost, go twice, be late, hold old files beside the new ones, or be damaged.
    pub(super) fn launch(&mut self, to: To, mut files: Files, from: &str) {
        if files.is_empty() {
            return;
        }
        self.sent += 1;
        self.count("sticks sent");
        let number = self.sent;
        self.drawer.push((to, files.clone()));
        if self.random.chance(15) {
            self.count("sticks lost");
            self.note(format_args!("stick {number} from {from} to {to} is lost"));
            return;
        }
        if self.random.chance(15)
            && let Some(old) = self.old_stick(Some(to))
        {
            // What is on it already is replaced by what is written now.
            let fresh = std::mem::replace(&mut files, self.drawer[old].1.clone());
            files.extend(fresh);
        }
        let damaged = self.random.chance(8);
        if damaged {
            self.count("sticks damaged");
            self.damage(&mut files);
        }
        let times = if self.random.chance(12) { 2 } else { 1 };
        if times == 2 {
            self.count("sticks doubled");
        }
        for _ in 0..times {
            let takes = match self.random.below(10) {
                0..5 => self.random.between(MINUTE, 6 * HOUR),
                5..9 => self.random.between(6 * HOUR, 3 * DAY),
                _ => self.random.between(3 * DAY, 9 * DAY),
            };
            let due = self.now + takes;
            self.note(format_args!(
                "stick {number} from {from} to {to} with {} files, damaged: {damaged}, takes {} hours",
                files.len(),
                takes / HOUR
            ));
            self.sticks.push(Stick {
                number,
                due,
                to,
                files: files.clone(),
                damaged,
            });
        }
    }

    /// A file is cut short, or gone, or a bit of it is turned.
    pub(super) fn damage(&mut self, files: &mut Files) {
        let paths: Vec<String> = files.keys().cloned().collect();
        let Some(path) = self.random.pick(&paths) else {
            return;
        };
        let how = self.random.below(3);
        // What is encrypted has no length that the seed tells: a place in it is told as a part of it, and only at its ends is it
        // sure what stands there.
        let part = self.random.below(1000) as usize;
        let Some(bytes) = files.get_mut(path) else {
            return;
        };
        let last = bytes.len() - 1;
        match how {
            0 => bytes.truncate(bytes.len() * part / 1000),
            1 => bytes[if part < 500 { 0 } else { last }] ^= 1,
            _ => drop(files.remove(path)),
        }
    }

    /// A stick that was written before.
    pub(super) fn old_stick(&mut self, to: Option<To>) -> Option<usize> {
        let of = |(_, (other, _)): &(usize, &(To, Files))| to.is_none_or(|to| to == *other);
        let old = self.drawer.iter().enumerate().filter(of);
        let old: Vec<usize> = old.map(|(at, _)| at).collect();
        self.random.pick(&old).copied()
    }

    /// Somebody finds an old stick and plugs it in.
    pub(super) fn find_stick(&mut self) {
        if let Some(old) = self.old_stick(None) {
            let (to, files) = self.drawer[old].clone();
            self.count("old sticks found");
            self.note(format_args!("stick {} to {to} is found again", old + 1));
            self.arrive(to, &files, false);
        }
    }

    pub(super) fn deliver_due(&mut self) {
        let now = self.now;
        let (mut due, later): (Vec<Stick>, Vec<Stick>) = std::mem::take(&mut self.sticks)
            .into_iter()
            .partition(|stick| stick.due <= now);
        self.sticks = later;
        due.sort_by_key(|stick| (stick.due, stick.number));
        for stick in due {
            self.note(format_args!(
                "stick {} arrives at {}",
                stick.number, stick.to
            ));
            self.arrive(stick.to, &stick.files, stick.damaged);
        }
    }

    pub(super) fn arrive(&mut self, to: To, files: &Files, damaged: bool) {
        match to {
            To::Vault(vault) => {
                for said in self.vaults[vault].import(self.now, files) {
                    let site = SITES[vault];
                    self.note(format_args!("  {site}: {said}"));
                    assert!(
                        damaged || !self.is_honest(vault) || !said.contains("refused"),
                        "{site}: {said}"
                    );
                }
            }
            To::Headquarters => {
                let (exit, items) = self.hq.import(files);
                for item in &items {
                    self.judge(item, files, damaged);
                }
                assert!(exit != 5 && exit != 2, "headquarters: exit {exit}");
            }
        }
    }

    /// What headquarters made of a file.
    pub(super) fn judge(&mut self, item: &Item, files: &Files, damaged: bool) {
        let Item {
            file,
            outcome,
            code,
        } = item;
        let name = MediaName::parse(file).unwrap();
        let (vault, what) = match &name {
            MediaName::Bundle {
                vault,
                sequence,
                lineage,
            } => {
                let short = lineage.to_string();
                (vault, format!("bundle {sequence} of {}", &short[..4]))
            }
            MediaName::Restore { vault } => (vault, "restore".to_owned()),
            MediaName::Enrolment { vault } => (vault, "enrolment".to_owned()),
            other => panic!("headquarters took in {other}"),
        };
        let at = SITES.iter().position(|site| *site == vault.site.as_str());
        let at = at.unwrap();
        let code = code.as_deref().unwrap_or_default();
        self.note(format_args!(
            "  headquarters: {what} of {} {outcome} {code}",
            SITES[at]
        ));
        let bundle = match &name {
            MediaName::Bundle { .. } => self.vaults[at].sealed(&files[file]),
            _ => None,
        };
        if let Some(bundle) = &bundle
            && outcome == "imported"
        {
            let content = bundle.content();
            self.held[at] = Some(Held {
                sequence: content.sequence,
                fingerprint: bundle.fingerprint(),
                log_size: content.checkpoint.size,
            });
        }
        if !self.is_honest(at) {
            return;
        }
        if code == "BUNDLE-FORK"
            && bundle.is_some_and(|bundle| self.vaults[at].lost.contains(&bundle.fingerprint()))
        {
            self.count("lost histories turned up");
            self.turned_up.insert(at);
            return;
        }
        let fits = match outcome.as_str() {
            "imported" => code.is_empty() || code == "FINDINGS",
            "already" => true,
            "held" => damaged || code == "BUNDLE-GAP",
            _ => damaged || matches!(code, "LINEAGE-OVER" | "RESTORE-OVER"),
        };
        assert!(
            fits,
            "headquarters: {what} of {} {outcome} {code}",
            SITES[at]
        );
    }
}
