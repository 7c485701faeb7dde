//! Mistakes in a configuration, as people see them.

use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

/// The text of one file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// One mistake, at its place.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    message: String,
    place: Option<Box<Place>>,
    hint: Option<String>,
}

#[derive(Clone, Debug)]
struct Place {
    source: Arc<Source>,
    span: Range<usize>,
    label: String,
    also: Option<(Range<usize>, String)>,
}

/// Told apart, so that a warning never stops anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
}

impl Mistake {
    /// A mistake without a place, such as a file that cannot be read.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            hint: None,
        }
    }

    /// Says where it is; `label` stands under the text.
    pub(crate) fn at(
        mut self,
        source: &Arc<Source>,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> Self {
        let end = source.text.len();
        let span = span.start.min(end)..span.end.min(end);
        self.place = Some(Box::new(Place {
            source: Arc::clone(source),
            span,
            label: label.into(),
            also: None,
        }));
        self
    }

    /// Points at a second place in the same file.
    pub(crate) fn and_at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        if let Some(place) = &mut self.place {
            place.also = Some((span, label.into()));
        }
        self
    }

    /// Says what the person can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// By file, then by place; what has no place comes first.
    pub(crate) fn order(&self) -> (Option<String>, usize) {
        match &self.place {
            Some(place) => (Some(place.source.name.clone()), place.span.start),
            None => (None, 0),
        }
    }

    /// File, line and column, counted from 1.
    fn position(&self) -> Option<String> {
        let Place { source, span, .. } = self.place.as_deref()?;
        let before = source.text.get(..span.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Some(format!("{}:{line}:{column}", source.name))
    }

    /// The mistake with its place, drawn for a terminal or plainly.
    pub(crate) fn render(&self, severity: Severity, colour: Colour) -> String {
        let word = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = self
            .position()
            .map_or_else(String::new, |at| format!(" at {at}"));
        let mut text = format!("{word}{place}: {}\n", self.message);
        if let Some(drawn) = self.draw(colour) {
            text.push_str(&drawn);
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        text
    }

    fn draw(&self, colour: Colour) -> Option<String> {
        let place = self.place.as_deref()?;
        let labels = [(place.span.clone(), place.label.clone())]
            .into_iter()
            .chain(place.also.clone())
            .map(|(span, label)| {
                let label = (!label.is_empty()).then_some(label);
                LabeledSpan::new(label, span.start, span.len())
            });
        let report = miette::MietteDiagnostic::new("").with_labels(labels);
        let theme = match colour {
            Colour::Yes => GraphicalTheme::unicode(),
            Colour::No => GraphicalTheme::unicode_nocolor(),
        };
        let source = NamedSource::new(&place.source.name, place.source.text.clone());
        let report = miette::Report::new(report).with_source_code(source);
        let mut drawn = String::new();
        GraphicalReportHandler::new_themed(theme)
            .with_context_lines(1)
            .with_width(110)
            .render_report(&mut drawn, report.as_ref())
            .ok()?;
        // The first lines repeat the message, which stands above with its place.
        let lines = drawn.lines().skip_while(|line| !line.contains('╭'));
        Some(lines.map(|line| format!("{line}\n")).collect())
    }
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Yes,
    No,
}

impl Colour {
    /// By the terminal behind standard error, and `NO_COLOR`.
    pub(crate) fn of_stderr() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stderr().is_terminal() && !plain {
            Self::Yes
        } else {
            Self::No
        }
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Clone, Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>);

impl Mistakes {
    /// All of them, and how many there are.
    pub(crate) fn render(&self, colour: Colour) -> String {
        let mut text = String::new();
        for mistake in &self.0 {
            text.push_str(&mistake.render(Severity::Error, colour));
            text.push('\n');
        }
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!(
            "{count} error{plural} in the configuration; nothing was changed or started\n"
        ));
        text
    }

    /// One line for each, for those who cannot draw.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |mistake: &Mistake| {
            let hint = mistake.hint.as_ref().filter(|hint| !hint.is_empty());
            let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            match mistake.position() {
                Some(at) => format!("{at}: {}{hint}", mistake.message),
                None => format!("{}{hint}", mistake.message),
            }
        };
        self.0.iter().map(line).collect()
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::No))
    }
}
