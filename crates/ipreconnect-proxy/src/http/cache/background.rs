//! Asking for an answer anew while the one that is there is served.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipreconnect::clock;
use ipreconnect::core::http::{RequestHead, ResponseBody, ResponseHead};

use super::Entry;
use super::keeping::Keeping;
use crate::http::body::Reader;
use crate::http::exchange::Exchange;
use crate::http::record::Record;
use crate::http::render::Coding;
use crate::http::side::{Lead, Side};
use crate::http::through::{self, Ways};
use crate::http::timer::Timer;
use crate::http::window::Window;
use crate::http::wire::{Half, Wire};

/// The side of a client that is not there: it takes everything, and keeps nothing.
struct Nobody {
    text: Vec<u8>,
    timer: Timer,
}

impl Side for Nobody {
    fn text(&self) -> &[u8] {
        &self.text
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn take_early(&mut self, _: &mut Reader, _: &mut Window) -> Result<(), ()> {
        Ok(())
    }

    fn poll_more(
        &mut self,
        _: &mut Context<'_>,
        _: &mut Reader,
        _: &mut Window,
    ) -> Poll<Result<bool, ()>> {
        Poll::Ready(Err(()))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>, _: Half) -> Poll<()> {
        Poll::Pending
    }

    fn coding(&self, _: ResponseBody, _: &RequestHead) -> Coding {
        Coding::Frames
    }

    fn inform(&mut self, _: &ResponseHead, _: &[u8]) {}

    fn respond(&mut self, _: &Lead<'_>, _: &[u8]) -> usize {
        0
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: Coding, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn deliver(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn is_there(&self) -> bool {
        false
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn waiting(&self) -> usize {
        0
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}

    fn wire(&mut self) -> Option<&mut Wire> {
        None
    }
}

/// Asks the origin of `entry` as this request would, in a task of its own.
pub(super) fn refresh<S: Side>(exchange: &Exchange<'_, S>, entry: &Arc<Entry>, keeping: Keeping) {
    let guest = exchange.guest.beside();
    let head = exchange.head.clone();
    let text = exchange.client.text().get(..head.length);
    let text = text.unwrap_or_default().to_vec();
    let entry = Arc::clone(entry);
    tokio::spawn(async move {
        let now = clock::now();
        let timer = Timer::new(now, guest.limits().idle);
        let mut nobody = Nobody { text, timer };
        let mut record = Record::new(now, "");
        let place = match &guest.site().forward {
            None => None,
            Some(forward) => match through::place(&nobody, forward, (&head, guest.wanted())) {
                Ok(place) => Some((forward, place)),
                Err(_) => return,
            },
        };
        let ways = place
            .as_ref()
            .map(|(forward, place)| Ways::new(forward, place));
        let route = match &ways {
            Some(ways) => ways.route(),
            None => guest.site().route(&head, &nobody.text),
        };
        let Some(route) = route else {
            return;
        };
        let choice = match &ways {
            Some(_) => route.choose(&head, &nobody.text),
            None => route.branch(&entry.origin),
        };
        let Some(choice) = choice else {
            return;
        };
        let mut exchange = Exchange::new(&mut nobody, &guest, (route, choice), &head, &mut record);
        exchange.ways = ways.map(Box::new);
        exchange.keeping = Some(Box::new(keeping));
        exchange.run().await;
    });
}
