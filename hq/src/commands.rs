//! The command line: one module per noun.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
pub(crate) use mintmark_console::say;
use mintmark_console::{Console, Exit, Failure, GlobalOptions, HasGlobal, Neighbour, Shell};

use crate::transcript;

mod approval;
mod audit;
mod backup;
mod ca;
mod ceremony;
mod device;
mod doctor;
mod entitlement;
mod init;
pub(crate) mod media;
mod mistaken;
mod officer;
mod policy;
mod reconcile;
mod recover;
mod report;
mod restore;
mod site;
mod status;
pub(crate) mod trust;

/// Control, from headquarters, of how many genuine devices each factory may make.
#[derive(Debug, Parser)]
#[command(
    name = "hq",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalOptions,

    /// The home folder; without it, the one that the environment variable HQ_HOME names.
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,

    /// The transcript of a ceremony, to which the command adds itself; without it, the one that the environment variable
    /// HQ_TRANSCRIPT names.
    #[arg(long, global = true, value_name = "FILE")]
    transcript: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

impl HasGlobal for Cli {
    fn global(&self) -> &GlobalOptions {
        &self.global
    }

    fn neighbour() -> Option<Neighbour> {
        Some(mistaken::NEIGHBOUR)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make headquarters: its keys, its root certificate, its home folder.
    Init(Box<init::Init>),
    /// Officers: those who approve.
    #[command(subcommand)]
    Officer(officer::Officer),
    /// Trust manifests: who may sign what.
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Approvals of drafts.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Sites and their vaults.
    #[command(subcommand)]
    Site(site::Site),
    /// Policies, as people write them.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Entitlements: what a vault may make.
    #[command(subcommand)]
    Entitlement(entitlement::Entitlement),
    /// Sticks and other media that go back and forth.
    #[command(subcommand)]
    Media(media::Media),
    /// What vaults reported.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Hold what was granted against what was made, and say what does not fit.
    Reconcile(reconcile::Reconcile),
    /// Sealed reports.
    #[command(subcommand)]
    Report(report::Report),
    /// Devices: what the logs say of one.
    #[command(subcommand)]
    Device(device::Device),
    /// The certificates of the root, of device CAs and of vaults.
    #[command(subcommand)]
    Ca(ca::Ca),
    /// What headquarters signs about all devices, for those who have no registry to look in.
    #[command(subcommand)]
    Status(status::Status),
    /// Transcripts of ceremonies: what was done, written down by the tool that did it, and sealed.
    #[command(subcommand)]
    Ceremony(ceremony::Ceremony),
    /// Seal headquarters' home, but no key, into one file that opens with words on paper
    Backup(Box<mintmark_backup::command::BackupArguments>),
    /// Put headquarters' home back from a backup, where no home is
    Restore(Box<mintmark_backup::command::RestoreArguments>),
    /// Make the registry again from the record, where it is lost, older than the record, or broken.
    Recover(recover::Recover),
    /// Check the module, the tokens, the keys and the home.
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Manual {
        /// The folder; it must exist.
        dir: PathBuf,
    },
}

impl Command {
    /// Whether it changes nothing, whatever becomes of its output.
    fn only_looks(&self) -> bool {
        match self {
            Self::Officer(officer) => matches!(
                officer,
                officer::Officer::List | officer::Officer::Show { .. }
            ),
            Self::Trust(trust) => matches!(trust, trust::Trust::Show),
            Self::Approval(approval) => matches!(
                approval,
                approval::Approval::List | approval::Approval::Show { .. }
            ),
            Self::Site(site) => {
                matches!(
                    site,
                    site::Site::List | site::Site::Show { .. } | site::Site::Next { .. }
                )
            }
            Self::Entitlement(entitlement) => matches!(
                entitlement,
                entitlement::Entitlement::List | entitlement::Entitlement::Show { .. }
            ),
            Self::Media(media) => matches!(media, media::Media::Inspect { .. }),
            Self::Ca(ca) => matches!(ca, ca::Ca::List | ca::Ca::Show { .. }),
            Self::Audit(audit) => audit.only_looks(),
            Self::Policy(_)
            | Self::Reconcile(_)
            | Self::Report(_)
            | Self::Doctor(_)
            | Self::Completion { .. } => true,
            Self::Device(device) => device.only_looks(),
            Self::Ceremony(ceremony) => ceremony.only_looks(),
            Self::Backup(backup) => backup.only_looks(),
            Self::Restore(restore) => restore.dry_run,
            Self::Recover(recover) => recover.dry_run,
            Self::Status(_) | Self::Init(_) | Self::Manual { .. } => false,
        }
    }
}

/// Runs one command line.
///
/// # Errors
/// The failure that the console reports.
pub fn run(cli: Cli, console: &Console) -> Result<Exit, Failure> {
    // An empty variable is one that is not set, as anywhere else.
    let named = |variable: &str| {
        let value = std::env::var_os(variable).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let home = cli.home.or_else(|| named("HQ_HOME"));
    let home = home.as_deref();
    let going = cli.transcript.or_else(|| named("HQ_TRANSCRIPT"));
    if let Command::Ceremony(ceremony) = cli.command {
        if ceremony.only_looks() {
            console.only_looks();
        }
        return ceremony.run(home, going.as_deref(), console);
    }
    // One that cannot be added to keeps the command from being run.
    if let Some(path) = &going {
        transcript::expect_room(path)?;
        console.remember();
    }
    if cli.command.only_looks() {
        console.only_looks();
    }
    // Whoever works with a manifest is told in time that it will need a successor.
    let told = !matches!(
        cli.command,
        Command::Init(_)
            | Command::Restore(_)
            | Command::Recover(_)
            | Command::Completion { .. }
            | Command::Manual { .. }
    );
    let given = mistaken::given(&cli.command);
    let done =
        dispatch(cli.command, home, console).map_err(|failure| mistaken::explain(failure, &given));
    if let (true, Ok(_), Some(home)) = (told, &done, home) {
        crate::trust::warn_of_expiry(home, console);
    }
    match going {
        Some(path) => transcript::ended(&path, done, console),
        None => done,
    }
}

fn dispatch(
    command: Command,
    home: Option<&std::path::Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    match command {
        Command::Init(init) => init.run(home, console),
        Command::Officer(officer) => officer.run(home, console),
        Command::Trust(trust) => trust.run(home, console),
        Command::Approval(approval) => approval.run(home, console),
        Command::Site(site) => site.run(home, console),
        Command::Policy(policy) => policy.run(home, console),
        Command::Entitlement(entitlement) => entitlement.run(home, console),
        Command::Media(media) => media.run(home, console),
        Command::Audit(audit) => audit.run(home, console),
        Command::Reconcile(reconcile) => reconcile.run(home, console),
        Command::Report(report) => report.run(console),
        Command::Device(device) => device.run(home, console),
        Command::Ca(ca) => ca.run(home, console),
        Command::Status(status) => status.run(home, console),
        Command::Doctor(doctor) => doctor.run(home, console),
        // Done by whoever has the transcript.
        Command::Ceremony(ceremony) => ceremony.run(home, None, console),
        Command::Backup(arguments) => backup::run(&arguments, home, console),
        Command::Restore(arguments) => restore::run(&arguments, home, console),
        Command::Recover(recover) => recover.run(home, console),
        Command::Completion { shell } => {
            mintmark_console::completion::<Cli>(shell, &mut std::io::stdout())
                .map_err(|error| Failure::output(&error))?;
            Ok(Exit::Done)
        }
        Command::Manual { dir } => {
            mintmark_console::manual::<Cli>(dir)?;
            Ok(Exit::Done)
        }
    }
}

/// Refuses to go on where the file that is to be written is there already.
pub(crate) fn expect_absent(output: &std::path::Path) -> Result<(), Failure> {
    if output.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} is there already", output.display());
    Err(Failure::new(Exit::Environment, "FILE-EXISTS", message)
        .hint("choose another name, or move it away"))
}

/// Says what was drafted, in the form that every draft has.
fn say_draft(
    console: &Console,
    schema: &str,
    draft: &crate::registry::drafts::Draft,
    file: &std::path::Path,
    words: &[String],
    dry_run: bool,
) -> Result<Exit, Failure> {
    let json = serde_json::json!({
        "schema": schema,
        "id": draft.id,
        "type": draft.kind.as_str(),
        "file": if dry_run { None } else { Some(file.display().to_string()) },
        "fingerprint": draft.fingerprint.to_string(),
        "approve_until": mintmark_console::time::rfc3339(draft.approve_until),
        "dry_run": dry_run,
        "words": words,
    });
    let mut lines: Vec<String> = words.to_vec();
    lines.push(String::new());
    lines.push(format!("id           {}", draft.id));
    if dry_run {
        lines.push("nothing was written (--dry-run)".to_owned());
    } else {
        lines.push(format!("file         {}", file.display()));
    }
    lines.push(format!("fingerprint  {}", draft.fingerprint));
    say(console, &json, lines)
}
