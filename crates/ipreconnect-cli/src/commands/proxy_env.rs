//! `proxy-env`: the variables by which programs go through a forward proxy, and the proof that they do.

mod trial;

use std::fmt::Write as _;
use std::net::SocketAddr;

use hyper::Method;
use ipreconnect::core::forward::direct;
use serde::Serialize;

use crate::admin::client::ask;
use crate::admin::view::{Listeners, SCHEMA};
use crate::args::{Arguments, ProxyEnv, Reader};
use crate::config::{ListenPlan, Plan, load};
use crate::exit::{Exit, Refusal};

/// Hosts that no program asks the proxy for; some programs understand networks, and the others ignore them.
const HERE: [&str; 4] = ["localhost", ".localhost", "127.0.0.1", "::1"];

/// A variable, and its value.
type Variable = (String, String);

/// What is to be told to programs.
struct Told {
    listener: String,
    /// As programs name it.
    address: SocketAddr,
    url: String,
    no_proxy: Vec<String>,
}

#[derive(Serialize)]
struct Json<'t> {
    schema: u32,
    listener: &'t str,
    proxy: &'t str,
    variables: std::collections::BTreeMap<&'t str, &'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trials: Option<Vec<trial::Trial>>,
}

/// Prints them, and proves them if that is wanted.
pub(crate) fn proxy_env(arguments: &Arguments, wish: &ProxyEnv) -> Result<Exit, Refusal> {
    let loaded = load(arguments.config.as_deref(), &arguments.environment())
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("\n")))?;
    let told = told(arguments, wish, &loaded.plan)?;
    let variables = variables(&told);
    let trials = wish.test.then(|| trial::all(&variables));
    let is_proven = trials.iter().flatten().all(trial::Trial::is_fine);
    if arguments.json || wish.shell == Some(Reader::Json) {
        let pairs = variables.iter();
        super::print_json(&Json {
            schema: SCHEMA,
            listener: &told.listener,
            proxy: &told.url,
            variables: pairs.map(|(name, value)| (&**name, &**value)).collect(),
            trials,
        });
    } else if let Some(trials) = &trials {
        print!("{}", trial::text(&told.url, trials));
    } else {
        print!(
            "{}",
            written(wish.shell.unwrap_or_else(Reader::here), &variables)
        );
    }
    Ok(if is_proven { Exit::Fine } else { Exit::NotFine })
}

/// The forward proxy that is meant, where it listens now if it runs.
fn told(arguments: &Arguments, wish: &ProxyEnv, plan: &Plan) -> Result<Told, Refusal> {
    let wrong = |why: String| Refusal::new(Exit::Wrong, why);
    let mut proxies = plan.listeners.iter();
    let mut proxies = proxies
        .by_ref()
        .filter(|(_, listener)| listener.forward.is_some())
        .filter(|(name, _)| wish.listener.as_ref().is_none_or(|wanted| wanted == *name));
    let (name, listener) = proxies.next().ok_or_else(|| match &wish.listener {
        Some(name) => wrong(format!("there is no forward proxy {name:?}")),
        None => {
            wrong("there is no forward proxy: add a listener with mode = \"forward\"".to_owned())
        }
    })?;
    if let (Some((other, _)), None) = (proxies.next(), &wish.listener) {
        return Err(wrong(format!(
            "there are several forward proxies, {name} and {other} among them: name one"
        )));
    }
    let address = address(arguments, name, listener).ok_or_else(|| {
        wrong(format!(
            "{name} listens at no port that is known: start the gateway"
        ))
    })?;
    Ok(Told::new(name, listener, address, wish.user.as_deref()))
}

/// The variables by which programs go through a forward proxy that listens there.
pub(super) fn of(name: &str, listener: &ListenPlan, address: SocketAddr) -> Vec<Variable> {
    variables(&Told::new(name, listener, address, None))
}

