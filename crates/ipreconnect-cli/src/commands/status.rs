//! `status`: what is proven of each origin, now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use crate::admin::client::ask;
use crate::admin::view::{
    BranchView, ListenerView, Listeners, NameView, OriginView, Origins, SCHEMA,
};
use crate::args::{Arguments, Status};
use crate::config::admin_socket;
use crate::exit::{Exit, Refusal};
use crate::paint::{Paint, plain};

/// Between two questions while waiting.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Shown {
    schema: u32,
    origins: Vec<OriginView>,
    listeners: Listeners,
    /// Somebody asked for one origin.
    #[serde(skip)]
    is_of_one: bool,
}

/// Asks the running gateway, and shows its answer. Fine if all required origins are up, or the one
/// that was named.
pub(crate) fn status(arguments: &Arguments, status: &Status) -> Result<Exit, Refusal> {
    let socket = socket(arguments)?;
    let shown = super::block_on(async {
        loop {
            let answer = question(&socket, status.origin.as_deref()).await;
            match answer {
                Ok(shown) if !status.wait || is_fine(&shown, status) => return Ok(shown),
                Err(refusal) if !status.wait || refusal.exit() != Exit::Unreachable => {
                    return Err(refusal);
                }
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    })?;
    if arguments.json {
        super::print_json(&shown);
    } else {
        print!("{}", text(&shown));
    }
    Ok(if is_fine(&shown, status) {
        Exit::Fine
    } else {
        Exit::NotFine
    })
}

/// Where the gateway of this configuration can be asked.
pub(crate) fn socket(arguments: &Arguments) -> Result<PathBuf, Refusal> {
    admin_socket(arguments.config.as_deref(), &arguments.environment())
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))
}

async fn question(socket: &Path, origin: Option<&str>) -> Result<Shown, Refusal> {
    let (_, all): (_, Origins) = ask(socket, Method::GET, "/v1/origins").await?;
    let (_, listeners): (_, Listeners) = ask(socket, Method::GET, "/v1/listeners").await?;
    let origins: Vec<OriginView> = all
        .origins
        .into_iter()
        .filter(|one| origin.is_none_or(|name| one.name == name))
        .collect();
    if let (Some(name), true) = (origin, origins.is_empty()) {
        return Err(Refusal::new(
            Exit::Wrong,
            format!("there is no origin {name:?}"),
        ));
    }
    Ok(Shown {
        schema: SCHEMA,
        origins,
        listeners,
        is_of_one: origin.is_some(),
    })
}

fn is_fine(shown: &Shown, status: &Status) -> bool {
    shown
        .origins
        .iter()
        .filter(|origin| origin.required || status.origin.is_some())
        .all(|origin| origin.phase == "up")
}

fn text(shown: &Shown) -> String {
    let paint = Paint::of_stdout();
    let mut text = String::new();
    for origin in &shown.origins {
        text.push_str(&show_origin(&paint, origin));
    }
    for listener in &shown.listeners.listeners {
        let is_shown = |name: &str| shown.origins.iter().any(|origin| origin.name == name);
        if !is_shown(&listener.origin) && (shown.is_of_one || listener.origin != "status page") {
            continue;
        }
        text.push_str(&show_listener(&paint, listener));
    }
    text
}

fn show_listener(paint: &Paint, listener: &ListenerView) -> String {
    let mut text = format!(
        "listener {}  {} -> {}\n  {} carried now, {} accepted",
        paint.bold(&listener.name),
        listener.addresses.join(", "),
        listener.origin,
        listener.carrying,
        listener.accepted,
    );
    for (count, what) in [
        (listener.denied, "refused"),
        (listener.unserved, "not served"),
        (listener.dropped, "datagrams dropped"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push('\n');
    for refusal in &listener.refusals {
        let by = match (&refusal.place, &refusal.rule) {
            (Some(place), Some(rule)) => format!("by {place}: {rule}"),
            _ => "because no access rule was for them".to_owned(),
        };
        text.push_str(&format!("  {} refused {by}\n", refusal.count));
    }
    for branch in &listener.branches {
        text.push_str(&show_branch(branch));
    }
    text
}

fn show_branch(branch: &BranchView) -> String {
    let mut text = format!(
        "  route {} to {} (weight {}): {} requests",
        branch.route, branch.origin, branch.weight, branch.requests
    );
    for (count, what) in [
        (branch.client_errors, "4xx"),
        (branch.server_errors, "5xx"),
        (branch.cut_off, "cut off"),
    ] {
        if count > 0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a share is shown to a tenth of a percent"
            )]
            let share = count as f64 / branch.requests.max(1) as f64 * 100.0;
            text.push_str(&format!(", {count} {what} ({share:.1} %)"));
        }
    }
    if let Some(time) = branch.first_byte_ms {
        text.push_str(&format!(", first byte after {time:.1} ms"));
    }
    text.push('\n');
    text
}

