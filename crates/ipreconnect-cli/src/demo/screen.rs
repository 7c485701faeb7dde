//! The demonstration as people see it: one line an act, one mark for each tenth of a second.

use std::io::Write;
use std::time::Duration;

use super::play::Act;
use super::verdict::{Seen, Verdict};
use super::{CLIENTS, EVERY, Format, Stage};
use crate::paint::Paint;

/// Between two marks.
const TICK: Duration = Duration::from_millis(100);
/// Width of the titles: with the numbers beside them a line has less than 80 columns.
const TITLE: usize = 39;

pub(super) struct Screen {
    format: Format,
    paint: Paint,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            paint: Paint::of_stdout(),
        }
    }

    pub(super) fn open(&self, stage: &Stage) {
        let rate = f64::from(CLIENTS) / EVERY.as_secs_f64();
        let (blue, green) = (self.paint("34;1", "blue"), self.paint("32;1", "green"));
        self.say(&format!(
            "\n  {} ask {rate} times a second, each time on a new connection\n\n  \
             clients ──▶ ipreconnect {} ─┬▶ {blue}   {}  preferred\n  {}└▶ {green}  {}  backup\n",
            self.paint("1", &format!("{CLIENTS} clients")),
            stage.address,
            stage.blue.address(),
            " ".repeat(27 + stage.address.to_string().len()),
            stage.green.address(),
        ));
        let (b, g) = (
            self.mark(Some(Colour::Blue)),
            self.mark(Some(Colour::Green)),
        );
        self.say(&format!(
            "  each mark is 0.1 s: {b} blue answered, {g} green answered, {} nobody did\n",
            self.mark(None)
        ));
    }

    pub(super) async fn act(&self, at: Duration, act: Act, stage: &Stage) {
        // The marks have a line of their own: forty of them, and a title, are too wide for many.
        self.print(&format!(
            "  {:>5.1} s  {}\n           ",
            at.as_secs_f64(),
            act.title()
        ));
        let ticks = act.length().as_millis() / TICK.as_millis();
        let mut beat = tokio::time::interval(TICK);
        beat.tick().await;
        let mut before = (stage.blue.answered(), stage.green.answered());
        for _ in 0..ticks {
            beat.tick().await;
            let now = (stage.blue.answered(), stage.green.answered());
            let (blue, green) = (now.0 - before.0, now.1 - before.1);
            before = now;
            let colour = match (blue, green) {
                (0, 0) => None,
                (blue, green) if blue >= green => Some(Colour::Blue),
                _ => Some(Colour::Green),
            };
            self.print(&self.mark(colour));
        }
        self.say("");
    }

    pub(super) fn close(&self, verdict: &Verdict) {
        if self.format == Format::Json {
            if let Ok(text) = serde_json::to_string_pretty(verdict) {
                println!("{text}");
            }
            return;
        }
        self.say("\n  what the clients saw:\n");
        self.say(&self.paint(
            "2",
            &format!("  {:>9}{:<TITLE$}answered  lost  longest stall", "", ""),
        ));
        for seen in &verdict.acts {
            self.say(&self.row(seen));
        }
        let lost = format!("requests lost beyond those in flight: {}", verdict.lost);
        let lost = self.paint(if verdict.lost == 0 { "32;1" } else { "31;1" }, &lost);
        self.say(&format!(
            "\n  {} of {} requests answered\n  in flight at a kill, and lost with it: {}\n  {lost}\n",
            verdict.answered, verdict.offered, verdict.lost_in_flight,
        ));
        let (code, words) = if verdict.holds() {
            ("32;1", "It held.")
        } else {
            ("31;1", "It did not hold: see above.")
        };
        self.say(&format!("  {}\n", self.paint(code, words)));
    }

    fn row(&self, seen: &Seen) -> String {
        let seconds = seen.at_ms as f64 / 1000.0;
        format!(
            "  {seconds:>5.1} s  {:<TITLE$}{:>8}  {:>4}  {:>10} ms",
            seen.act, seen.answered, seen.lost, seen.longest_stall_ms
        )
    }

    pub(super) fn stay(&self, stage: &Stage) {
        self.say(&format!(
            "  still running: try `printf 'hello\\n' | nc {} {}`; end it with Ctrl-C\n",
            stage.address.ip(),
            stage.address.port()
        ));
    }

    fn mark(&self, colour: Option<Colour>) -> String {
        match (colour, self.paint.is_on()) {
            (Some(Colour::Blue), true) => self.paint("34", "▇"),
            (Some(Colour::Green), true) => self.paint("32", "▇"),
            (Some(Colour::Blue), false) => "b".to_owned(),
            (Some(Colour::Green), false) => "g".to_owned(),
            (None, _) => self.paint("31", "·"),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        self.paint.with(code, text)
    }

    fn say(&self, line: &str) {
        self.print(&format!("{line}\n"));
    }

    fn print(&self, text: &str) {
        if self.format == Format::Text {
            let mut out = std::io::stdout().lock();
            // A reader that has gone away must not end the play.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Blue,
    Green,
}
