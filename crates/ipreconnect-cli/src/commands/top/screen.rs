//! What the screen shows, and what keys do: a plain value.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::admin::view::{History, ListenerView, OriginView};

/// What is known of the gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) origins: Vec<OriginView>,
    pub(super) listeners: Vec<ListenerView>,
    pub(super) history: History,
}

/// What somebody wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Reconnect(String),
    End,
}

/// What keys are for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Look,
    Filter,
    Help,
    /// Whether this origin is really to be tried.
    Ask(String),
}

/// All that the screen shows.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) facts: Option<Facts>,
    /// Why the gateway cannot be seen.
    pub(super) gone: Option<String>,
    pub(super) said: Option<String>,
    pub(super) mode: Mode,
    pub(super) filter: String,
    /// The name of the chosen origin: it stays chosen when others come and go.
    chosen: Option<String>,
    pub(super) is_plain: bool,
}

impl Screen {
    pub(super) fn new(is_plain: bool) -> Self {
        Self {
            is_plain,
            ..Self::default()
        }
    }

    pub(super) fn see(&mut self, facts: Facts) {
        self.facts = Some(facts);
        self.gone = None;
    }

    pub(super) fn lose(&mut self, why: String) {
        self.gone = Some(why);
    }

    pub(super) fn say(&mut self, said: String) {
        self.said = Some(said);
    }

    /// The origins that are shown: what is wrong comes first.
    pub(super) fn shown(&self) -> Vec<&OriginView> {
        let origins = self.facts.iter().flat_map(|facts| &facts.origins);
        let wanted = self.filter.to_lowercase();
        let mut shown: Vec<&OriginView> = origins
            .filter(|one| {
                let is_state = one.phase.contains(&wanted);
                is_state || one.name.to_lowercase().contains(&wanted)
            })
            .collect();
        shown.sort_by_key(|one| rank(&one.phase));
        shown
    }

    /// The chosen origin, and its place among those shown.
    pub(super) fn chosen(&self) -> Option<(usize, &OriginView)> {
        let shown = self.shown();
        let at = self.chosen.as_ref().and_then(|name| {
            let mut shown = shown.iter();
            shown.position(|one| one.name == *name)
        });
        let at = at.unwrap_or_default();
        Some((at, shown.get(at).copied()?))
    }

    fn choose(&mut self, step: isize) {
        let Some((at, _)) = self.chosen() else {
            return;
        };
        let shown = self.shown();
        let next = at
            .saturating_add_signed(step)
            .min(shown.len().saturating_sub(1));
        self.chosen = shown.get(next).map(|one| one.name.clone());
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::End);
        }
        self.said = None;
        match std::mem::take(&mut self.mode) {
            Mode::Look => self.press_looking(key),
            Mode::Help => None,
            Mode::Filter => {
                self.press_filtering(key);
                None
            }
            Mode::Ask(origin) => match key.code {
                KeyCode::Char('y' | 'Y') => Some(Wish::Reconnect(origin)),
                _ => None,
            },
        }
    }

    fn press_looking(&mut self, key: KeyEvent) -> Option<Wish> {
        match key.code {
            KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Esc if self.filter.is_empty() => return Some(Wish::End),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('r') => {
                if let Some((_, origin)) = self.chosen() {
                    self.mode = Mode::Ask(origin.name.clone());
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::PageDown => self.choose(10),
            KeyCode::PageUp => self.choose(-10),
            KeyCode::Home | KeyCode::Char('g') => self.choose(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.choose(isize::MAX),
            _ => {}
        }
        None
    }

    fn press_filtering(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if !character.is_control() => self.filter.push(character),
            _ => {}
        }
        self.mode = Mode::Filter;
    }
}

/// What is worst comes first.
fn rank(phase: &str) -> u8 {
    match phase {
        "down" => 0,
        "suspect" => 1,
        "unknown" | "connecting" => 2,
        "draining" => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests;
