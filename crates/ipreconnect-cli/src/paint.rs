//! Colours on standard output, where somebody sees them.

use std::io::IsTerminal;

/// Paints, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// By the terminal behind standard output, and `NO_COLOR`.
    pub(crate) fn of_stdout() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!plain && std::io::stdout().is_terminal())
    }

    /// By a colour's code (ECMA-48, SGR).
    pub(crate) fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Whether there are colours at all.
    pub(crate) fn is_on(self) -> bool {
        self.0
    }

    /// Bold.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// By what the state means: green is good, red is not.
    pub(crate) fn state(self, text: &str) -> String {
        let code = match text.trim() {
            "up" | "fresh" | "proven" => "32",
            "down" | "gone" | "impersonated?" | "refused until it is accepted" => "31;1",
            "suspect"
            | "doubtful"
            | "stale"
            | "remembered"
            | "insecure"
            | "key changed"
            | "used, and not accepted by anybody" => "33",
            _ => "2",
        };
        self.with(code, text)
    }
}
