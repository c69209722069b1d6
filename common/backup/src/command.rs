//! What `backup` and `restore` are told, and what they say, at headquarters as at a site.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mintmark_console::home::expect_free;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, Stop, files, say};
use mintmark_protocol::backup::Backup;
use mintmark_protocol::envelope::{Party, Sign};
use mintmark_protocol::identifier::{Fingerprint, KeyId};
use mintmark_protocol::key::thumbprint;
use serde_json::{Value, json};

use crate::file::expect_absent;
use crate::{
    Error, Item, Opened, Placing, RecoveryKey, RecoveryPublicKey, Sheet, Signed, Subject, Watch,
    seal, words,
};

/// What `backup` is told.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArguments {
    /// Something else than making one.
    #[command(subcommand)]
    pub verb: Option<BackupVerb>,
    /// The public half of the recovery key, as `backup key` wrote it
    #[arg(long, value_name = "FILE", required = true)]
    pub recovery_key: Option<PathBuf>,
    /// The file that is written
    #[arg(long, value_name = "FILE", required = true)]
    pub output: Option<PathBuf>,
    /// Say what would be in it, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What is done about backups beside making them.
#[derive(Debug, Subcommand)]
pub enum BackupVerb {
    /// Make a recovery key: its private half is shown once, as words for paper
    Key(KeyArguments),
    /// Show what a backup says of itself, and whether it is whole; needs no recovery key
    Inspect(InspectArguments),
    /// Open a backup with the words and read all of it, and put nothing back
    Verify(VerifyArguments),
}

/// What `backup key` is told.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// The file that the public half is written to
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Write the words into a new file, which only its owner may read, in place of showing them at the terminal
    #[arg(long, value_name = "FILE")]
    pub words: Option<PathBuf>,
}

/// What `backup inspect` is told.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The backup
    pub file: PathBuf,
}

/// How a backup is believed, and opened.
#[derive(Debug, Args)]
pub struct OpenArguments {
    /// The backup
    pub file: PathBuf,
    #[command(flatten)]
    compared: Compared,
    /// Read the words of the recovery key from a file that only its owner may read; without it they are asked for
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
}

/// What somebody compared: one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Compared {
    /// The key id of the key that signed it, as every backup of that home says it
    #[arg(long, value_name = "HEX")]
    signer: Option<KeyId>,
    /// The fingerprint of this very backup, as it was said when it was made
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
}

/// What `backup verify` is told.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    open: OpenArguments,
}

/// What `restore` is told.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    open: OpenArguments,
    /// Open it and read all of it, and make no home
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose home it is, in words.
fn named(home: &Party) -> String {
    match home {
        Party::Hq => "headquarters".to_owned(),
        Party::Vault(name) => format!("the vault {name}"),
        other => other.to_string(),
    }
}

impl BackupArguments {
    /// The paths that it names, for whoever runs it from another folder.
    pub fn paths(&mut self) -> Vec<&mut PathBuf> {
        self.recovery_key
            .iter_mut()
            .chain(&mut self.output)
            .collect()
    }

    /// Whether it changes nothing, whatever becomes of its output.
    pub fn only_looks(&self) -> bool {
        self.verb
            .as_ref()
            .map_or(self.dry_run, BackupVerb::only_looks)
    }
}

impl BackupVerb {
    /// Whether it changes nothing, whatever becomes of its output.
    pub fn only_looks(&self) -> bool {
        !matches!(self, Self::Key(_))
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn run(&self, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Key(arguments) => make_key(arguments, console),
            Self::Inspect(arguments) => inspect(arguments, console),
            Self::Verify(arguments) => verify(&arguments.open, console),
        }
    }
}

/// Makes a recovery key. The public half is written once the words are on paper: typed back, or in the file that was asked for.
fn make_key(arguments: &KeyArguments, console: &Console) -> Result<Exit, Failure> {
    expect_absent(&arguments.output)?;
    let key = RecoveryKey::generate()?;
    let sheet = Sheet::of(&key)?;
    match &arguments.words {
        Some(path) => files::write_new(path, sheet.file(&key).as_bytes())?,
        None => show(&key, &sheet, console)?,
    }
    let public = key.public();
    // They are of no more use here.
    drop((key, sheet));
    files::write_public_new(&arguments.output, public.to_text().as_bytes())?;
    let json = json!({
        "schema": "mintmark/recovery-key/1",
        "recovery_key_id": public.id().to_string(),
        "file": arguments.output.display().to_string(),
        "words": arguments.words.as_ref().map(|path| path.display().to_string()),
    });
    let lines = [
        format!("recovery key  {public}"),
        format!("public half   {}", arguments.output.display()),
        "next: make backups with `--recovery-key`; keep the paper where neither the home nor its backups are".to_owned(),
    ];
    say(console, &json, lines)
}

