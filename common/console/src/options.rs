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

/// A command line that carries the global options.
pub trait HasGlobal {
    /// The global options as parsed.
    fn global(&self) -> &GlobalOptions;
}
