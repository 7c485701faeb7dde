//! `shield`: keeps pages of the web away from a tool that listens on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipreconnect::core::http::WebOrigin;
use serde::Serialize;

use crate::admin::view::SCHEMA;
use crate::args::{Arguments, ShieldArguments};
use crate::child::Signals;
use crate::config::state_directory;
use crate::exit::{Exit, Refusal};
use crate::gateway::board::Board;
use crate::gateway::own::{quoted, run_beside};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    address: String,
    tool: String,
    held_by: Vec<String>,
    allowed: Vec<String>,
}

/// Stands before the tool until a signal ends it.
pub(crate) fn shield(arguments: &Arguments, wish: &ShieldArguments) -> Result<Exit, Refusal> {
    let tool = tool(&wish.tool)?;
    for origin in &wish.allow {
        WebOrigin::new(origin).map_err(|error| {
            Refusal::new(Exit::Wrong, format!("{origin:?} is no site: {error}"))
                .hint("sites look like https://app.example.com or http://localhost:3000")
        })?;
    }
    let text = configuration(arguments, wish, tool)?;
    let (is_json, allowed) = (arguments.json, wish.allow.clone());
    run_beside(
        arguments,
        text,
        Box::new(move |board| Box::pin(stand(board, tool, allowed, is_json))),
    )
}

/// The tool: a port of this machine, of whichever family somebody listens on.
fn tool(text: &str) -> Result<SocketAddr, Refusal> {
    let wrong = || {
        Refusal::new(Exit::Wrong, format!("{text:?} is no port of this machine"))
            .hint("write 62893, 127.0.0.1:62893 or [::1]:62893")
    };
    if let Ok(port) = text.parse::<u16>() {
        let [v4, v6]: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let is_held = |ip| {
            let holders = ipreconnect_ports::holders(SocketAddr::new(ip, port));
            holders.is_ok_and(|holders| !holders.is_empty())
        };
        let ip = if !is_held(v4) && is_held(v6) { v6 } else { v4 };
        return match port {
            0 => Err(wrong()),
            port => Ok(SocketAddr::new(ip, port)),
        };
    }
    let text = text.replace("localhost:", "127.0.0.1:");
    let address: SocketAddr = text.parse().map_err(|_| wrong())?;
    match address.ip().to_canonical().is_loopback() && address.port() > 0 {
        true => Ok(address),
        false => Err(wrong()),
    }
}

fn configuration(
    arguments: &Arguments,
    wish: &ShieldArguments,
    tool: SocketAddr,
) -> Result<String, Refusal> {
    let state = state_directory(None, &arguments.environment())
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))?;
    let state = state.join("shields").join(tool.port().to_string());
    let allowed: Vec<String> = wish.allow.iter().map(|one| quoted(one)).collect();
    let listen = wish.listen.as_deref().unwrap_or("127.0.0.1:auto");
    Ok(format!(
        "[gateway]\nstate_dir = {state}\nworkers = 1\nshutdown = \"1s\"\n\
         [origin.tool]\naddress = {tool}\nprotocol = \"http\"\n\
         [[listen]]\nname = \"shield\"\naddress = {listen}\norigin = \"tool\"\nmode = \"http\"\nshield = true\n\
         shield_origins = [{allowed}]\n",
        state = quoted(&state.display().to_string()),
        tool = quoted(&tool.to_string()),
        listen = quoted(listen),
        allowed = allowed.join(", "),
    ))
}

/// Says where it stands, and stands there.
async fn stand(board: Arc<Board>, tool: SocketAddr, allowed: Vec<String>, is_json: bool) -> Exit {
    let listeners = board.with_gateway(|gateway| gateway.listeners());
    let listener = listeners.into_iter().flatten().next();
    let address = listener.and_then(|listener| listener.addresses.into_iter().next());
    let address = address.map_or_else(String::new, |address| address.to_string());
    let held_by: Vec<String> = ipreconnect_ports::holders(tool)
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect();
    let shown = Shown {
        schema: SCHEMA,
        address,
        tool: tool.to_string(),
        held_by,
        allowed,
    };
    if is_json {
        super::print_json(&shown);
    } else {
        crate::out::say(&text(&shown, tool.port()));
    }
    match Signals::new() {
        Ok(mut signals) => {
            signals.stop().await;
            Exit::Fine
        }
        Err(error) => {
            let refusal = Refusal::new(Exit::Wrong, "cannot listen to signals");
            eprintln!("{}", refusal.because(&error));
            Exit::Wrong
        }
    }
}

fn text(shown: &Shown, port: u16) -> String {
    let who = match shown.held_by.as_slice() {
        [] => "where nobody listens yet; requests wait for it".to_owned(),
        some => format!("where {} listens", some.join(", ")),
    };
    let mut text = format!(
        "http://{}/  leads to {}, {who}\n\
         What pages of other sites make a browser send is refused here. What you open yourself, what pages of this\n\
         machine ask for, curl and all other programs come through.\n",
        shown.address, shown.tool
    );
    if !shown.allowed.is_empty() {
        text.push_str(&format!("Let in as well: {}\n", shown.allowed.join(", ")));
    }
    text.push_str(&format!(
        "Port {port} itself is as open as before: use the new address, and best start the tool on a port that is not guessed.\n"
    ));
    text
}
