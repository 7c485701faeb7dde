//! The public page: what is up, what was not, and nothing of where or why. Anybody may see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ipreconnect::clock;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::draw;
use crate::moment::{rfc3339, span};
use crate::server::Api;
use crate::view::{History, HistoryQuestion, LossView, OriginHistory, OriginView};

/// Between two looks at the gateway.
const LOOK: Duration = Duration::from_secs(2);
/// A disk that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Losses that are told of, of so many that are looked at.
const LOSSES: usize = 20;
const LOOKED_AT: u32 = 1_000;
/// Origins that are drawn, those that are worst first: anybody may ask for the page, and take it slowly.
const DRAWN: usize = 100;
/// What takes long to read is read seldom.
const TIMES: u32 = 20;

/// The status pages of a gateway. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StatusPages(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    pages: Vec<Weak<StatusPage>>,
    last: Option<Arc<Facts>>,
}

#[derive(Debug)]
struct Facts {
    origins: Vec<OriginView>,
    history: Arc<History>,
    /// Seconds since the beginning of 1970.
    now: u64,
}

/// One page.
#[derive(Debug)]
pub struct StatusPage {
    title: String,
    /// Those that are told of; none is all.
    origins: Vec<String>,
    drawn: Mutex<Drawn>,
}

/// A page as it is sent.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// For people.
    pub html: Arc<str>,
    /// For programs.
    pub json: Arc<str>,
}

impl StatusPages {
    /// A page with this title, of these origins, or of all.
    #[must_use]
    pub fn page(&self, title: &str, origins: &[String]) -> Arc<StatusPage> {
        let page = Arc::new(StatusPage {
            title: title.to_owned(),
            origins: origins.to_vec(),
            drawn: Mutex::default(),
        });
        let mut shared = self.lock();
        shared.pages.retain(|page| page.strong_count() > 0);
        shared.pages.push(Arc::downgrade(&page));
        let last = shared.last.clone();
        drop(shared);
        page.draw(last.as_deref());
        page
    }

    /// Draws the pages again and again, for as long as it runs.
    pub async fn run(self, api: Api) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let pages: Vec<_> = {
                let shared = self.lock();
                shared.pages.iter().filter_map(Weak::upgrade).collect()
            };
            if pages.is_empty() {
                continue;
            }
            let began = clock::now();
            let question = HistoryQuestion {
                limit: Some(LOOKED_AT),
                scope: Some("origin".to_owned()),
                ..HistoryQuestion::default()
            };
            let read = tokio::time::timeout(PATIENCE, api.read(question)).await;
            let history = read.ok().and_then(Result::ok).unwrap_or_default();
            let facts = Arc::new(Facts {
                history: Arc::new(history),
                origins: api.gateway().origins(),
                now: clock::since_unix().as_secs(),
            });
            look.reset_after(LOOK.max(began.elapsed() * TIMES));
            self.lock().last = Some(Arc::clone(&facts));
            let drawing = tokio::task::spawn_blocking(move || {
                for page in pages {
                    page.draw(Some(&facts));
                }
            });
            // A page that cannot be drawn stays as it was.
            let _ = drawing.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusPage {
    /// How it looks now.
    #[must_use]
    pub fn drawn(&self) -> Drawn {
        let drawn = self.drawn.lock();
        drawn.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is styled by.
    #[must_use]
    pub fn style() -> &'static str {
        include_str!("style.css")
    }

    fn draw(&self, facts: Option<&Facts>) {
        let drawn = match facts {
            Some(facts) => self.of(facts),
            None => Drawn {
                html: whole(
                    &self.title,
                    &html! { p { "The gateway has just started." } },
                ),
                json: json!({ "schema": 1, "title": self.title, "origins": [] })
                    .to_string()
                    .into(),
            },
        };
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = drawn;
    }

    fn is_told(&self, origin: &str) -> bool {
        self.origins.is_empty() || self.origins.iter().any(|name| name == origin)
    }

    fn of(&self, facts: &Facts) -> Drawn {
        let told = facts.origins.iter().filter(|one| self.is_told(&one.name));
        let mut lines: Vec<Line<'_>> = told.map(|origin| Line::of(origin, facts)).collect();
        lines.sort_by_key(|line| line.grade);
        let losses = facts.history.losses.iter();
        let is_there = |name: &str| lines.iter().any(|line| line.name == name);
        let losses: Vec<&LossView> = losses
            .filter(|loss| is_there(&loss.origin))
            .take(LOSSES)
            .collect();
        let dates = draw::dates(facts.now);
        let body = html! {
            (summary(&lines))
            @for line in lines.iter().take(DRAWN) { (line.draw(&dates)) }
            @if lines.len() > DRAWN { p { "And " (lines.len() - DRAWN) " more." } }
            (past(&losses))
            p class="faint" { "As of " (rfc3339(facts.now.saturating_mul(1000)).replace('T', " ").replace(".000Z", " UTC")) }
        };
        Drawn {
            html: whole(&self.title, &body),
            json: self.json(&lines, &losses, facts).to_string().into(),
        }
    }

    fn json(&self, lines: &[Line<'_>], losses: &[&LossView], facts: &Facts) -> Value {
        let origins: Vec<Value> = lines.iter().map(Line::json).collect();
        let losses: Vec<Value> = losses
            .iter()
            .map(|loss| {
                json!({ "origin": loss.origin, "began": loss.first_sign, "lasted_ms": loss.lasted_ms })
            })
            .collect();
        json!({
            "schema": 1,
            "title": self.title,
            "time": rfc3339(facts.now.saturating_mul(1000)),
            "origins": origins,
            "losses": losses,
        })
    }
}

/// One origin.
struct Line<'f> {
    name: &'f str,
    grade: Grade,
    /// For so long, in milliseconds.
    lasted: u64,
    history: Option<&'f OriginHistory>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Down,
    Unsure,
    /// By somebody's order.
    OutOfService,
    Up,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Unsure => "being looked at",
            Self::OutOfService => "out of service",
            Self::Up => "up",
        }
    }

    /// How it looks as a whole.
    fn tone(self) -> &'static str {
        match self {
            Self::Down => "bad",
            Self::Unsure | Self::OutOfService => "fair",
            Self::Up => "good",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Down => "state bad",
            Self::Unsure | Self::OutOfService => "state fair",
            Self::Up => "state good",
        }
    }
}

