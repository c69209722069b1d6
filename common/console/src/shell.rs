//! Completions and manual pages, made from the command line's own definition.

use crate::{Exit, files};
use clap::{Command, CommandFactory};
pub use clap_complete::Shell;
use std::io::{self, Write};
use std::path::Path;

/// Writes the completion script of `shell` for the tool.
///
/// # Errors
/// When `out` cannot be written.
pub fn completion<C: CommandFactory>(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    // Into memory first: the generator panics where a writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    out.flush()
}

/// Writes a manual page for the tool and each of its commands, `hq.1`, `hq-site.1` and so on, into the folder `dir`.
///
/// # Errors
/// When a page cannot be written. Pages that are there already are replaced.
pub fn manual<C: CommandFactory>(dir: impl AsRef<Path>) -> Result<(), files::Error> {
    // A page `hq-help.1` for the `help` command would repeat the tree a second time.
    let mut command = C::command().disable_help_subcommand(true);
    command.build();
    let everywhere = everywhere(command.get_name());
    page(&command, &everywhere, dir.as_ref())
}

/// What holds for every command of a tool, as the end of its page (man-pages(7)).
fn everywhere(tool: &str) -> String {
    let mut text = ".SH \"EXIT STATUS\"\n".to_owned();
    for exit in Exit::ALL {
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR\n{}\n",
            exit.code(),
            exit.meaning()
        ));
    }
    text.push_str(".SH ENVIRONMENT\n");
    let home = format!("{}_HOME", tool.to_uppercase());
    for (name, meaning) in [
        (
            home.as_str(),
            "the home folder, where \\-\\-home is not given",
        ),
        ("NO_COLOR", "if it holds anything, nothing is coloured"),
    ] {
        text.push_str(&format!(".TP\n\\fB{name}\\fR\n{meaning}\n"));
    }
    text
}

fn page(command: &Command, everywhere: &str, dir: &Path) -> Result<(), files::Error> {
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        page(subcommand, everywhere, dir)?;
    }
    let manual = clap_mangen::Man::new(command.clone());
    let path = dir.join(manual.get_filename());
    let mut text = Vec::new();
    manual
        .render(&mut text)
        .map_err(|source| files::Error::new(files::Operation::Write, &path, source))?;
    text.extend_from_slice(everywhere.as_bytes());
    files::write_public_replace(&path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// Control the fleet.
    #[derive(Parser)]
    #[command(name = "hq", version = "1.2.3")]
    struct CommandLine {
        #[command(flatten)]
        global: crate::GlobalOptions,
        #[command(subcommand)]
        noun: Noun,
    }

    #[derive(clap::Subcommand)]
    enum Noun {
        /// Sites and their vaults
        #[command(subcommand)]
        Site(Verb),
    }

    #[derive(clap::Subcommand)]
    enum Verb {
        /// Enrol a vault
        Enrol,
    }

    #[test]
    fn every_command_has_a_page_and_help_has_none() {
        let folder = tempfile::tempdir().unwrap();
        manual::<CommandLine>(folder.path()).unwrap();
        let mut pages: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        assert_eq!(pages, ["hq-site-enrol.1", "hq-site.1", "hq.1"]);
        let text = std::fs::read_to_string(folder.path().join("hq-site-enrol.1")).unwrap();
        assert!(
            text.contains("Enrol a vault") && text.contains("\\-\\-json"),
            "{text}"
        );
        for section in [
            "EXIT STATUS",
            "integrity: broken chain",
            "HQ_HOME",
            "NO_COLOR",
        ] {
            assert!(text.contains(section), "{text}");
        }
    }

    #[test]
    fn a_completion_script_knows_the_commands() {
        let mut script = Vec::new();
        completion::<CommandLine>(Shell::Bash, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("hq__") && script.contains("enrol"));
    }
}
