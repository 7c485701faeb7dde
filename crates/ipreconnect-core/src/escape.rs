//! What others say, as it may stand in a line of a terminal or a file.

use std::borrow::Cow;

/// The text with its control characters written out: nothing in it moves a cursor, changes a colour or begins a line.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_written_out_and_nothing_else_is_changed() {
        assert_eq!(escaped("a\n\u{1b}[31mb\u{9b}"), "a\\n\\u{1b}[31mb\\u{9b}");
        assert!(matches!(escaped("grün \\ \"x\""), Cow::Borrowed(_)));
    }
}
