//! Small pictures.

use maud::{Markup, html};

use crate::view::{DayView, OriginHistory};

/// Days that are drawn.
const DAYS: u64 = 90;
const DAY: u64 = 24 * 3600;
/// The size of one day's bar.
const STEP: u64 = 3;
const HEIGHT: u64 = 20;

/// The last days up to this second, the oldest first.
pub(super) fn dates(now: u64) -> Vec<String> {
    let today = now / DAY;
    let days = (0..DAYS).rev().map(|back| today.saturating_sub(back) * DAY);
    days.map(crate::moment::date).collect()
}

/// How these days were: one bar for each, grey where nothing was observed.
pub(super) fn uptime_bars(history: Option<&OriginHistory>, dates: &[String]) -> Markup {
    let none = Vec::new();
    let days = history.map_or(&none, |history| &history.days);
    let mut days = days.iter().peekable();
    let mut paths = [String::new(), String::new(), String::new(), String::new()];
    for (at, date) in (0..).zip(dates) {
        while days.next_if(|day| day.date < *date).is_some() {}
        let day = days.next_if(|day| day.date == *date);
        if let Some(path) = paths.get_mut(grade(day)) {
            let x = at * STEP;
            path.push_str(&format!("M{x} 0h2v{HEIGHT}h-2z"));
        }
    }
    let told = told(history);
    html! {
        svg class="bars" viewBox={ "0 0 " (DAYS * STEP - 1) " " (HEIGHT) } role="img" aria-label=(told) {
            title { (told) }
            @for (path, class) in paths.iter().zip(["unseen", "good", "fair", "bad"]) {
                @if !path.is_empty() { path class=(class) d=(path) {} }
            }
        }
    }
}

/// 0 is not observed, 1 up all the time, 2 down for less than a hundredth, 3 for more.
fn grade(day: Option<&DayView>) -> usize {
    match day.and_then(|day| day.uptime.percent) {
        None => 0,
        Some(percent) if percent >= 100.0 => 1,
        Some(percent) if percent >= 99.0 => 2,
        Some(_) => 3,
    }
}

fn told(history: Option<&OriginHistory>) -> String {
    let Some(history) = history else {
        return "nothing observed yet".to_owned();
    };
    let mut worst: Vec<&DayView> = history
        .days
        .iter()
        .filter(|day| day.uptime.down_ms > 0)
        .collect();
    worst.sort_by_key(|day| std::cmp::Reverse(day.uptime.down_ms));
    let count = history.days.len();
    let mut told = format!("the last {count} observed days of 90");
    if worst.is_empty() {
        told.push_str(": never down");
    }
    for (day, before) in worst
        .iter()
        .take(5)
        .zip([": down on ", ", ", ", ", ", ", ", "])
    {
        let down = super::span(day.uptime.down_ms);
        told.push_str(&format!("{before}{} for {down}", day.date));
    }
    told
}

/// Response times of the last hour, minute by minute; gaps where there were none.
pub(super) fn sparkline(recent: &[Option<f64>]) -> Markup {
    const WIDTH: f64 = 120.0;
    const TALL: f64 = 24.0;
    let most = recent.iter().flatten().copied().fold(0.0_f64, f64::max);
    if most <= 0.0 {
        return html! { span class="faint" { "no answers lately" } };
    }
    #[expect(clippy::cast_precision_loss, reason = "at most sixty places")]
    let step = WIDTH / recent.len().saturating_sub(1).max(1) as f64;
    let mut path = String::new();
    let mut is_drawing = false;
    let mut x = 0.0;
    for value in recent {
        match value {
            Some(value) => {
                let y = TALL - 1.0 - value / most * (TALL - 3.0);
                let order = if is_drawing { 'L' } else { 'M' };
                path.push_str(&format!("{order}{x:.1} {y:.1}"));
                if !is_drawing {
                    // A lone minute is a dot.
                    path.push_str("h0.01");
                }
                is_drawing = true;
            }
            None => is_drawing = false,
        }
        x += step;
    }
    let told =
        format!("median response time, minute by minute, the last hour; at most {most:.1} ms");
    html! {
        svg class="spark" viewBox={ "0 0 " (WIDTH) " " (TALL) } role="img" aria-label=(told) {
            title { (told) }
            path d=(path) {}
        }
    }
}
