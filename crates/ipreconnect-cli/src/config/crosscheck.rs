//! What only the whole configuration shows: listeners and origins that fit together.

use std::collections::BTreeMap;

use ipreconnect::core::access::{Maps, Method, Rule, our_own};
use ipreconnect_proxy::{Access, ListenAddress, Proxied, Unmatched};

use super::load::{Admission, Assembly, Definition, Use};
use super::mistake::Mistake;
use super::plan::{ListenPlan, Protocol};
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
        self.admissions(&uses);
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
        if self.plan.listeners.is_empty() && self.mistakes.borrow().is_empty() {
            let hint = "add [[listen]] with an address and an origin";
            self.warnings
                .push(Mistake::new("there is no listener").hint(hint));
        }
    }

    /// Gives each listener its rules.
    fn admissions(&mut self, uses: &[Use]) {
        let admissions = std::mem::take(&mut self.admissions);
        for one in &admissions {
            self.fits(one);
        }
        for one in uses {
            let is_for = |admission: &&Admission| {
                let mut listeners = admission.listeners.iter();
                admission.listeners.is_empty() || listeners.any(|(name, _)| *name == one.listener)
            };
            let own: Vec<&Admission> = admissions.iter().filter(is_for).collect();
            let rules: Vec<Rule> = own.iter().flat_map(|one| one.rules.clone()).collect();
            // Nobody elsewhere is a user of this machine.
            let admits = |rule: &Rule| {
                !matches!(rule.method, Method::Reject | Method::Peer) && rule.is_for_others()
            };
            if one.is_public && !rules.iter().any(admits) {
                let message = format!(
                    "listener `{}` can be reached from other machines, and no access rule lets anybody in from there",
                    one.listener
                );
                let hint = "say who may come in: [[access]] with `from` and `method`; or listen on loopback";
                self.wrong(message, &one.address, "not loopback", hint);
            }
            self.brings(one);
            if admissions.is_empty() {
                self.by_default(one);
                continue;
            }
            if rules.is_empty() {
                let message = format!(
                    "no access rule is for listener `{}`: nobody comes in",
                    one.listener
                );
                let place = &one.address;
                let warning =
                    Mistake::new(message).at(&place.source, place.span.clone(), "this one");
                self.warnings.push(warning);
            }
            let is_udp = |address: &ListenAddress| matches!(address, ListenAddress::Udp(_));
            let asks = |one: &&&Admission| {
                let mut rules = one.rules.iter();
                rules.any(|rule| rule.method == Method::Peer || rule.needs_host())
            };
            let Some(listener) = self.plan.listeners.get_mut(&one.listener) else {
                continue;
            };
            let takes_datagrams = listener.addresses.iter().any(is_udp)
                || self
                    .plan
                    .origins
                    .get(&listener.origin)
                    .is_some_and(|origin| origin.protocol == Protocol::Udp);
            let demanding = own.iter().find(asks).filter(|_| takes_datagrams);
            listener.access = Access::new(rules, self.maps.clone());
            if let Some(admission) = demanding {
                let message = format!(
                    "listener `{}` takes datagrams, of whom nothing but the address is known",
                    one.listener
                );
                let hint = "use `trust` or `reject`, and addresses";
                self.wrong(message, &admission.method, "asks for more", hint);
            }
        }
    }

    /// Only streams are brought by proxies.
    fn brings(&self, one: &Use) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        let origin = self.plan.origins.get(&listener.origin);
        let is_udp = origin.is_some_and(|origin| origin.protocol == Protocol::Udp);
        if is_udp && listener.proxied != Proxied::default() {
            let message = format!(
                "listener `{}` takes datagrams, and no header of the PROXY protocol comes before them",
                one.listener
            );
            self.wrong(
                message,
                &one.address,
                "over UDP",
                "leave `proxy_protocol` out",
            );
        }
    }

    /// Where an origin takes us for somebody, whoever comes in is that somebody for it: without a rule, only
    /// our own user and root are trusted so far.
    fn by_default(&mut self, one: &Use) {
        let is_known = |origin: &str| {
            let origin = self.plan.origins.get(origin);
            let tls = origin.and_then(|origin| origin.settings.tls.as_ref());
            tls.is_some_and(|tls| tls.identity.is_some())
        };
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        let routes = listener.routes.iter().flat_map(|route| {
            let split = route.split.iter().map(|(origin, _)| origin);
            split.chain([&route.origin]).chain(&route.mirror)
        });
        if !routes
            .chain([&listener.origin])
            .any(|origin| is_known(origin))
        {
            return;
        }
        let uid = rustix::process::geteuid().as_raw();
        let own = ipreconnect_ports::user(uid);
        if let Some(listener) = self.plan.listeners.get_mut(&one.listener) {
            listener.access = Access::new(our_own(&[own, "root".to_owned()]), Maps::default());
        }
    }

    fn fits(&self, one: &Admission) {
        for (name, place) in &one.listeners {
            if !self.plan.listeners.contains_key(name) {
                let names = self.plan.listeners.keys().map(String::as_str);
                let hint = match nearest(name, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "a listener has the name of its origin, unless it says its own".to_owned()
                    }
                };
                let message = format!("there is no listener `{name}`");
                self.wrong(message, place, "named here", &hint);
            }
        }
        if let Some((map, place)) = &one.map
            && !self.maps.has(map)
        {
            let hint = format!("define it: [access_map] {map} = [[\"system user\", \"name\"]]");
            self.wrong(
                format!("there is no map `{map}`"),
                place,
                "named here",
                &hint,
            );
        }
        if let Some(place) = one
            .user
            .as_ref()
            .filter(|_| one.rules.iter().any(Rule::needs_roles))
        {
            let message = "who belongs to which role, PostgreSQL alone knows";
            let hint = "name the users, or write \"\\\"+name\\\"\" for one whose name begins so";
            self.wrong(message.to_owned(), place, "a role", hint);
        }
        let is_peer = one.rules.iter().all(|rule| rule.method == Method::Peer);
        if let Some(place) = one.user.as_ref().filter(|_| !is_peer) {
            let message = "nobody says here who he is, and this method does not prove it";
            let hint = "`peer` proves who a client of this machine is; without `user` the rule goes by addresses alone";
            self.wrong(message.to_owned(), place, "cannot be known", hint);
        }
        if let Some(place) = &one.database {
            let message =
                "`access.database` is not built yet: it comes with PostgreSQL at the door";
            let hint = "leave it out; a later version brings it";
            self.wrong(
                message.to_owned(),
                place,
                "known, but without effect in this version",
                hint,
            );
        }
    }

    fn origin_of(&self, one: &Use) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        if listener.unmatched == Unmatched::Served {
            self.is_there(&listener.origin, &one.origin);
        }
        for (origin, place) in &one.routes {
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
        let Some(origin) = self.plan.origins.get(&listener.origin) else {
            return;
        };
        let name = &listener.origin;
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
        if listener.mode == Protocol::Http {
            if let Some(tls) = &mut listener.tls
                && tls.alpn.is_empty()
            {
                tls.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            }
        } else if let Some((key, place)) = one.only_http.first() {
            let message = format!(
                "`{key}` needs HTTP, and the listener speaks {}",
                listener.mode.word()
            );
            mistake = Some((message, place));
        } else if let Some(place) = one.hostless.first() {
            let message = "a route needs `host` where no HTTP is spoken".to_owned();
            mistake = Some((message, place));
        }
        if origin.protocol == Protocol::Udp {
            for address in &mut listener.addresses {
                match address {
                    ListenAddress::Tcp(ip) => *address = ListenAddress::Udp(*ip),
                    ListenAddress::Udp(_) => {}
                    ListenAddress::Unix(_) => {
                        let message =
                            format!("{address} cannot lead to origin `{name}`, which speaks udp");
                        mistake = Some((message, &one.address));
                    }
                }
            }
        }
        let speaks_udp = |name: &String| {
            let origin = self.plan.origins.get(name);
            origin.is_some_and(|origin| origin.protocol == Protocol::Udp)
        };
        if let Some((origin, place)) = one.routes.iter().find(|(name, _)| speaks_udp(name)) {
            let message = format!("a route cannot lead to origin `{origin}`, which speaks udp");
            mistake = Some((message, place));
        }
        if let (Some(place), true) = (&one.tls, speaks_udp(name)) {
            let message =
                format!("`listen.tls` cannot stand before origin `{name}`, which speaks udp");
            mistake = Some((message, place));
        }
        if let Some((message, place)) = mistake {
            self.wrong(message, place, "here", "");
        }
    }

    fn only_once_listened<'a>(
        &self,
        one: &'a Use,
        seen: &mut BTreeMap<ListenAddress, &'a Definition>,
    ) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        for address in &listener.addresses {
            let is_any = address.ip().is_some_and(|address| address.port() == 0);
            if let Some(first) = seen.get(address).filter(|_| !is_any) {
                let message = format!("{address} is listened on twice");
                self.twice(&message, first, &one.address);
            } else {
                seen.insert(address.clone(), &one.address);
            }
        }
    }

    fn wrong(&self, message: String, place: &Definition, label: &'static str, hint: &str) {
        let mut mistake = Mistake::new(message).at(&place.source, place.span.clone(), label);
        if !hint.is_empty() {
            mistake = mistake.hint(hint.to_owned());
        }
        self.mistakes.borrow_mut().push(mistake);
    }
}
