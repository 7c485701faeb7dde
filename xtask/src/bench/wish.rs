//! The arguments of a benchmark.

use std::process::ExitCode;

use super::peers::Builds;
use super::proxy::Proxy;

const ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 99;

/// What a benchmark measures of each proxy.
pub(crate) trait Subject: Copy + PartialEq + 'static {
    const ALL: &'static [Self];
    /// As `--only` takes it.
    fn name(self) -> &'static str;
}

/// What is to be measured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish<S> {
    pub(crate) rounds: usize,
    pub(crate) subjects: Vec<S>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) builds: Builds,
}

impl<S: Subject> Wish<S> {
    /// `[--rounds N] [--only NAME]… [--current-peers]`, where a name is a subject's or a proxy's.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut wish = Self {
            rounds: ROUNDS,
            subjects: Vec::new(),
            proxies: Vec::new(),
            builds: Builds::System,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match *word {
                "--rounds" => wish.rounds = rounds(value()?)?,
                "--only" => wish.only(value()?)?,
                "--current-peers" => wish.builds = Builds::Current,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        if wish.subjects.is_empty() {
            wish.subjects = S::ALL.to_vec();
        }
        if wish.proxies.is_empty() {
            wish.proxies = Proxy::ALL.to_vec();
        }
        Ok(wish)
    }

    /// Whether the whole table is measured.
    pub(crate) fn is_complete(&self) -> bool {
        self.subjects.len() == S::ALL.len() && self.proxies.len() == Proxy::ALL.len()
    }

    fn only(&mut self, name: &str) -> Result<(), String> {
        let subject = S::ALL.iter().copied().find(|s| s.name() == name);
        let proxy = Proxy::ALL.into_iter().find(|p| p.name() == name);
        if subject.is_none() && proxy.is_none() {
            let subjects: Vec<&str> = S::ALL.iter().map(|subject| subject.name()).collect();
            let names = [&subjects[..], &Proxy::ALL.map(Proxy::name)].concat();
            return Err(format!("--only takes one of {}", names.join(", ")));
        }
        // A name that is given twice is meant once.
        self.subjects
            .extend(subject.filter(|s| !self.subjects.contains(s)));
        self.proxies
            .extend(proxy.filter(|p| !self.proxies.contains(p)));
        Ok(())
    }
}

/// The arguments of a benchmark that takes nothing but `[--rounds N]`; where they are wrong, that is told, and how the
/// program is to end.
pub(super) fn rounds_alone(arguments: &[&str]) -> Result<usize, ExitCode> {
    let read = match arguments {
        [] => Ok(ROUNDS),
        ["--rounds", count] => rounds(count),
        ["--rounds"] => Err("--rounds needs a value".to_owned()),
        [word, ..] => Err(format!("unknown argument {word}")),
    };
    read.map_err(|why| {
        eprintln!("error: {why}");
        ExitCode::from(2)
    })
}

fn rounds(word: &str) -> Result<usize, String> {
    word.parse()
        .ok()
        .filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))
        .ok_or(format!("--rounds takes 1 to {MOST_ROUNDS}, not {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::Scenario;

    #[test]
    fn nothing_means_everything() {
        let wish = Wish::<Scenario>::parse(&[]).unwrap();
        assert_eq!(wish.rounds, ROUNDS);
        assert!(wish.is_complete());
        assert_eq!(wish.builds, Builds::System);
    }

    #[test]
    fn only_names_scenarios_and_proxies() {
        let words = [
            "--only", "frozen", "--only", "nginx", "--only", "nginx", "--rounds", "1",
        ];
        let wish = Wish::<Scenario>::parse(&words).unwrap();
        assert_eq!(wish.subjects, [Scenario::Frozen]);
        assert_eq!(wish.proxies, [Proxy::Nginx]);
        assert_eq!(wish.rounds, 1);
        assert!(!wish.is_complete());
    }

    #[test]
    fn mistakes_are_told() {
        for (words, told) in [
            (
                &["--only", "squid"][..],
                "--only takes one of crash-with-backup",
            ),
            (&["--rounds", "0"], "--rounds takes 1 to 99, not 0"),
            (&["--rounds"], "--rounds needs a value"),
            (&["--fast"], "unknown argument --fast"),
        ] {
            let error = Wish::<Scenario>::parse(words).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
