//! The options every command of every tool understands.

/// `--json` and `--color`, to be flattened into a tool's own command line.
///
/// ```
/// #[derive(clap::Parser)]
/// struct CommandLine {
///     #[command(flatten)]
///     global: mintmark_console::GlobalOptions,
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct GlobalOptions {
    /// Write JSON: data on standard output, errors and warnings on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// When to colour the output
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_default_value = true,
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
}

/// When output is coloured. Colour never says anything that the text does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set [default]
    #[default]
    Auto,
    /// Always, even into a pipe or a file
    Always,
    /// Never
    Never,
}

/// The identifier that a person types before something is done that cannot be undone, given beforehand. To be flattened into
/// such a command's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Confirmation {
    /// The identifier that is asked for at a terminal before this is done, given beforehand
    #[arg(long = "confirm", value_name = "ID")]
    pub identifier: Option<String>,
}

/// A command line that carries the global options.
pub trait HasGlobal {
    /// The global options as parsed.
    fn global(&self) -> &GlobalOptions;

    /// The commands of a tool that this one is easily taken for; none where there is no such tool.
    #[must_use]
    fn neighbour() -> Option<Neighbour> {
        None
    }
}

/// Another tool, to which somebody is pointed who types a command of its here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name, as it is typed.
    pub tool: &'static str,
    /// Whose tool it is, such as `the vault's tool`.
    pub whose: &'static str,
    /// Its commands that do something, without its name, such as `device scrap`.
    pub commands: &'static [&'static str],
}