fn show_origin(paint: &Paint, origin: &OriginView) -> String {
    let mut text = format!(
        "origin {}  {} for {}{}{}  ({})\n",
        paint.bold(&origin.name),
        paint.state(&origin.phase),
        span(origin.for_ms),
        if origin.required { "" } else { ", optional" },
        if origin.given_up { ", given up" } else { "" },
        paint.state(&origin.identity),
    );
    if let Some(failure) = &origin.failure {
        text.push_str(&format!(
            "  why: {}: {}; {}\n",
            failure.layer,
            plain(&failure.cause),
            failure.advice
        ));
    }
    if origin.phase == "down" && !origin.given_up {
        text.push_str(
            "  it is tried again by its schedule; who comes meanwhile waits in the hold\n",
        );
    }
    if origin.waiting > 0 {
        text.push_str(&format!("  {} clients wait in the hold\n", origin.waiting));
    }
    if let Some(preferred) = &origin.preferred {
        text.push_str(&format!(
            "  new work goes to {} by order; `ipreconnect prefer {}` ends that\n",
            plain(preferred),
            plain(&origin.name)
        ));
    }
    for name in &origin.names {
        text.push_str(&show_name(paint, name));
    }
    for endpoint in &origin.endpoints {
        let role = match endpoint.priority {
            0 => "preferred".to_owned(),
            priority => format!("backup {priority}"),
        };
        let connect = endpoint.connect_us.map_or_else(String::new, |micros| {
            format!("  connects in {}", millis(micros))
        });
        let warm = match endpoint.warm {
            0 => String::new(),
            count => format!(", {count} ready"),
        };
        text.push_str(&format!(
            "  {} {:<28} {:<10} {:<7} for {:<8} {} open, {} served{warm}{connect}\n",
            if endpoint.takes_work { "▶" } else { " " },
            endpoint.address,
            role,
            paint.state(&format!("{:<7}", endpoint.health)),
            span(endpoint.for_ms),
            endpoint.open,
            endpoint.served,
        ));
        if let Some(ejected) = &endpoint.ejected {
            text.push_str(&format!(
                "      ejected: {}; for {} more\n",
                ejected.why,
                span(ejected.for_ms)
            ));
        }
        if endpoint.failed_here > 0 {
            text.push_str(&format!(
                "      {} dials failed on this machine: no port, descriptor or permission left\n",
                endpoint.failed_here
            ));
        }
        if let Some(failure) = &endpoint.failure {
            text.push_str(&format!(
                "      {}: {}\n",
                failure.layer,
                plain(&failure.cause)
            ));
        }
    }
    text
}

fn show_name(paint: &Paint, name: &NameView) -> String {
    let count = match name.addresses {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let by = name.resolver.as_ref();
    let by = by.map_or_else(String::new, |by| format!(", answered by {by}"));
    let ttl = match name.knowledge.as_str() {
        "fresh" => format!(", for {}", span(name.ttl_ms)),
        _ => String::new(),
    };
    let dnssec = match name.dnssec.as_str() {
        "unchecked" => "",
        "secure" => ", proven by DNSSEC",
        _ => ", not signed",
    };
    let mut text = format!(
        "  {}  {}, {count}{by}{ttl}{dnssec}\n",
        name.name,
        paint.state(&name.knowledge),
    );
    if name.turned_insecure {
        text.push_str("      it was proven by DNSSEC once, and is not signed any more\n");
    }
    for why in &name.denied {
        text.push_str(&format!("      not dialled: {why}\n"));
    }
    if let Some(failure) = &name.failure {
        text.push_str(&format!(
            "      {}: {}\n",
            failure.layer,
            plain(&failure.cause)
        ));
    }
    text
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
