//! What only the whole configuration shows: listeners and origins that fit together.

use std::collections::BTreeMap;

use ipreconnect_proxy::{ListenAddress, Unmatched};

use super::guard;
use super::load::{Assembly, Definition, Use};
use super::mistake::Mistake;
use super::plan::{ListenPlan, LogTo, Protocol};
use super::section::nearest;

impl Assembly<'_> {
    /// Tells what does not fit, and gives listeners the transport of their origins.
    pub(super) fn cross_check(&mut self) {
        let uses = std::mem::take(&mut self.uses);
        let mut seen = BTreeMap::new();
        for one in &uses {
            self.origin_of(one);
            self.carry(one);
            self.only_once_listened(one, &mut seen);
        }
        self.admit(&uses);
        if let (true, None, Some(place)) = (
            self.plan.log.to.contains(&LogTo::Otlp),
            &self.plan.otlp,
            self.tables.get("log"),
        ) && self.mistakes.borrow().is_empty()
        {
            let message = "the log goes to `otlp`, and nothing says where that is".to_owned();
            let hint = "add [otlp] with url = \"http://127.0.0.1:4318\"";
            self.wrong(message, place, "here", hint);
        }
        for (name, place) in &self.origins {
            let listeners = &self.plan.listeners;
            let leads = |listener: &ListenPlan| {
                let mut routes = listener.routes.iter();
                listener.origin == *name
                    || routes.any(|route| {
                        let mut split = route.split.iter();
                        route.origin == *name
                            || route.requires.contains(name)
                            || route.mirror.as_ref() == Some(name)
                            || split.any(|(origin, _)| origin == name)
                    })
            };
            if !listeners.values().any(leads) {
                let message = format!("no listener leads to origin `{name}`; it is only watched");
                let warning = Mistake::new(message).at(&place.source, place.span.clone(), "");
                self.warnings.push(warning);
            }
        }
        let rules = self.plan.guard.iter().flat_map(|plan| &plan.guard.rules);
        for (number, rule) in rules.enumerate() {
            for (program, doubt) in guard::doubts(&rule.programs) {
                let message = format!("rule {} of [guard] names {program}, {doubt}", number + 1);
                let hint = "`ipreconnect ports watch` shows which program it is that talks";
                self.warnings.push(Mistake::new(message).hint(hint));
            }
        }
        if self.plan.listeners.is_empty() && self.mistakes.borrow().is_empty() {
            let hint = "add [[listen]] with an address and an origin";
            self.warnings
                .push(Mistake::new("there is no listener").hint(hint));
        }
    }

    fn origin_of(&self, one: &Use) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        if listener.unmatched == Unmatched::Served {
            self.is_there(&listener.origin, &one.origin);
        }
        for (origin, place) in one.routes.iter().chain(&one.shown) {
            self.is_there(origin, place);
        }
    }

    fn is_there(&self, origin: &str, place: &Definition) {
        if self.origins.contains_key(origin) {
            return;
        }
        let names = self.origins.keys().map(String::as_str);
        let hint = match nearest(origin, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("define it: [origin.{origin}] with an address"),
        };
        let message = format!("there is no origin `{origin}`");
        self.wrong(message, place, "named here", &hint);
    }

    /// A listener carries what its origin speaks.
    fn carry(&mut self, one: &Use) {
        let Some(listener) = self.plan.listeners.get_mut(&one.listener) else {
            return;
        };
        if !listener.has_origin() {
            listener.mode = Protocol::Http;
            speak(listener);
            return;
        }
        let Some(origin) = self.plan.origins.get(&listener.origin) else {
            return;
        };
        let name = listener.origin.clone();
        let mut mistake = None;
        listener.mode = origin.protocol.at_the_door();
        if let Some((mode, place)) = &one.mode {
            listener.mode = *mode;
            if mode.transport() != origin.protocol.transport() {
                let (mode, speaks) = (mode.word(), origin.protocol.word());
                let message =
                    format!("`listen.mode` cannot be {mode:?}: origin `{name}` speaks {speaks}");
                mistake = Some((message, place));
            }
        }
        speak(listener);
        if origin.protocol == Protocol::Udp {
            for address in &mut listener.addresses {
                match address {
                    ListenAddress::Tcp(ip) => *address = ListenAddress::Udp(*ip),
                    ListenAddress::Udp(_) => {}
                    ListenAddress::Unix(_) | ListenAddress::Abstract(_) => {
                        let message =
                            format!("{address} cannot lead to origin `{name}`, which speaks udp");
                        mistake = Some((message, &one.address));
                    }
                }
            }
        }
        let mistake = self.misfit(one).or(mistake);
        if let Some((message, place)) = mistake {
            self.wrong(message, place, "here", "");
        }
    }

    /// What a listener says that does not fit what it carries, or where that goes.
    fn misfit<'u>(&self, one: &'u Use) -> Option<(String, &'u Definition)> {
        let listener = self.plan.listeners.get(&one.listener)?;
        let origin = self.plan.origins.get(&listener.origin)?;
        let speaks_udp = |name: &String| {
            let origin = self.plan.origins.get(name);
            origin.is_some_and(|origin| origin.protocol == Protocol::Udp)
        };
        let announces = |name: &String| {
            let origin = self.plan.origins.get(name);
            origin.is_some_and(|origin| origin.settings.announce.is_some())
        };
        let name = &listener.origin;
        if let (Some(place), true) = (&one.tls, speaks_udp(name)) {
            let message =
                format!("`listen.tls` cannot stand before origin `{name}`, which speaks udp");
            return Some((message, place));
        }
        if let Some((origin, place)) = one.routes.iter().find(|(name, _)| speaks_udp(name)) {
            let message = format!("a route cannot lead to origin `{origin}`, which speaks udp");
            return Some((message, place));
        }
        if let (Protocol::Udp, Some((key, place))) = (origin.protocol, one.of_streams.first()) {
            let message = format!("`{key}` is of connections, and the listener takes datagrams");
            return Some((message, place));
        }
        if listener.mode == Protocol::Http {
            let routes = one.routes.iter().map(|(name, place)| (name, place));
            let mut all = routes.chain([(name, &one.origin)]);
            let (name, place) = all.find(|(name, _)| announces(name))?;
            let message = format!(
                "origin `{name}` is told whose each connection is, and requests of many clients share theirs"
            );
            return Some((message, place));
        }
        if let Some((key, place)) = one.only_http.first() {
            let message = format!(
                "`{key}` needs HTTP, and the listener speaks {}",
                listener.mode.word()
            );
            return Some((message, place));
        }
        if let Some(place) = one.hostless.first() {
            let message = "a route needs `host` where no HTTP is spoken".to_owned();
            return Some((message, place));
        }
        if let (Protocol::Postgres, None, Some((_, place))) =
            (listener.mode, &listener.tls, one.routes.first())
        {
            let message = "clients of PostgreSQL name a host only inside TLS".to_owned();
            return Some((message, place));
        }
        None
    }

    fn only_once_listened<'a>(
        &self,
        one: &'a Use,
        seen: &mut BTreeMap<(Option<String>, ListenAddress), &'a Definition>,
    ) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        // Every network namespace has all ports.
        let netns = listener.netns.as_ref().map(ToString::to_string);
        for address in &listener.addresses {
            let place = (netns.clone(), address.clone());
            let is_any = address.ip().is_some_and(|address| address.port() == 0);
            let same = |other: &&ListenAddress| *other == address;
            let is_again = is_any && listener.addresses.iter().filter(same).count() > 1;
            if is_again && !seen.contains_key(&place) {
                let message = format!("{address} is listened on twice");
                self.wrong(
                    message,
                    &one.address,
                    "here",
                    "two addresses with any port have the same one",
                );
            }
            if let Some(first) = seen.get(&place).filter(|_| !is_any) {
                let message = format!("{address} is listened on twice");
                self.twice(&message, first, &one.address);
            } else {
                seen.insert(place, &one.address);
            }
        }
    }

    pub(super) fn wrong(
        &self,
        message: String,
        place: &Definition,
        label: &'static str,
        hint: &str,
    ) {
        let mut mistake = Mistake::new(message).at(&place.source, place.span.clone(), label);
        if !hint.is_empty() {
            mistake = mistake.hint(hint.to_owned());
        }
        self.mistakes.borrow_mut().push(mistake);
    }
}

/// Says to clients of TLS what is spoken.
fn speak(listener: &mut ListenPlan) {
    let spoken: &[&[u8]] = match listener.mode {
        Protocol::Http => &[b"h2", b"http/1.1"],
        Protocol::Postgres => &[b"postgresql"],
        Protocol::Tcp | Protocol::Udp | Protocol::H2 => &[],
    };
    if let Some(tls) = &mut listener.tls
        && tls.alpn.is_empty()
    {
        tls.alpn = spoken.iter().map(|name| name.to_vec()).collect();
    }
}
