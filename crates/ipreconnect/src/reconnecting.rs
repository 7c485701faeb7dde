//! One connection that is kept.

use std::fmt;
use std::future::Future;
use std::io;

use ipreconnect_core::failure::{Cause, Failure};

use crate::dial;
use crate::error::Error;
use crate::link::Link;
use crate::origin::{Origin, Whom};
use crate::race::Boxed;

type Handshake<T> = Box<dyn Fn(Link) -> Boxed<'static, Result<T, Failure>> + Send + Sync>;

/// A connection that is made again whenever it is lost. See [`Origin::reconnecting`].
pub struct Reconnecting<T> {
    origin: Origin,
    handshake: Handshake<T>,
    session: Option<T>,
}

impl<T: Send + 'static> Reconnecting<T> {
    pub(crate) fn new<F, H>(origin: Origin, handshake: H) -> Self
    where
        F: Future<Output = io::Result<T>> + Send + 'static,
        H: Fn(Link) -> F + Send + Sync + 'static,
    {
        Self {
            origin,
            handshake: Box::new(move |link| {
                let proof = handshake(link);
                Box::pin(async move { proof.await.map_err(|error| refused(&error)) })
            }),
            session: None,
        }
    }

    /// The session: the one that is there, or a new one, for which the caller may wait in the hold.
    /// An endpoint whose handshake fails has lost the race; the next one is tried.
    ///
    /// # Errors
    /// As [`Origin::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future drops what was being made, never a session that is there.
    pub async fn ready(&mut self) -> Result<&mut T, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let chooser = self.origin.chooser();
                self.origin
                    .connect_proven(&chooser, Whom::default(), &*self.handshake)
                    .await?
            }
        };
        Ok(self.session.insert(session))
    }

    /// The session is broken: the next [`ready`](Self::ready) makes a new one.
    pub fn lost(&mut self) {
        self.session = None;
    }

    /// The session, if there is one now.
    pub fn session(&mut self) -> Option<&mut T> {
        self.session.as_mut()
    }
}

impl<T> fmt::Debug for Reconnecting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("origin", &self.origin.name())
            .field("connected", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

fn refused(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(_) => dial::failure(error),
        None => Failure::with_detail(Cause::Handshake, error.to_string()),
    }
}
