//! Notices as people read them: each loss once, with origin, address, layer, duration, next step.

use std::time::Duration;

use ipreconnect_core::address::EntryId;
use ipreconnect_core::failure::{Cause, Failure, Layer};
use ipreconnect_core::locality::Blame;
use ipreconnect_core::names::Knowledge;
use ipreconnect_core::origin::{Notice, Phase};

use crate::settings::OriginSettings;
use crate::surroundings::Resident;

pub(super) fn tell(origin: &str, settings: &OriginSettings, resident: &Resident, notice: &Notice) {
    match notice {
        Notice::Phase {
            from,
            to,
            lasted,
            failure,
        } => {
            phase(origin, *from, *to, *lasted, failure.as_ref(), resident);
        }
        Notice::EndpointDown {
            address, failure, ..
        } => {
            if failure.cause.is_refusal() {
                tracing::error!(
                    origin, %address, layer = %failure.layer(), cause = %failure,
                    advice = failure.cause.advice(),
                    "impersonated? whoever answers there cannot prove to be the right server; nothing is sent to it"
                );
                return;
            }
            tracing::warn!(
                origin, %address, layer = %failure.layer(), cause = %failure,
                advice = failure.cause.advice(), "endpoint down"
            );
        }
        Notice::EndpointUp { address, away } => {
            tracing::info!(origin, %address, away = %short(*away), "endpoint up");
        }
        Notice::FailedOver { from, to, failure } => {
            let cause = failure.as_ref().map(tracing::field::display);
            tracing::warn!(origin, %from, %to, cause, "failed over to a backup");
        }
        Notice::Returned { from, to } => {
            tracing::info!(origin, %from, %to, "returned to the preferred endpoint");
        }
        Notice::NameFailed {
            entry,
            failure,
            knowledge,
        } => {
            tracing::warn!(
                origin, name = name_of(settings, *entry), layer = %failure.layer(), cause = %failure,
                advice = failure.cause.advice(), "{}", name_failed(failure.cause, *knowledge)
            );
        }
        Notice::NameMoved { entry, to } => {
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            tracing::info!(
                origin,
                name = name_of(settings, *entry),
                to = to.join(", "),
                "name moved; new work goes there as soon as it is proven"
            );
        }
        Notice::NoRoom { address, failure } => {
            tracing::warn!(
                origin, %address, layer = %failure.layer(), cause = %failure,
                advice = failure.cause.advice(),
                "no room here for a connection; other endpoints are tried, and clients wait"
            );
        }
        Notice::Ejected {
            address,
            offence,
            pause,
        } => {
            tracing::warn!(
                origin, %address, cause = %offence, pause = %short(*pause),
                advice = "look into that server's own log; `health.passive = false` leaves such endpoints in",
                "endpoint ejected: the others serve without it for a while"
            );
        }
        Notice::Readmitted { address } => {
            tracing::info!(origin, %address, "endpoint takes work again, little by little");
        }
        Notice::Preferred { address } => match address {
            Some(address) => {
                tracing::info!(origin, %address, "endpoint preferred by order; new work goes there while it is up");
            }
            None => tracing::info!(
                origin,
                "endpoints are preferred as the configuration says again"
            ),
        },
        Notice::GivenUp { attempts } => {
            tracing::error!(
                origin,
                attempts,
                "given up; `ipreconnect reload`, a network change or a reconnect by hand tries again"
            );
        }
        Notice::Rebuilt => {
            tracing::warn!(
                origin,
                "clients waited, a fresh probe worked, and nothing moved: all that was known is rebuilt"
            );
        }
    }
}

pub(super) fn name_of(settings: &OriginSettings, entry: EntryId) -> String {
    let place = settings.places.get(entry.0 as usize);
    place
        .map(|place| place.target.to_string())
        .unwrap_or_default()
}

/// What follows from a name's failure.
fn name_failed(cause: Cause, knowledge: Knowledge) -> &'static str {
    match knowledge {
        _ if cause == Cause::NotAllowed => "addresses of the name are not dialled",
        Knowledge::Fresh => "name could not be looked up again; its last answer still holds",
        Knowledge::Doubtful => {
            "name is suddenly empty; its addresses are used until a second look agrees"
        }
        Knowledge::Stale => "name not resolved; its last addresses are used meanwhile",
        Knowledge::Remembered => "name not resolved; the addresses of an earlier run are used",
        Knowledge::Unknown => "name not resolved; it is looked up again and again",
        Knowledge::Gone => "name has no address; it is looked up again and again",
    }
}

fn phase(
    origin: &str,
    from: Phase,
    to: Phase,
    lasted: Duration,
    failure: Option<&Failure>,
    resident: &Resident,
) {
    let lasted = short(lasted);
    match (to, failure) {
        (Phase::Up, _) if from == Phase::Down => {
            tracing::info!(origin, down_for = %lasted, "origin is up again");
        }
        (Phase::Down, Some(failure)) => {
            let blame = match resident.blame() {
                Blame::Origin if failure.layer() == Layer::Dns => "its name",
                Blame::Origin => "the origin",
                Blame::OwnNetwork => "this machine's own network: every remote origin fails",
            };
            tracing::error!(
                origin, layer = %failure.layer(), cause = %failure, blame,
                next = "attempts go on by the reconnect schedule; clients wait in the hold",
                "origin is down"
            );
        }
        (Phase::Suspect, Some(failure)) => {
            tracing::warn!(origin, %from, cause = %failure, "origin is suspect");
        }
        _ => tracing::info!(origin, %from, after = %lasted, "origin is {to}"),
    }
}

/// A duration with three digits at most.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0}ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!(
            "{}m{:02}s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}
