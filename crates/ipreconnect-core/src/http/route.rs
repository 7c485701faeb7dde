//! Which requests a route is for: host, path, method, headers; all that it names must match.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

use super::field::Field;
use super::text::is_token;

/// A compiled expression may take so much memory.
const EXPRESSION: usize = 256 * 1024;

/// The host that a route is for: a name, or `*.` before one, which stands for one label or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    host: Box<[u8]>,
    is_wild: bool,
}

impl HostRule {
    /// For this name, in lower case.
    #[must_use]
    pub fn exact(host: &str) -> Self {
        Self {
            host: host.to_ascii_lowercase().into_bytes().into(),
            is_wild: false,
        }
    }

    /// For all names below this one.
    #[must_use]
    pub fn below(host: &str) -> Self {
        Self {
            is_wild: true,
            ..Self::exact(host)
        }
    }

    pub(super) fn matches(&self, host: &[u8]) -> bool {
        if !self.is_wild {
            return host.eq_ignore_ascii_case(&self.host);
        }
        let Some(at) = host.len().checked_sub(self.host.len()) else {
            return false;
        };
        let (labels, tail) = host.split_at(at);
        tail.eq_ignore_ascii_case(&self.host) && labels.len() > 1 && labels.ends_with(b".")
    }
}

/// A text, or an expression that it must match.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This text.
    Exact(Box<[u8]>),
    /// Whatever matches.
    Expression(Regex),
    /// Anything.
    Any,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

/// Compiles an expression (RE2's syntax); matching takes time in proportion to the text.
fn expression(text: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(text).size_limit(EXPRESSION).build();
    built.map_err(|error| PatternError(error.to_string()))
}

impl Pattern {
    /// `~ expression`, `*`, or the text itself.
    ///
    /// # Errors
    /// If what should be an expression is none.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Ok(match text.strip_prefix('~') {
            Some(rest) => Self::Expression(expression(rest.trim_start())?),
            None if text == "*" => Self::Any,
            None => Self::Exact(text.as_bytes().into()),
        })
    }

    /// Whether a text is meant.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(own) => **own == *text,
            Self::Expression(expression) => expression.is_match(text),
            Self::Any => true,
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Expression(one), Self::Expression(other)) => one.as_str() == other.as_str(),
            (Self::Any, Self::Any) => true,
            _ => false,
        }
    }
}

/// The paths that a route is for.
#[derive(Clone, Debug)]
pub enum PathRule {
    /// This one and all below it, segment by segment; without a slash at its end.
    Prefix(Box<[u8]>),
    /// This one.
    Exact(Box<[u8]>),
    /// Whatever matches.
    Expression(Regex),
}

/// Why a text says nothing of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRuleError {
    /// A path begins with a slash.
    NoSlash,
    /// The expression is none.
    Expression(PatternError),
}

impl fmt::Display for PathRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("a path begins with a slash"),
            Self::Expression(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PathRuleError {}

impl PathRule {
    /// `/prefix/`, `= /exact` or `~ ^/expression`.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn new(text: &str) -> Result<Self, PathRuleError> {
        if let Some(rest) = text.strip_prefix('~') {
            let built = expression(rest.trim_start()).map_err(PathRuleError::Expression)?;
            return Ok(Self::Expression(built));
        }
        let (path, is_exact) = match text.strip_prefix('=') {
            Some(path) => (path.trim_start(), true),
            None => (text, false),
        };
        if !path.starts_with('/') {
            return Err(PathRuleError::NoSlash);
        }
        let path = super::path::normal(path.as_bytes());
        Ok(if is_exact {
            Self::Exact(path.into())
        } else {
            Self::Prefix(path.strip_suffix(b"/").unwrap_or(&path).into())
        })
    }

    /// Whether a path in its [normal](super::normal) spelling is meant.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
            }
            Self::Exact(exact) => **exact == *path,
            Self::Expression(expression) => expression.is_match(path),
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        match self {
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("/"),
            Self::Prefix(prefix) => f.write_str(&lossy(prefix)),
            Self::Exact(exact) => write!(f, "= {}", lossy(exact)),
            Self::Expression(expression) => write!(f, "~ {expression}"),
        }
    }
}

impl PartialEq for PathRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(one), Self::Prefix(other)) | (Self::Exact(one), Self::Exact(other)) => {
                one == other
            }
            (Self::Expression(one), Self::Expression(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

/// The requests that a route is for. What it says nothing about does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRule {
    /// Any of these hosts.
    pub hosts: Vec<HostRule>,
    /// Any of these paths.
    pub paths: Vec<PathRule>,
    /// Any of these methods.
    pub methods: Vec<Box<[u8]>>,
    /// All of these fields.
    pub fields: Vec<(Box<[u8]>, Pattern)>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The host, without its port.
    pub host: &'r [u8],
    /// The path, in its [normal](super::normal) spelling.
    pub path: &'r [u8],
    /// The method.
    pub method: &'r [u8],
    /// The fields.
    pub fields: &'r [Field],
    /// What the fields are places of.
    pub text: &'r [u8],
}

impl RouteRule {
    /// Whether a request is meant.
    #[must_use]
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let any_or_none = |none: bool, any: bool| none || any;
        any_or_none(
            self.hosts.is_empty(),
            self.hosts.iter().any(|host| host.matches(asked.host)),
        ) && any_or_none(
            self.paths.is_empty(),
            self.paths.iter().any(|path| path.matches(asked.path)),
        ) && any_or_none(
            self.methods.is_empty(),
            self.methods.iter().any(|method| **method == *asked.method),
        ) && self.fields.iter().all(|(name, pattern)| {
            let named = asked
                .fields
                .iter()
                .filter(|field| field.name.of(asked.text).eq_ignore_ascii_case(name));
            let mut values = named.map(|field| field.value.of(asked.text));
            values.any(|value| pattern.matches(value))
        })
    }
}

/// The host of an authority: without its port, and without the dot that ends a full name.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        Some(b'[') => authority
            .iter()
            .position(|byte| *byte == b']')
            .map(|at| at + 1),
        _ => authority.iter().position(|byte| *byte == b':'),
    };
    let host = authority
        .get(..end.unwrap_or(authority.len()))
        .unwrap_or_default();
    host.strip_suffix(b".").unwrap_or(host)
}

/// Whether a text is the name of a method.
#[must_use]
pub fn is_method(text: &str) -> bool {
    is_token(text.as_bytes()) && !text.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests;