impl<'f> Line<'f> {
    fn of(origin: &'f OriginView, facts: &'f Facts) -> Self {
        let histories = &facts.history.origins;
        Self {
            name: &origin.name,
            grade: match origin.phase.as_str() {
                "up" => Grade::Up,
                "down" => Grade::Down,
                "draining" => Grade::OutOfService,
                _ => Grade::Unsure,
            },
            lasted: origin.for_ms,
            history: histories.iter().find(|history| history.name == origin.name),
        }
    }

    fn draw(&self, dates: &[String]) -> Markup {
        html! {
            article class="card" {
                h2 {
                    (self.name) " " span class=(self.grade.class()) { (self.grade.word()) }
                    @if self.grade != Grade::Up { " " span class="faint" { "for " (span(self.lasted)) } }
                }
                (draw::uptime_bars(self.history, dates))
                @if let Some(history) = self.history {
                    p class="uptimes" {
                        @for (words, uptime) in history.spans() {
                            span class="pair" { (words) " " b { (uptime.shown()) } } " "
                        }
                    }
                }
            }
        }
    }

    fn json(&self) -> Value {
        let uptime: serde_json::Map<String, Value> = self
            .history
            .into_iter()
            .flat_map(OriginHistory::spans)
            .map(|(words, uptime)| (words.to_owned(), uptime.percent.into()))
            .collect();
        json!({ "name": self.name, "state": self.grade.word(), "for_ms": self.lasted, "uptime": uptime })
    }
}

fn summary(lines: &[Line<'_>]) -> Markup {
    let down = lines
        .iter()
        .filter(|line| line.grade == Grade::Down)
        .count();
    let worst = lines.iter().map(|line| line.grade).min();
    html! {
        p class={ "summary " (worst.map_or("", Grade::tone)) } role="status" {
            @match worst {
                None => "There is nothing to tell of.",
                Some(Grade::Up) => "Everything is up.",
                Some(Grade::Unsure) => "Some of it is being looked at.",
                Some(Grade::OutOfService) => "Some of it is out of service.",
                Some(Grade::Down) => { (down) " of " (lines.len()) " down." }
            }
        }
    }
}

fn past(losses: &[&LossView]) -> Markup {
    html! {
        section class="card" {
            h2 { "What was" }
            @if losses.is_empty() { p { "Nothing was lost as far as this is known." } }
            ul {
                @for loss in losses {
                    li {
                        (loss.first_sign.get(..16).unwrap_or(&loss.first_sign).replace('T', " ")) " UTC  "
                        b { (loss.origin) }
                        @match loss.lasted_ms {
                            Some(lasted) => { " was down for " (span(lasted)) },
                            None => " is down",
                        }
                    }
                }
            }
        }
    }
}

/// The whole page. It is loaded again by itself, and runs nothing.
fn whole(title: &str, body: &Markup) -> Arc<str> {
    let again = html! { meta http-equiv="refresh" content="15"; };
    let body = html! {
        body class="public" {
            header { h1 { (title) } }
            main { (body) }
        }
    };
    let page = super::frame(title, "/status.css", &again, &body);
    page.into_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_others_are_not_told_of() {
        let pages = StatusPages::default();
        let page = pages.page("<b>Shop</b>", &["<i>".to_owned()]);
        assert!(page.drawn().html.contains("&lt;b&gt;Shop"));
        let origin = |name: &str, phase: &str| OriginView {
            name: name.to_owned(),
            phase: phase.to_owned(),
            for_ms: 61_000,
            ..OriginView::default()
        };
        let facts = Facts {
            origins: vec![origin("<i>", "down"), origin("secret", "up")],
            history: Arc::default(),
            now: clock::since_unix().as_secs(),
        };
        let drawn = page.of(&facts);
        assert!(drawn.html.contains("&lt;i&gt;") && drawn.html.contains("for 1 m 1 s"));
        assert!(!drawn.html.contains("secret") && !drawn.json.contains("secret"));
        assert!(drawn.html.contains("1 of 1 down."));
        let json: Value = serde_json::from_str(&drawn.json).unwrap();
        assert_eq!(json["origins"][0]["state"], "down");
    }
}
