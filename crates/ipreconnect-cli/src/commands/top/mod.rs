//! `top`: origins, losses and held clients, live in the terminal.

mod draw;
mod screen;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use hyper::Method;
use ipreconnect_admin::encoded;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::admin::client::ask;
use crate::admin::view::{History, Listeners, Origins, Outcome};
use crate::args::Arguments;
use crate::exit::{Exit, Refusal};
use screen::{Facts, Screen, Wish};

/// Between two questions to the gateway.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard.
const BEAT: Duration = Duration::from_millis(100);
/// Losses that are asked for.
const LOSSES: u32 = 50;

/// What comes back from the gateway.
enum Heard {
    Facts(Box<Facts>),
    Gone(String),
    Said(String),
}

/// Shows the running gateway until somebody has seen enough.
pub(crate) fn top(arguments: &Arguments) -> Result<Exit, Refusal> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Refusal::new(Exit::Wrong, "`top` needs a terminal")
            .hint("`ipreconnect status` prints the same once"));
    }
    let socket = super::status::socket(arguments)?;
    // Whoever mistypes a path is told so, and not shown an empty screen.
    super::block_on(ask::<Origins>(&socket, Method::GET, "/v1/origins"))?;
    let (wishes, wished) = channel();
    let (tell, heard) = channel();
    std::thread::spawn(move || attend(&socket, &wished, &tell));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut terminal = ratatui::init();
    let shown = show(&mut terminal, Screen::new(plain), &wishes, &heard);
    ratatui::restore();
    shown.map_err(|error| Refusal::new(Exit::NotFine, "the terminal is gone").because(&error))?;
    Ok(Exit::Fine)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    mut screen: Screen,
    wishes: &Sender<Wish>,
    heard: &Receiver<Heard>,
) -> io::Result<()> {
    loop {
        while let Ok(heard) = heard.try_recv() {
            match heard {
                Heard::Facts(facts) => screen.see(*facts),
                Heard::Gone(why) => screen.lose(why),
                Heard::Said(said) => screen.say(said),
            }
        }
        terminal.draw(|frame| draw::draw(frame, &screen))?;
        if !event::poll(BEAT)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match screen.press(key) {
                Some(Wish::End) => return Ok(()),
                // A thread that has ended has told why.
                Some(wish) => drop(wishes.send(wish)),
                None => {}
            }
        }
    }
}

/// Asks the gateway again and again, and what is wished in between.
fn attend(socket: &Path, wished: &Receiver<Wish>, tell: &Sender<Heard>) {
    loop {
        let heard = match look(socket) {
            Ok(facts) => Heard::Facts(Box::new(facts)),
            Err(refusal) => Heard::Gone(refusal.to_string()),
        };
        if tell.send(heard).is_err() {
            return;
        }
        match wished.recv_timeout(AGAIN) {
            Ok(Wish::Reconnect(origin)) => {
                let said = reconnect(socket, &origin);
                if tell.send(Heard::Said(said)).is_err() {
                    return;
                }
            }
            Ok(Wish::End) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

fn look(socket: &Path) -> Result<Facts, Refusal> {
    super::block_on(async {
        let (_, origins) = ask::<Origins>(socket, Method::GET, "/v1/origins").await?;
        let (_, listeners) = ask::<Listeners>(socket, Method::GET, "/v1/listeners").await?;
        let path = format!("/v1/history?limit={LOSSES}");
        // A ledger that cannot be read is no reason to show nothing.
        let history = ask::<History>(socket, Method::GET, &path).await;
        Ok(Facts {
            origins: origins.origins,
            listeners: listeners.listeners,
            history: history.map(|(_, history)| history).unwrap_or_default(),
        })
    })
}

fn reconnect(socket: &Path, origin: &str) -> String {
    let path = format!("/v1/origins/{}/reconnect", encoded(origin));
    match super::block_on(ask::<Outcome>(socket, Method::POST, &path)) {
        Ok((_, outcome)) => outcome.messages.join("; "),
        Err(refusal) => refusal.to_string(),
    }
}
