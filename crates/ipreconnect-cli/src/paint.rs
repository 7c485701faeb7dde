//! Colours on standard output, where somebody sees them.

use std::borrow::Cow;
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

    /// No colours.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self(false)
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

/// What others have said, shown so that it can do nothing to a terminal: control characters as their pictures
/// (Unicode, U+2400).
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |character: char| match u32::from(character) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ if character.is_control() => char::REPLACEMENT_CHARACTER,
        _ => character,
    };
    Cow::Owned(text.chars().map(shown).collect())
}
