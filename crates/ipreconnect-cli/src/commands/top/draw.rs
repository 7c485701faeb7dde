//! The screen as it is drawn.

use ipreconnect_admin::moment::span;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::screen::{Mode, Screen};
use crate::admin::view::{LossView, OriginView};
use crate::paint::plain;

const KEYS: [(&str, &str); 8] = [
    ("↑ ↓, j k", "choose an origin"),
    ("PgUp PgDn", "ten at once; Home, End"),
    (
        "/",
        "show only origins whose name or state has this; Esc shows all",
    ),
    ("r", "try the chosen origin again now"),
    ("?", "these keys"),
    ("q, Esc", "leave"),
    ("", ""),
    (
        "",
        "What is down comes first. Nothing is done before it is asked for twice.",
    ),
];

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let [top, origins, detail, losses, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(5),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(summary(screen), top);
    draw_origins(frame, screen, origins);
    draw_detail(frame, screen, detail);
    draw_losses(frame, screen, losses);
    frame.render_widget(footer(screen), bottom);
    if screen.mode == Mode::Help {
        draw_help(frame);
    }
}

fn colour(screen: &Screen, colour: Color) -> Style {
    if screen.is_plain {
        Style::new()
    } else {
        Style::new().fg(colour)
    }
}

fn state_style(screen: &Screen, state: &str) -> Style {
    match state {
        "up" => colour(screen, Color::Green),
        "down" => colour(screen, Color::Red).add_modifier(Modifier::BOLD),
        _ => colour(screen, Color::Yellow),
    }
}

fn summary(screen: &Screen) -> Line<'static> {
    let bold = Modifier::BOLD | Modifier::REVERSED;
    if let Some(why) = &screen.gone {
        let why = why.lines().next().unwrap_or_default().to_owned();
        let style = colour(screen, Color::Red).add_modifier(bold);
        return Line::styled(format!(" {} ", plain(&why)), style);
    }
    let Some(facts) = &screen.facts else {
        return Line::from(" asking the gateway …");
    };
    let down: Vec<&OriginView> = facts
        .origins
        .iter()
        .filter(|one| one.phase == "down")
        .collect();
    let others = facts
        .origins
        .iter()
        .filter(|one| !matches!(one.phase.as_str(), "up" | "down"));
    let waiting: u32 = facts.origins.iter().map(|one| one.waiting).sum();
    let carried: u64 = facts.listeners.iter().map(|one| one.carrying).sum();
    let (words, shade) = match (down.as_slice(), others.count()) {
        ([], 0) => (
            format!("all {} origins are up", facts.origins.len()),
            Color::Green,
        ),
        ([], some) => (format!("{some} not proven to be up"), Color::Yellow),
        ([one], _) => (format!("{} is down", plain(&one.name)), Color::Red),
        (some, _) => (format!("{} origins are down", some.len()), Color::Red),
    };
    Line::from(vec![
        Span::styled(
            format!(" {words} "),
            colour(screen, shade).add_modifier(bold),
        ),
        Span::raw(format!("  {waiting} held, {carried} carried now")),
    ])
}