impl Told {
    fn new(name: &str, listener: &ListenPlan, address: SocketAddr, user: Option<&str>) -> Self {
        let scheme = if listener.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let user = match user {
            Some(user) => format!("{}@", credentials(user)),
            None => String::new(),
        };
        let policy = listener.forward.as_ref().map(|forward| &forward.policy);
        let straight = policy.map(|policy| direct(policy)).unwrap_or_default();
        let straight = straight.iter().map(ToString::to_string);
        Self {
            listener: name.to_owned(),
            url: format!("{scheme}://{user}{address}"),
            address,
            no_proxy: HERE
                .into_iter()
                .map(str::to_owned)
                .chain(straight)
                .collect(),
        }
    }
}

/// `user:password` as a URL has it.
fn credentials(text: &str) -> String {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let encoded =
        |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    format!("{}:{}", encoded(user), encoded(password))
}

/// Where it listens: as the gateway that runs says, else as it is written.
fn address(arguments: &Arguments, name: &str, listener: &ListenPlan) -> Option<SocketAddr> {
    let running = super::status::socket(arguments).ok().and_then(|socket| {
        let asked = ask::<Listeners>(&socket, Method::GET, "/v1/listeners");
        let (_, listeners) = super::block_on(asked).ok()?;
        let found = listeners
            .listeners
            .into_iter()
            .find(|one| one.name == name)?;
        found
            .addresses
            .iter()
            .find_map(|address| address.parse().ok())
    });
    let mut written = listener.addresses.iter().filter_map(|address| address.ip());
    let address: SocketAddr = running.or_else(|| written.find(|address| address.port() != 0))?;
    // Where everybody may come in, we come in by ourselves.
    let own = match address {
        SocketAddr::V4(_) if address.ip().is_unspecified() => [127, 0, 0, 1].into(),
        _ if address.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => address.ip(),
    };
    Some(SocketAddr::new(own, address.port()))
}

/// Programs differ in whether they read small or capital letters.
fn variables(told: &Told) -> Vec<Variable> {
    let mut variables = Vec::new();
    let no_proxy = told.no_proxy.join(",");
    for (name, value) in [
        ("HTTP_PROXY", &told.url),
        ("HTTPS_PROXY", &told.url),
        ("ALL_PROXY", &told.url),
        ("NO_PROXY", &no_proxy),
    ] {
        variables.push((name.to_owned(), value.clone()));
        variables.push((name.to_ascii_lowercase(), value.clone()));
    }
    variables.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    variables.push(("JAVA_TOOL_OPTIONS".to_owned(), java(told)));
    variables
}

/// Java has no variables for it, and another way to write the hosts.
fn java(told: &Told) -> String {
    let (host, port) = (told.address.ip(), told.address.port());
    let mut options = String::new();
    for scheme in ["http", "https"] {
        let _ = write!(
            options,
            "-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port} "
        );
    }
    options.push_str("-Dhttp.nonProxyHosts=localhost|*.localhost|127.*|[::1]");
    options
}

fn written(shell: Reader, variables: &[Variable]) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        let _ = match shell {
            Reader::Bash => writeln!(text, "export {name}='{}'", value.replace('\'', "'\\''")),
            Reader::Fish => writeln!(text, "set -gx {name} '{}'", value.replace('\'', "\\'")),
            Reader::Powershell => writeln!(text, "$env:{name} = '{}'", value.replace('\'', "''")),
            Reader::Json => Ok(()),
        };
    }
    text
}

impl Reader {
    /// The one that this is likely to be for.
    fn here() -> Self {
        let shell = std::env::var("SHELL").unwrap_or_default();
        match shell.rsplit('/').next() {
            Some("fish") => Self::Fish,
            Some("pwsh") => Self::Powershell,
            _ => Self::Bash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_read_what_is_written_for_them() {
        let variables = [("A".to_owned(), "it's".to_owned())];
        assert_eq!(written(Reader::Bash, &variables), "export A='it'\\''s'\n");
        assert_eq!(written(Reader::Fish, &variables), "set -gx A 'it\\'s'\n");
        assert_eq!(
            written(Reader::Powershell, &variables),
            "$env:A = 'it''s'\n"
        );
    }

    #[test]
    fn users_are_written_as_urls_have_them() {
        assert_eq!(credentials("ann:a@b/c"), "ann:a%40b%2Fc");
        assert_eq!(credentials("ann"), "ann:");
    }
}