/// Shows the words, and has them typed back from the paper.
fn show(key: &RecoveryKey, sheet: &Sheet, console: &Console) -> Result<(), Failure> {
    let unasked = |error: std::io::Error| Failure::from(Error::WordsMissing(error));
    let heading = format!(
        "Write these words on paper, with the heading. Whoever has them reads every backup that is sealed to them.\n\
         They are shown once.\n\nmintmark recovery key {}\n\n",
        key.public()
    );
    console
        .show_secret(
            &[&heading, sheet.text()],
            "Press Enter when they are on the paper: ",
        )
        .map_err(unasked)?;
    let typed = words::ask(None, console)?;
    if typed.public() != key.public() {
        return Err(Error::RecoveryKeyOther {
            given: typed.public().to_string(),
            sealed: key.public().to_string(),
        }
        .into());
    }
    Ok(())
}

/// What a backup says of itself.
fn facts(schema: &str, home: &Party, backup: &Backup, fingerprint: &Fingerprint) -> Value {
    let recovery_key = Fingerprint::of(&backup.recovery_key);
    json!({
        "schema": schema,
        "of": home.to_string(),
        "made_at": rfc3339(backup.made_at),
        "software": backup.software,
        "fingerprint": fingerprint.to_string(),
        "signer": thumbprint(&backup.signer).to_string(),
        "recovery_key_id": recovery_key.to_string(),
        "files": backup.files,
        "bytes": backup.bytes,
        "lineage": backup.log.as_ref().map(|log| log.lineage.to_string()),
        "log_size": backup.log.as_ref().map(|log| log.size),
        "log_root": backup.log.as_ref().map(|log| log.root.to_string()),
    })
}

fn lines(home: &Party, backup: &Backup, fingerprint: &Fingerprint) -> Vec<String> {
    let recovery_key: String = Fingerprint::of(&backup.recovery_key)
        .to_string()
        .chars()
        .take(16)
        .collect();
    let mut lines = vec![
        format!("of            {}", named(home)),
        format!("made at       {}", rfc3339(backup.made_at)),
        format!("files         {}", backup.files),
        format!("bytes         {}", backup.bytes),
        format!("recovery key  {recovery_key}"),
        format!("signer        {}", thumbprint(&backup.signer)),
        format!("fingerprint   {fingerprint}"),
    ];
    if let Some(log) = &backup.log {
        lines.push(format!("log           {} records", log.size));
        lines.push(format!("log root      {}", log.root));
        lines.push(format!("lineage       {}", log.lineage));
    }
    lines
}

fn inspect(arguments: &InspectArguments, console: &Console) -> Result<Exit, Failure> {
    let mut opened = Opened::open(&arguments.file)?;
    let watch = Watch::to_the_end(console);
    opened.expect_whole(&watch.begin("reading", opened.sealed_bytes()))?;
    let (home, backup) = (opened.home().clone(), opened.backup());
    let fingerprint = opened.fingerprint();
    console.note(
        "it is whole and signed by the key that it names; whether that is the key of the home is for you to compare",
    );
    say(
        console,
        &facts("mintmark/backup-inspect/1", &home, backup, &fingerprint),
        lines(&home, backup, &fingerprint),
    )
}

/// Opens a backup up to its content key: it is the one that somebody compared, it is whole, and the words open it.
fn unlock(
    arguments: &OpenArguments,
    expect: impl FnOnce(&Opened) -> Result<(), Failure>,
    console: &Console,
) -> Result<(Opened, crate::ContentKey), Failure> {
    let mut opened = Opened::open(&arguments.file)?;
    let Compared {
        signer,
        fingerprint,
    } = &arguments.compared;
    let signed = signer
        .map(Signed::By)
        .or(fingerprint.map(Signed::As))
        .ok_or(Error::Internal("nothing to compare was given"))?;
    opened.expect_signed(signed)?;
    expect(&opened)?;
    let watch = Watch::to_the_end(console);
    opened.expect_whole(&watch.begin("comparing", opened.sealed_bytes()))?;
    let key = words::ask(arguments.words.as_deref(), console)?;
    let content_key = opened.unlock(&key)?;
    Ok((opened, content_key))
}

fn verify(arguments: &OpenArguments, console: &Console) -> Result<Exit, Failure> {
    let (mut opened, key) = unlock(arguments, |_| Ok(()), console)?;
    let watch = Watch::to_the_end(console);
    opened.expect_readable(&key, &watch.begin("opening", opened.sealed_bytes()))?;
    let (home, backup) = (opened.home(), opened.backup());
    let fingerprint = opened.fingerprint();
    let mut shown = lines(home, backup, &fingerprint);
    shown.push("the words open it, and every file in it is whole; nothing was written".to_owned());
    say(
        console,
        &facts("mintmark/backup-verify/1", home, backup, &fingerprint),
        shown,
    )
}

