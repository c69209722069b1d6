//! From the command line to the exit code.

use crate::console::{Console, Terminals, failure_text};
use crate::{ColorChoice, Exit, Failure, HasGlobal, mistaken, panics, process};
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use signal_hook::low_level;

/// Parses the command line, runs `body`, and ends the process with the exit code of what it says.
///
/// Files that the process makes are its own alone (umask 077), it leaves no core file, which could hold keys, and no other
/// process of the same user reads its memory. A panic anywhere is reported as `INTERNAL` and ends in [`Exit::Unknown`]. A command line that is wrong ends in
/// [`Exit::Usage`], as an error with the code `USAGE`.
pub fn run<C: clap::Parser + HasGlobal>(
    tool: &'static str,
    body: impl FnOnce(C, &Console) -> Result<Exit, Failure>,
) -> ! {
    process::harden();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let wanted = Wanted::from(arguments.as_slice());
    let terminals = Terminals::of_process();
    let colored = !wanted.json && terminals.colored(terminals.diagnostics, wanted.color);
    panics::install(tool, wanted.json, colored);

    let command = C::command().color(match wanted.color {
        ColorChoice::Auto => clap::ColorChoice::Auto,
        ColorChoice::Always => clap::ColorChoice::Always,
        ColorChoice::Never => clap::ColorChoice::Never,
    });
    let parsed = command
        .try_get_matches_from(&arguments)
        .and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    let exit = match parsed {
        Ok(parsed) => execute(tool, parsed, body),
        Err(error) => {
            let mut typed = mistaken::typed(&C::command(), &arguments);
            typed.insert(0, tool.to_owned());
            let failure = usage_failure(&typed.join(" "), &error);
            let failure = match mistaken::hint(&C::command(), C::neighbour(), &arguments, &error) {
                Some(hint) => failure.hint(hint),
                None => failure,
            };
            refuse(tool, &error, &failure, wanted.json, colored)
        }
    };
    let exit = if panics::reported() {
        exit.worst(Exit::Unknown)
    } else {
        exit
    };
    end(exit)
}

/// Ends the process, and does not run what libraries want done at an exit. A thread that nobody waits for may still be inside a
/// PKCS#11 module: what OpenSSL, below it, would free at an exit is taken from under that thread, and the process would die of a
/// signal after all its work was done.
fn end(exit: Exit) -> ! {
    // Whoever read it may be gone; what could not be written was judged before.
    let _ = io::stdout().flush();
    low_level::exit(exit.code().into())
}

fn execute<C: HasGlobal>(
    tool: &'static str,
    parsed: C,
    body: impl FnOnce(C, &Console) -> Result<Exit, Failure>,
) -> Exit {
    let console = Console::new(tool, parsed.global());
    // Nothing is used after a panic but the console, which is ready for it.
    let exit = match catch_unwind(AssertUnwindSafe(|| body(parsed, &console))) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            let failure = console.judge(failure);
            console.report(&failure);
            failure.exit
        }
        Err(_) => Exit::Unknown,
    };
    match console.take_output_error() {
        Some(error) => {
            let failure = console.judge(Failure::output(&error));
            console.report(&failure);
            exit.worst(failure.exit)
        }
        None => exit,
    }
}

/// Help and version, or what is wrong with the command line.
fn refuse(tool: &str, error: &clap::Error, failure: &Failure, json: bool, colored: bool) -> Exit {
    if !error.use_stderr() {
        // Nobody reads on when the pipe is closed.
        let _ = error.print();
        return Exit::Done;
    }
    if !json && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Whoever typed only a beginning wants to know how it can go on.
        let _ = error.print();
    }
    let text = failure_text(tool, failure, json, colored);
    let _ = io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes());
    Exit::Usage
}

