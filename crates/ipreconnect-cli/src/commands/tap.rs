//! `tap`: what passes through a listener, while it passes.

use std::io::Write;
use std::path::Path;

use ipreconnect_admin::encoded;

use crate::admin::client::{Heard, listen};
use crate::admin::view::{Outcome, TapView};
use crate::args::{Arguments, TapArguments};
use crate::exit::{Exit, Refusal};
use crate::paint::{Paint, plain};

pub(crate) fn tap(arguments: &Arguments, tap: &TapArguments) -> Result<Exit, Refusal> {
    let mut path = format!(
        "/v1/listeners/{}/tap?hex={}",
        encoded(&tap.listener),
        tap.hex
    );
    if let Some(client) = &tap.client {
        path.push_str(&format!("&client={}", encoded(client)));
    }
    if let Some(seconds) = tap.seconds {
        path.push_str(&format!("&seconds={seconds}"));
    }
    let socket = super::status::socket(arguments)?;
    let paint = Paint::of_stdout();
    if !arguments.json {
        eprintln!("secrets are masked where they are known; Ctrl-C ends it");
    }
    super::block_on(look(&socket, &path, arguments.json, paint))
}

async fn look(socket: &Path, path: &str, is_json: bool, paint: Paint) -> Result<Exit, Refusal> {
    let mut heard = match listen(socket, path).await? {
        Heard::Lines(lines) => lines,
        Heard::Refused(text) => {
            let outcome = serde_json::from_slice::<Outcome>(&text);
            let why = outcome.map_or_else(
                |_| "it is refused".to_owned(),
                |outcome| outcome.messages.join("; "),
            );
            return Err(Refusal::new(Exit::Wrong, why));
        }
    };
    loop {
        let line = tokio::select! {
            line = heard.next() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Fine),
        };
        let Some(line) = line else {
            return Ok(Exit::Fine);
        };
        let mut out = std::io::stdout().lock();
        let written = if is_json {
            out.write_all(&line).and_then(|()| out.write_all(b"\n"))
        } else {
            match serde_json::from_slice::<TapView>(&line) {
                Ok(view) => out.write_all(shown(&view, paint).as_bytes()),
                Err(_) => Ok(()),
            }
        };
        // Whoever reads it has had enough.
        if written.and_then(|()| out.flush()).is_err() {
            return Ok(Exit::Fine);
        }
    }
}

fn shown(view: &TapView, paint: Paint) -> String {
    let time = view.time.get(11..23).unwrap_or(&view.time);
    let client = view.client.as_deref().unwrap_or("local");
    let arrow = match view.towards.as_deref() {
        Some("origin") => "→",
        Some(_) => "←",
        None => "·",
    };
    let mut lines = view.lines.iter().map(|line| plain(line).into_owned());
    let first = match view.kind.as_str() {
        "opened" => paint.bold("opened"),
        "closed" => format!(
            "{} {}",
            paint.bold("closed"),
            lines.next().unwrap_or_default()
        ),
        "lost" => paint.with("33", &lines.next().unwrap_or_default()),
        "answered" => paint.bold(&lines.next().unwrap_or_default()),
        _ => lines.next().unwrap_or_default(),
    };
    let mut text = format!("{time} {client:21} {arrow} {first}\n");
    for line in lines {
        text.push_str(&format!("{:36}{line}\n", ""));
    }
    text
}
