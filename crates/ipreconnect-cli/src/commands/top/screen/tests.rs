use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::draw::draw;
use super::*;
use crate::admin::view::{EndpointView, FailureView, LossView};

fn origin(name: &str, phase: &str) -> OriginView {
    OriginView {
        name: name.to_owned(),
        phase: phase.to_owned(),
        for_ms: 133_000,
        required: true,
        feature: None,
        waiting: 3,
        given_up: false,
        preferred: None,
        failure: (phase == "down").then(|| FailureView {
            layer: "transport".to_owned(),
            cause: "connection refused\u{1b}[2J".to_owned(),
            advice: "is the server running?".to_owned(),
        }),
        identity: "unproven".to_owned(),
        endpoints: vec![EndpointView {
            address: "10.0.0.1:5432".to_owned(),
            priority: 0,
            health: phase.to_owned(),
            for_ms: 133_000,
            takes_work: phase == "up",
            connect_us: Some(812),
            warm: 0,
            open: 4,
            served: 90,
            ejected: None,
            failed_here: 0,
            failure: None,
        }],
        names: Vec::new(),
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new(true);
    screen.see(Facts {
        origins: vec![
            origin("payments", "up"),
            origin("orders-db", "down"),
            origin("search", "up"),
        ],
        listeners: Vec::new(),
        history: History {
            losses: vec![LossView {
                origin: "orders-db".to_owned(),
                scope: "origin".to_owned(),
                cause: "connection refused".to_owned(),
                first_sign: "2026-11-22T09:41:40.000Z".to_owned(),
                ..LossView::default()
            }],
            ..History::default()
        },
    });
    screen
}

fn press(screen: &mut Screen, code: KeyCode) -> Option<Wish> {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

/// As it is seen on a terminal of this size.
fn seen(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn what_is_wrong_comes_first_and_says_why() {
    let seen = seen(&screen(), 80, 24);
    for wanted in [
        "orders-db is down",
        "9 held",
        "why: transport: connection refused␛[2J; is the server running?",
        "it is tried again by its schedule",
        "09:41:40  lasts",
        "? help",
    ] {
        assert!(seen.contains(wanted), "{wanted}\n{seen}");
    }
    let place = |name: &str| seen.find(name).unwrap();
    assert!(place("orders-db ") < place("payments"), "{seen}");
}

#[test]
fn it_is_drawn_on_any_terminal() {
    let mut screen = screen();
    for (width, height) in [(80, 24), (20, 5), (1, 1), (300, 80)] {
        screen.mode = Mode::Help;
        seen(&screen, width, height);
        screen.mode = Mode::Look;
        seen(&screen, width, height);
    }
    seen(&Screen::new(false), 80, 24);
}

#[test]
fn an_origin_is_tried_only_after_two_keys() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, KeyCode::Down), None);
    assert_eq!(press(&mut screen, KeyCode::Char('r')), None);
    assert_eq!(screen.mode, Mode::Ask("payments".to_owned()));
    assert_eq!(press(&mut screen, KeyCode::Char('n')), None);
    press(&mut screen, KeyCode::Char('r'));
    let wish = press(&mut screen, KeyCode::Char('y'));
    assert_eq!(wish, Some(Wish::Reconnect("payments".to_owned())));
}

#[test]
fn a_filter_leaves_what_has_it() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Char('/'));
    for character in "SEAR".chars() {
        press(&mut screen, KeyCode::Char(character));
    }
    press(&mut screen, KeyCode::Enter);
    assert_eq!(screen.shown().len(), 1);
    assert_eq!(screen.chosen().unwrap().1.name, "search");
    assert_eq!(press(&mut screen, KeyCode::Esc), None);
    assert_eq!(screen.shown().len(), 3);
    assert_eq!(press(&mut screen, KeyCode::Esc), Some(Wish::End));
}

#[test]
fn the_choice_stays_with_its_origin() {
    let mut screen = screen();
    press(&mut screen, KeyCode::End);
    assert_eq!(screen.chosen().unwrap().1.name, "search");
    let mut facts = screen.facts.clone().unwrap();
    facts.origins.remove(0);
    screen.see(facts);
    assert_eq!(screen.chosen().unwrap().1.name, "search");
    screen.see(Facts::default());
    assert!(screen.chosen().is_none());
    press(&mut screen, KeyCode::Up);
}