/// Whether the work is to end before it is done: whoever asked has gone, or a signal came, where the process is theirs.
fn asked_to_stop<'a>(has_gone: Option<&'a dyn Fn() -> bool>) -> impl Fn() -> bool + 'a {
    // Where signals cannot be listened to, they end the process as they always did.
    let stop = match has_gone {
        Some(_) => None,
        None => Stop::listen().ok(),
    };
    move || match has_gone {
        Some(has_gone) => has_gone(),
        None => stop.as_ref().is_some_and(|stop| stop.asked().is_some()),
    }
}

/// A home that is to be sealed.
pub struct Plan {
    /// Where to.
    pub output: PathBuf,
    /// To whom.
    pub recovery_key: RecoveryPublicKey,
}

impl Plan {
    /// Reads what `backup` was told, before anything else is done: a file that is there already is not written over.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::RecoveryKey`].
    pub fn of(arguments: &BackupArguments) -> Result<Self, Failure> {
        let missing = || Error::Internal("an option is missing");
        let output = arguments.output.clone().ok_or_else(missing)?;
        let key = arguments.recovery_key.as_ref().ok_or_else(missing)?;
        expect_absent(&output)?;
        Ok(Self {
            output,
            recovery_key: RecoveryPublicKey::read(key)?,
        })
    }

    /// Seals a home, and says what came of it. It ends early, and leaves nothing, once `has_gone`; without that, at a signal.
    ///
    /// # Errors
    /// As [`seal`].
    pub fn seal(
        &self,
        subject: Subject,
        items: Vec<Item>,
        sign: Sign<'_>,
        has_gone: Option<&dyn Fn() -> bool>,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let home = subject.home.clone();
        let (output, key) = (&self.output, &self.recovery_key);
        let asked = asked_to_stop(has_gone);
        let watch = Watch::new(console, &asked);
        let sealed = seal(output, key, subject, items, sign, &watch)?;
        let (backup, fingerprint) = (&sealed.backup, &sealed.fingerprint);
        let mut facts = facts("mintmark/backup/1", &home, backup, fingerprint);
        facts["file"] = json!(self.output.display().to_string());
        facts["file_bytes"] = json!(sealed.bytes);
        let mut shown = vec![format!("file          {}", self.output.display())];
        shown.extend(lines(&home, backup, fingerprint));
        shown.push(
            "keep a note of the signer: `restore` asks for it, so that nobody else's backup is taken for this home's"
                .to_owned(),
        );
        say(console, &facts, shown)
    }

    /// Says what would be sealed.
    ///
    /// # Errors
    /// When it cannot be said.
    pub fn rehearse(
        &self,
        home: &Party,
        items: &[Item],
        console: &Console,
    ) -> Result<Exit, Failure> {
        let bytes: u64 = items.iter().map(Item::length).sum();
        let json = json!({
            "schema": "mintmark/backup/1",
            "of": home.to_string(),
            "files": items.len(),
            "bytes": bytes,
            "recovery_key_id": self.recovery_key.id().to_string(),
            "dry_run": true,
        });
        let line = format!(
            "would seal {} files of {}, {bytes} bytes, to the recovery key {}; nothing was written",
            items.len(),
            named(home),
            self.recovery_key
        );
        say(console, &json, [line])
    }
}

impl RestoreArguments {
    /// Puts a home back at `home`, where nothing is. `expect` judges whose backup it is before the words are asked for;
    /// `finish` adds what no backup has and judges what was in it, before anything is a home. Says what came of it, and
    /// `next`.
    ///
    /// # Errors
    /// Why nothing was put back.
    pub fn run(
        &self,
        home: &Path,
        expect: impl FnOnce(&Party) -> Result<(), Failure>,
        finish: impl FnOnce(&Placing, &Opened) -> Result<(), Failure>,
        next: &[&str],
        console: &Console,
    ) -> Result<Exit, Failure> {
        expect_free(home)?;
        let judge = |opened: &Opened| expect(opened.home());
        let (mut opened, key) = unlock(&self.open, judge, console)?;
        let bytes = opened.sealed_bytes();
        if self.dry_run {
            let watch = Watch::to_the_end(console);
            opened.expect_readable(&key, &watch.begin("opening", bytes))?;
        } else {
            let asked = asked_to_stop(None);
            let watch = Watch::new(console, &asked);
            let mut placing = Placing::begin(home)?;
            placing.fill(&mut opened, &key, &watch.begin("restoring", bytes))?;
            finish(&placing, &opened)?;
            placing.settle()?;
        }
        let (of, backup) = (opened.home(), opened.backup());
        let fingerprint = opened.fingerprint();
        let mut facts = facts("mintmark/restore/1", of, backup, &fingerprint);
        facts["home"] = json!(home.display().to_string());
        facts["dry_run"] = json!(self.dry_run);
        let mut shown = vec![format!("home          {}", home.display())];
        shown.extend(lines(of, backup, &fingerprint));
        match self.dry_run {
            true => shown.push("nothing was written (--dry-run)".to_owned()),
            false => shown.extend(next.iter().map(|line| format!("next: {line}"))),
        }
        say(console, &facts, shown)
    }
}
