//! `alerts test`: whether people would hear.

use ipreconnect::clock;
use ipreconnect_admin::Message;
use serde::Serialize;

use crate::admin::view::SCHEMA;
use crate::args::{AlertsAction, Arguments};
use crate::config::load;
use crate::exit::{Exit, Refusal};
use crate::paint::{Paint, plain};

#[derive(Serialize)]
struct Tried {
    schema: u32,
    ways: Vec<Way>,
}

#[derive(Serialize)]
struct Way {
    /// Without what is secret in it.
    to: String,
    delivered: bool,
    why: Option<String>,
}

/// Tells everybody of the configuration that this is a test. Fine if all of them took it.
pub(crate) fn alerts(arguments: &Arguments, action: &AlertsAction) -> Result<Exit, Refusal> {
    let AlertsAction::Test = action;
    let loaded = load(arguments.config.as_deref(), &arguments.environment());
    let loaded = loaded.map_err(|mistakes| {
        Refusal::new(Exit::Wrong, mistakes.lines().join("; "))
            .hint("`ipreconnect check` shows where")
    })?;
    let plan = loaded.plan.alerts;
    if plan.sinks.is_empty() {
        return Err(Refusal::new(
            Exit::Wrong,
            "nobody is told anything: `[alerts]` has no `to`",
        )
        .hint("[alerts]\nto = [ { webhook = \"https://…\" } ]"));
    }
    let message = Message::test(&plan.instance, clock::since_unix());
    let ways = super::block_on(async {
        let mut ways = Vec::new();
        for sink in &plan.sinks {
            let tried = sink.deliver(&message).await;
            ways.push(Way {
                to: sink.to_string(),
                delivered: tried.is_ok(),
                why: tried.err().map(|error| error.to_string()),
            });
        }
        Ok(ways)
    })?;
    let is_fine = ways.iter().all(|way| way.delivered);
    if arguments.json {
        super::print_json(&Tried {
            schema: SCHEMA,
            ways,
        });
    } else {
        let paint = Paint::of_stdout();
        for way in &ways {
            match &way.why {
                None => println!("{}  {}", paint.with("32", "taken"), plain(&way.to)),
                Some(why) => println!(
                    "{}  {}: {}",
                    paint.with("31;1", "not delivered"),
                    plain(&way.to),
                    plain(why)
                ),
            }
        }
    }
    Ok(if is_fine { Exit::Fine } else { Exit::NotFine })
}
