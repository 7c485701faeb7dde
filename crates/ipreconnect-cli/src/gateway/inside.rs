//! Listeners inside other network namespaces: where those are, and that they come and go.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipreconnect_ports::{Inside, Namespace};

use crate::exit::{Exit, Refusal};

/// The namespaces of listeners.
#[derive(Debug, Default)]
pub(super) struct Insides(Mutex<BTreeMap<String, Found>>);

/// What was known.
#[derive(Debug)]
pub(super) struct Kept(BTreeMap<String, Found>);

/// What became of the namespace of a listener.
#[derive(Debug)]
pub(super) enum Moved {
    /// It is where it was, or nowhere as before.
    No,
    /// This one is in its place.
    To(Namespace),
    /// It has gone.
    Away,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Found {
    /// The one that the listener was opened in.
    opened: Option<Namespace>,
    /// What was told of it last: that something is in the way is said once.
    told: Option<String>,
}

impl Insides {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now, to come back to it where a change fails.
    pub(super) fn kept(&self) -> Kept {
        Kept(self.all().clone())
    }

    pub(super) fn come_back(&self, kept: Kept) {
        *self.all() = kept.0;
    }

    /// The namespace in which a listener is to be opened; none if it is to be in ours, or if its own is not there yet.
    /// Containers come and go; a process that is named by its number does not come back.
    ///
    /// # Errors
    /// If it cannot be there, or may not be looked at.
    pub(super) fn find(
        &self,
        name: &str,
        inside: Option<&Inside>,
    ) -> Result<Option<Namespace>, Refusal> {
        let Some(inside) = inside else {
            self.forget(name);
            return Ok(None);
        };
        let found = match inside.find(None) {
            Ok(found) => Some(found),
            Err(error) if is_late(inside, &error) => {
                tracing::warn!(listener = name, netns = %inside, %error, next = "it is opened as soon as that is there", "the network namespace of a listener is not there");
                None
            }
            Err(error) => {
                let message = format!("listener {name} cannot be inside {inside}");
                return Err(Refusal::new(Exit::Wrong, message)
                    .because(&error)
                    .hint("it takes root, or CAP_SYS_ADMIN and CAP_SYS_PTRACE"));
            }
        };
        let told = found.is_none().then(|| "not there".to_owned());
        let known = Found {
            opened: found.clone(),
            told,
        };
        self.all().insert(name.to_owned(), known);
        Ok(found)
    }

    /// The one that a listener was opened in.
    pub(super) fn found(&self, name: &str) -> Option<Namespace> {
        self.all().get(name)?.opened.clone()
    }

    pub(super) fn forget(&self, name: &str) {
        self.all().remove(name);
    }

    /// Looks whether a listener is in the namespace that it is to be in now.
    pub(super) fn moved(&self, name: &str, inside: Option<&Inside>) -> Moved {
        let mut all = self.all();
        let (Some(inside), Some(known)) = (inside, all.get_mut(name)) else {
            return Moved::No;
        };
        if let (Inside::Pid(_), Some(_)) = (inside, &known.opened) {
            // Another process may have its number by now.
            return Moved::No;
        }
        let before = known.opened.as_ref();
        match inside.find(before) {
            Ok(now) if before.is_some_and(|before| before.inode == now.inode) => {
                known.told = None;
                Moved::No
            }
            Ok(now) => Moved::To(now),
            Err(error) => {
                known.tell(name, &error);
                let is_away = error.kind() == io::ErrorKind::NotFound;
                match known.opened.take_if(|_| is_away) {
                    Some(_) => Moved::Away,
                    None => Moved::No,
                }
            }
        }
    }

    /// A listener is there now.
    pub(super) fn opened(&self, name: &str, namespace: Namespace) {
        let known = Found {
            opened: Some(namespace),
            told: None,
        };
        self.all().insert(name.to_owned(), known);
    }

    /// A listener cannot be there, and is tried again.
    pub(super) fn failed(&self, name: &str, why: &impl Display) {
        if let Some(known) = self.all().get_mut(name) {
            known.opened = None;
            known.tell(name, why);
        }
    }
}

impl Found {
    fn tell(&mut self, name: &str, why: &impl Display) {
        let why = why.to_string();
        if self.told.as_ref() != Some(&why) {
            tracing::warn!(listener = name, %why, next = "it is looked for twice a second", "a listener is not inside its network namespace");
            self.told = Some(why);
        }
    }
}

fn is_late(inside: &Inside, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && !matches!(inside, Inside::Pid(_))
}