/// Clap's text as a failure: its first paragraph is the message, its tips are the hint. `command` is what was typed of the
/// command.
fn usage_failure(command: &str, error: &clap::Error) -> Failure {
    let help = format!("run `{command} --help`");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::new(Exit::Usage, "USAGE", "the command is not complete").hint(help);
    }
    let rendered = error.render().to_string();
    let mut paragraphs = rendered.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let hints: Vec<String> = paragraphs
        .filter_map(|paragraph| {
            let usage = paragraph.starts_with("Usage: ");
            let tip = paragraph.strip_prefix("tip: ").map(str::to_owned);
            tip.or_else(|| usage.then_some(paragraph))
        })
        .collect();
    let hint = if hints.is_empty() {
        help
    } else {
        hints.join("; ")
    };
    Failure::new(Exit::Usage, "USAGE", message).hint(hint)
}

/// What the arguments ask for, as far as it can be told before they are parsed and even if they cannot be.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    json: bool,
    color: ColorChoice,
}

impl From<&[OsString]> for Wanted {
    fn from(arguments: &[OsString]) -> Self {
        let mut wanted = Self {
            json: false,
            color: ColorChoice::Auto,
        };
        let mut options = arguments
            .iter()
            .skip(1)
            .take_while(|argument| *argument != "--");
        while let Some(option) = options.next() {
            let color = match option.to_str() {
                Some("--json") => {
                    wanted.json = true;
                    continue;
                }
                Some("--color") => options.next().and_then(|value| value.to_str()),
                Some(other) => other.strip_prefix("--color="),
                None => None,
            };
            match color {
                Some("always") => wanted.color = ColorChoice::Always,
                Some("never") => wanted.color = ColorChoice::Never,
                _ => {}
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    #[command(name = "site")]
    enum CommandLine {
        Issue {
            #[arg(long)]
            product: String,
            #[arg(long, value_parser = clap::value_parser!(u8))]
            days: u8,
        },
    }

    fn wanted(arguments: &[&str]) -> Wanted {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Wanted::from(arguments.as_slice())
    }

    fn failure(arguments: &[&str]) -> Failure {
        usage_failure("site", &CommandLine::try_parse_from(arguments).unwrap_err())
    }

    #[test]
    fn json_is_recognised_wherever_it_stands_as_an_option() {
        assert!(wanted(&["site", "issue", "--json", "--nonsense"]).json);
        assert!(!wanted(&["--json", "issue"]).json);
        assert!(!wanted(&["site", "issue", "--", "--json"]).json);
        assert!(!wanted(&["site", "--jsonx"]).json);
    }

    #[test]
    fn both_forms_of_color_are_recognised() {
        assert_eq!(
            wanted(&["site", "--color", "never"]).color,
            ColorChoice::Never
        );
        assert_eq!(
            wanted(&["site", "--color=always"]).color,
            ColorChoice::Always
        );
        assert_eq!(wanted(&["site", "--color"]).color, ColorChoice::Auto);
        assert_eq!(wanted(&["site", "--color=red"]).color, ColorChoice::Auto);
    }

    #[test]
    fn a_misspelt_option_keeps_its_suggestion_as_the_hint() {
        let failure = failure(&["site", "issue", "--produkt", "x"]);
        assert_eq!(failure.code, "USAGE");
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.message, "unexpected argument '--produkt' found");
        let hint = failure.hint.unwrap();
        assert!(
            hint.starts_with("a similar argument exists: '--product'; Usage: site"),
            "{hint}"
        );
    }

    #[test]
    fn missing_options_are_all_named_in_the_message() {
        assert_eq!(
            failure(&["site", "issue"]).message,
            "the following required arguments were not provided: --product <PRODUCT> --days <DAYS>"
        );
    }

    #[test]
    fn a_wrong_value_says_which_and_why() {
        assert_eq!(
            failure(&["site", "issue", "--product", "x", "--days", "300"]).message,
            "invalid value '300' for '--days <DAYS>': 300 is not in 0..=255"
        );
    }

    #[test]
    fn a_missing_command_asks_for_help_and_not_for_a_page_of_text() {
        let failure = failure(&["site"]);
        assert!(!failure.message.contains("Usage"), "{failure:?}");
        assert_eq!(failure.message.lines().count(), 1);
        CommandLine::command().debug_assert();
    }
}
