//! Colour, where the reader is a terminal that has not asked for none (<https://no-color.org>).

use std::env;
use std::io::{IsTerminal, stderr, stdout};

use clap::builder::styling::{AnsiColor, Style as Ansi};

/// How text on one stream is styled.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// For text on standard output.
    pub fn stdout() -> Self {
        Style { colour: stdout().is_terminal() && wanted() }
    }

    /// For text on standard error.
    pub fn stderr() -> Self {
        Style { colour: stderr().is_terminal() && wanted() }
    }

    /// Whether there is any colour.
    pub fn has_colour(self) -> bool {
        self.colour
    }

    /// Text that stands out.
    pub fn strong(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    /// Text that stands back.
    pub fn faint(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// The best, the right one.
    pub fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// A warning.
    pub fn warning(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    fn paint(self, style: Ansi, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.into() }
    }
}

fn wanted() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
