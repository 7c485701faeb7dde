//! A copy of a request for another origin, whose answer nobody waits for.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use ipreconnect::clock;
use ipreconnect::core::http::Method;
use ipreconnect::core::outlier::is_failing;

use super::body::Reader;
use super::exchange::dial_at_once;
use super::trial::Trial;
use super::window::Window;
use super::{Behind, pool, relay};
use crate::watch::Said;

/// Copies of one worker that are under way at once; more are not sent.
const AT_ONCE: u32 = 64;
/// Of an answer, no more than this is read.
const ANSWER: u64 = 1024 * 1024;

thread_local! {
    static UNDER_WAY: Cell<u32> = const { Cell::new(0) };
}

/// A copy's place among those of its worker.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let count = UNDER_WAY.get();
        (count < AT_ONCE).then(|| {
            UNDER_WAY.set(count + 1);
            Self
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.set(UNDER_WAY.get().saturating_sub(1));
    }
}

/// Sends a request, if there is room for it; `body` is all of its body.
pub(super) fn send(behind: &Arc<Behind>, method: Method, head: Vec<u8>, body: Window) {
    let Some(place) = Place::take() else {
        return;
    };
    let behind = Arc::clone(behind);
    tokio::spawn(async move {
        let patience = behind.settings().first_byte;
        // Whatever becomes of it, the request itself was served.
        let _ = tokio::time::timeout(patience, carry(&behind, method, &head, &body)).await;
        drop(place);
    });
}

async fn carry(behind: &Behind, method: Method, head: &[u8], body: &Window) -> Option<()> {
    let upstream = dial_at_once(behind, None).await.ok()?;
    let mut trial = Trial::new(behind, upstream, clock::now(), false)?;
    let lost = trial.send(head, body).err();
    let heard = match lost {
        Some(loss) => Err(loss),
        None => {
            poll_fn(|cx| {
                if let Poll::Ready(Err(loss)) = trial.poll_send(cx, body, clock::now) {
                    return Poll::Ready(Err(loss));
                }
                trial.poll_hear(cx, method, |head, text| {
                    if head.is_informational() {
                        return None;
                    }
                    let rest = text.get(head.length..).unwrap_or_default();
                    let mut reader = Reader::of_response(head.body(method));
                    let read = reader.read(rest, |_| {});
                    let is_reusable = head.is_persistent && read == Ok(rest.len());
                    let is_bad = is_failing(head.status);
                    let said = if is_bad { Said::Badly } else { Said::Well };
                    Some((reader, is_reusable, said))
                })
            })
            .await
        }
    };
    let (mut reader, is_reusable, said) = match heard {
        Ok(heard) => heard,
        Err(loss) => {
            trial.report(loss);
            return None;
        }
    };
    let upstream = trial.upstream()?;
    upstream.answers(clock::now(), said);
    let mut left = ANSWER;
    while !reader.is_done() {
        let read = poll_fn(|cx| {
            let read = ready!(upstream.way.poll_take(cx, |bytes| {
                left = left.checked_sub(bytes.len() as u64)?;
                let read = reader.read(bytes, |_| {}).ok()?;
                (!bytes.is_empty() && read == bytes.len()).then_some(())
            }));
            Poll::Ready(read.ok().flatten())
        });
        read.await?;
    }
    if is_reusable && trial.has_sent(body) {
        relay::keep(behind, &mut trial);
    }
    Some(())
}

/// Whether a copy of a request could be made now.
pub(super) fn has_room(behind: &Behind) -> bool {
    UNDER_WAY.get() < AT_ONCE && pool::is_usable(behind)
}