fn draw_origins(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let rows = screen.shown().into_iter().map(|origin| {
        let used = origin.endpoints.iter().find(|one| one.takes_work);
        let open: u32 = origin.endpoints.iter().map(|one| one.open).sum();
        let connect = used.and_then(|one| one.connect_us);
        let connect = connect.map(|micros| format!("{:.1} ms", micros as f64 / 1000.0));
        let server = used.map_or("–".into(), |one| plain(&one.address).into_owned());
        let role = if origin.is_on_backup() {
            " (backup)"
        } else {
            ""
        };
        Row::new([
            Span::styled(origin.phase.clone(), state_style(screen, &origin.phase)),
            Span::raw(plain(&origin.name).into_owned()),
            Span::raw(format!("{server}{role}")),
            Span::raw(span(origin.for_ms)),
            Span::raw(origin.waiting.to_string()),
            Span::raw(open.to_string()),
            Span::raw(connect.unwrap_or_default()),
        ])
    });
    let widths = [
        Constraint::Length(10),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(9),
    ];
    let head = Row::new([
        "state", "origin", "server", "for", "held", "open", "connects",
    ]);
    let title = match screen.filter.as_str() {
        "" => " origins ".to_owned(),
        filter => format!(" origins with {filter:?} "),
    };
    let table = Table::new(rows, widths)
        .header(head.style(Style::new().add_modifier(Modifier::DIM)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::TOP).title(title));
    let mut state = TableState::default();
    state.select(screen.chosen().map(|(at, _)| at));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_detail(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let Some((_, origin)) = screen.chosen() else {
        frame.render_widget(Block::new().borders(Borders::TOP), area);
        return;
    };
    let mut lines = Vec::new();
    if let Some(failure) = &origin.failure {
        lines.push(Line::from(format!(
            "why: {}: {}; {}",
            failure.layer,
            plain(&failure.cause),
            failure.advice
        )));
    }
    if origin.phase == "down" {
        lines.push(Line::from(if origin.given_up {
            "the attempts are used up; r tries again"
        } else {
            "it is tried again by its schedule; who comes meanwhile waits in the hold"
        }));
    }
    if let Some(preferred) = &origin.preferred {
        lines.push(Line::from(format!(
            "new work goes to {} by order",
            plain(preferred)
        )));
    }
    for endpoint in &origin.endpoints {
        let mark = if endpoint.takes_work { "▶" } else { " " };
        let role = match endpoint.priority {
            0 => "preferred".to_owned(),
            priority => format!("backup {priority}"),
        };
        let failure = endpoint.failure.as_ref();
        let failure = failure.map(|failure| format!("  {}", plain(&failure.cause)));
        lines.push(Line::from(vec![
            Span::raw(format!(
                "{mark} {:<24} {role:<10} ",
                plain(&endpoint.address)
            )),
            Span::styled(
                endpoint.health.clone(),
                state_style(screen, &endpoint.health),
            ),
            Span::raw(format!(" for {}", span(endpoint.for_ms))),
            Span::raw(failure.unwrap_or_default()),
        ]));
    }
    let title = format!(" {} ({}) ", plain(&origin.name), origin.identity);
    let block = Block::new().borders(Borders::TOP).title(title);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_losses(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let none = Vec::new();
    let losses = screen
        .facts
        .as_ref()
        .map_or(&none, |facts| &facts.history.losses);
    let told = losses.iter().filter(|loss| !loss.is_told_by(losses));
    let lines: Vec<Line<'_>> = told.map(|loss| loss_line(screen, loss)).collect();
    let block = Block::new()
        .borders(Borders::TOP)
        .title(" losses, the latest first ");
    let text = if lines.is_empty() {
        Paragraph::new("none so far")
    } else {
        Paragraph::new(lines)
    };
    frame.render_widget(text.block(block), area);
}

fn loss_line(screen: &Screen, loss: &LossView) -> Line<'static> {
    let time = loss.first_sign.get(11..19).unwrap_or_default().to_owned();
    let what = match (&loss.endpoint, loss.scope.as_str()) {
        (Some(endpoint), "endpoint") => format!("lost {}", plain(endpoint)),
        _ => "down".to_owned(),
    };
    let (lasted, style) = match loss.lasted_ms {
        None => ("lasts".to_owned(), state_style(screen, "down")),
        Some(lasted) => (span(lasted), Style::new()),
    };
    Line::from(vec![
        Span::raw(format!("{time}  ")),
        Span::styled(format!("{lasted:<10} "), style),
        Span::raw(format!(
            "{} {what}: {}",
            plain(&loss.origin),
            plain(&loss.cause)
        )),
    ])
}

fn footer(screen: &Screen) -> Line<'static> {
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    match &screen.mode {
        Mode::Filter => Line::from(format!(
            "/{}▏  Enter keeps it, Esc shows all",
            screen.filter
        )),
        Mode::Ask(origin) => Line::styled(
            format!(
                " Try {} again now, whatever its schedule says? y / n ",
                plain(origin)
            ),
            reversed,
        ),
        Mode::Look | Mode::Help => match &screen.said {
            Some(said) => Line::styled(format!(" {} ", plain(said)), reversed),
            None => Line::from(" ? help   / filter   r reconnect now   q leave"),
        },
    }
}

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (area.width.min(72), area.height.min(12));
    let area = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| match *key {
            "" => Line::from(*what),
            key => Line::from(format!("  {key:<11} {what}")),
        })
        .collect();
    let block = Block::new()
        .borders(Borders::ALL)
        .title(" ipreconnect top ");
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(lines)
            .wrap(Wrap { trim: false })
            .block(block),
        area,
    );
}
