//! What somebody may have meant who types a command that is none.

use crate::Neighbour;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// More would be no help.
const NAMED_MAX: usize = 3;

/// Where the command that was typed is to be found: in another tool, or behind another noun of this one.
pub(crate) fn hint(
    command: &Command,
    neighbour: Option<Neighbour>,
    arguments: &[OsString],
    error: &clap::Error,
) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let mut typed = before(command, arguments, word);
    typed.push(word);
    let typed = typed.join(" ");
    if let Some(neighbour) = neighbour {
        let whole = after(arguments, word).map(|verb| format!("{typed} {verb}"));
        let whole = neighbour
            .commands
            .iter()
            .find(|command| whole.as_deref() == Some(**command));
        if let Some(command) = whole {
            return Some(elsewhere(neighbour, &[command]));
        }
        let found = under(neighbour.commands.iter().copied(), &typed);
        if !found.is_empty() {
            return Some(elsewhere(neighbour, &found));
        }
    }
    let mut own = Vec::new();
    collect(command, "", &mut own);
    let found = ending(own.iter().map(String::as_str), word);
    if !found.is_empty() {
        return Some(format!(
            "did you mean {}?",
            named(command.get_name(), &found)
        ));
    }
    let neighbour = neighbour?;
    let found = ending(neighbour.commands.iter().copied(), word);
    (!found.is_empty()).then(|| elsewhere(neighbour, &found))
}

fn elsewhere(neighbour: Neighbour, found: &[&str]) -> String {
    let Neighbour { tool, whose, .. } = neighbour;
    format!("that is for {whose}: {}", named(tool, found))
}

/// The commands that were typed before the one that is none. What an option was given is not one of them.
fn before<'a>(mut command: &'a Command, arguments: &'a [OsString], word: &str) -> Vec<&'a str> {
    let mut typed = Vec::new();
    for argument in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        if argument == word {
            break;
        }
        if let Some(inner) = command.find_subcommand(argument) {
            typed.push(argument);
            command = inner;
        }
    }
    typed
}

/// The commands that were typed.
pub(crate) fn typed(command: &Command, arguments: &[OsString]) -> Vec<String> {
    // A null character is in no argument.
    let typed = before(command, arguments, "\0");
    typed.into_iter().map(str::to_owned).collect()
}

/// What was typed after the command that is none.
fn after<'a>(arguments: &'a [OsString], word: &str) -> Option<&'a str> {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    words.find(|argument| *argument == word)?;
    words.next()
}

/// Every command that does something, without the tool's name.
fn collect(command: &Command, path: &str, found: &mut Vec<String>) {
    for inner in command.get_subcommands() {
        let path = format!("{path} {}", inner.get_name())
            .trim_start()
            .to_owned();
        if inner.has_subcommands() {
            collect(inner, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// The commands that are this one, or begin with it.
fn under<'a>(commands: impl Iterator<Item = &'a str>, typed: &str) -> Vec<&'a str> {
    let is_it = |command: &&str| {
        let rest = command.strip_prefix(typed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    commands.filter(is_it).collect()
}

/// The commands whose verb is this word: somebody forgot the noun, or put it last.
fn ending<'a>(commands: impl Iterator<Item = &'a str>, word: &str) -> Vec<&'a str> {
    let is_it = |command: &&str| command.rsplit(' ').next() == Some(word);
    commands.filter(is_it).collect()
}

fn named(tool: &str, found: &[&str]) -> String {
    let mut names: Vec<String> = found
        .iter()
        .take(NAMED_MAX)
        .map(|command| format!("`{tool} {command}`"))
        .collect();
    if found.len() > NAMED_MAX {
        names.push(format!("... (`{tool} --help` lists them)"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Parser, Subcommand};

    #[derive(Debug, Parser)]
    #[command(name = "hq")]
    struct CommandLine {
        #[arg(long)]
        home: Option<String>,
        #[command(subcommand)]
        _noun: Noun,
    }

    #[derive(Debug, Subcommand)]
    enum Noun {
        #[command(subcommand)]
        Media(Verb),
        #[command(subcommand)]
        Approval(Verb),
    }

    #[derive(Debug, Subcommand)]
    enum Verb {
        Import,
    }

    fn hint_for(line: &str) -> Option<String> {
        let neighbour = Neighbour {
            tool: "site",
            whose: "a vault",
            commands: &["issue", "media eject", "device scrap", "device void"],
        };
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = CommandLine::try_parse_from(&arguments).unwrap_err();
        let command = <CommandLine as clap::CommandFactory>::command();
        hint(&command, Some(neighbour), &arguments, &error)
    }

    #[test]
    fn a_command_of_the_other_tool_is_named_with_that_tool() {
        for (line, expected) in [
            ("hq issue", "that is for a vault: `site issue`"),
            ("hq --home media issue", "that is for a vault: `site issue`"),
            (
                "hq device",
                "that is for a vault: `site device scrap`, `site device void`",
            ),
            (
                "hq device scrap X",
                "that is for a vault: `site device scrap`",
            ),
            ("hq media eject", "that is for a vault: `site media eject`"),
            ("hq scrap", "that is for a vault: `site device scrap`"),
        ] {
            assert_eq!(hint_for(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_verb_without_its_noun_is_given_one() {
        assert_eq!(
            hint_for("hq import media").as_deref(),
            Some("did you mean `hq media import`, `hq approval import`?")
        );
    }

    #[test]
    fn what_nobody_has_gets_no_hint_of_ours() {
        assert_eq!(hint_for("hq nonsense"), None);
        assert_eq!(hint_for("hq --nonsense"), None);
    }
}
