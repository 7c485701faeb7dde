//! Rules and listeners put together: who may come in where, and whether that can be.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipreconnect::core::access::{
    ClientCert, Foreign, Kind, Maps, Method, Rule, our_own, our_own_said,
};
use ipreconnect_proxy::{Access, AccessSettings, Asking, ListenAddress, Proxied, ProxyProtocol};

use super::load::{Admission, Assembly, Definition, Use};
use super::mistake::Mistake;
use super::plan::{ListenPlan, Protocol};
use super::section::nearest;

/// What is wrong with a rule at a listener: the message, the place, what stands under it, and what can be done.
type Wrong<'a> = (String, &'a Definition, &'static str, &'static str);

impl Assembly<'_> {
    /// Gives each listener its rules.
    pub(super) fn admit(&mut self, uses: &[Use]) {
        let admissions = std::mem::take(&mut self.admissions);
        for one in &admissions {
            self.is_sound(one);
        }
        let mut told = BTreeSet::new();
        for one in uses {
            self.admit_one(one, &admissions, &mut told);
        }
    }

    /// Whose a socket of another network namespace is cannot be looked up: the same addresses may be somebody else's
    /// in ours.
    fn knows_its_clients(&self, one: &Use, rules: &[Rule]) {
        let asks = |rule: &Rule| rule.method == Method::Peer && rule.kind != Kind::Local;
        if let (Some(place), true) = (&one.netns, rules.iter().any(asks)) {
            let message = "`peer` cannot tell who clients of another network namespace are";
            let hint = "admit them by address, certificate or password: [[access]] listen = \"…\", from = \"loopback\", method = \"trust\"";
            self.wrong(message.to_owned(), place, "clients come from there", hint);
        }
    }

    /// `told` are the rules that were found not to suit a listener: once is enough.
    fn admit_one(&mut self, one: &Use, admissions: &[Admission], told: &mut BTreeSet<usize>) {
        self.brings(one);
        let own = self.own(one, admissions);
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        let asking = asking(listener.mode);
        for (number, admission) in &own {
            if let Some((message, place, label, hint)) = self.suits(one, admission, asking)
                && told.insert(*number)
            {
                self.wrong(message, place, label, hint);
            }
        }
        self.needs_no_files(one, listener.mode);
        let mut settings = AccessSettings {
            maps: self.maps.clone(),
            roles: one.roles.clone(),
            users: one.users.as_ref().map(|(users, _)| Arc::clone(users)),
            asking,
            ..AccessSettings::default()
        };
        if let Some((rules, _)) = &one.hba {
            settings.maps = one.maps.clone();
            settings.rules = rules.clone();
        } else if admissions.is_empty() && !self.has_broken_access {
            (settings.rules, settings.maps) =
                self.by_default(listener, asking, one.users.is_some());
        } else {
            settings.rules = own.iter().flat_map(|(_, one)| one.rules.clone()).collect();
        }
        let has_tls = listener.tls.is_some();
        if asking == Asking::Postgres && has_tls && one.hba.is_none() {
            // Whoever opens TLS wants it to be used; a file of PostgreSQL's says so itself.
            for rule in &mut settings.rules {
                if rule.kind == Kind::Host {
                    rule.kind = Kind::HostSsl;
                }
            }
        }
        self.knows_its_clients(one, &settings.rules);
        self.admits_somebody(one, &settings.rules, admissions);
        self.asks_somebody(one, &settings.rules, asking);
        if let Some((rules, place)) = &one.hba {
            self.warn_of(one, rules, place);
        }
        if let Some(listener) = self.plan.listeners.get_mut(&one.listener) {
            listener.access = Access::new(settings);
            listener.rule_files = one.rule_files.clone();
        }
    }

    /// The rules of the configuration that are for a listener, with their numbers.
    fn own<'a>(&self, one: &Use, admissions: &'a [Admission]) -> Vec<(usize, &'a Admission)> {
        let names = |admission: &&Admission| {
            let mut listeners = admission.listeners.iter();
            listeners.any(|(name, _)| *name == one.listener)
        };
        if one.hba.is_some() {
            if let Some(admission) = admissions.iter().find(names) {
                let message = format!(
                    "listener `{}` goes by its own file (`hba`), and not by rules of the configuration",
                    one.listener
                );
                let hint = "write the rule into that file, or leave `hba` out";
                self.wrong(message, &admission.method, "without effect there", hint);
            }
            return Vec::new();
        }
        let all = admissions.iter().enumerate();
        all.filter(|(_, one)| one.listeners.is_empty() || names(one))
            .collect()
    }

    fn admits_somebody(&mut self, one: &Use, rules: &[Rule], admissions: &[Admission]) {
        // Nobody elsewhere is a user of this machine.
        let admits = |rule: &Rule| {
            !matches!(rule.method, Method::Reject | Method::Peer) && rule.is_for_others()
        };
        // Where rules cannot be read, that is what is wrong.
        if one.is_public && !rules.iter().any(admits) && !self.has_broken_access {
            let message = format!(
                "listener `{}` can be reached from other machines, and no access rule lets anybody in from there",
                one.listener
            );
            let hint =
                "say who may come in: [[access]] with `from` and `method`; or listen on loopback";
            self.wrong(message, &one.address, "not loopback", hint);
        }
        let is_empty = rules.is_empty() && (!admissions.is_empty() || one.hba.is_some());
        if is_empty && !self.has_broken_access {
            let message = format!(
                "no access rule is for listener `{}`: nobody comes in",
                one.listener
            );
            self.warn(message, &one.address, "this one", "");
        }
    }

    /// Passwords that are asked for in vain, or by nobody, or where others can hear them.
    fn asks_somebody(&mut self, one: &Use, rules: &[Rule], asking: Asking) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        let name = &one.listener;
        let has_tls = listener.tls.is_some();
        let is_brought = listener.proxied.protocol == ProxyProtocol::Require;
        let origin = self.plan.origins.get(&listener.origin);
        let origin_has_tls = origin.is_some_and(|origin| origin.settings.tls.is_some());
        let asks = |method: Method| rules.iter().any(|rule| rule.method == method);
        let asks_any = asks(Method::Password) || asks(Method::ScramSha256);
        let asks_any = asks_any || asks(Method::Other(Foreign::Md5));
        let mut told = Vec::new();
        if let Some((users, place)) = &one.users {
            if !asks_any {
                told.push((
                    format!("listener `{name}` has users, and no rule asks for their passwords: they are of no use"),
                    place,
                    "[[access]] with method = \"scram-sha-256\"",
                ));
            }
            let without = users.without_scram();
            if asking == Asking::Postgres && asks(Method::ScramSha256) && without > 0 {
                told.push((
                    format!("{without} users of listener `{name}` have a hash by Argon2, and cannot come in by scram-sha-256"),
                    place,
                    "`ipreconnect password NAME` makes what is needed for it; or use method = \"password\" inside TLS",
                ));
            }
            if asking == Asking::Postgres && asks(Method::Password) && !has_tls {
                told.push((
                    format!("listener `{name}` has no TLS, and takes no password in clear text without it, but over a Unix socket"),
                    place,
                    "use method = \"scram-sha-256\", or open TLS",
                ));
            }
            if asking == Asking::Http && one.is_public && !has_tls && !is_brought {
                told.push((
                    format!("clients of listener `{name}` show their passwords in the clear, to whoever is in between"),
                    place,
                    "open TLS at the listener: tls = { cert = …, key = … }",
                ));
            }
        } else if asking == Asking::Postgres && asks_any && has_tls && origin_has_tls {
            told.push((
                format!("listener `{name}` opens TLS, and so does its origin: a server that binds passwords to its own TLS (SCRAM-SHA-256-PLUS) refuses every client"),
                &one.address,
                "name `users` at the listener, so that they are asked here; or reach the origin without TLS",
            ));
        }
        for (message, place, hint) in told {
            self.warn(message, place, "here", hint);
        }
    }

    /// Only streams are brought by proxies.
    fn brings(&self, one: &Use) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        if self.takes_datagrams(listener) && listener.proxied != Proxied::default() {
            let message = format!(
                "listener `{}` takes datagrams, and no header of the PROXY protocol comes before them",
                one.listener
            );
            let hint = "leave `proxy_protocol` out";
            self.wrong(message, &one.address, "over UDP", hint);
        }
    }

    fn takes_datagrams(&self, listener: &ListenPlan) -> bool {
        let is_udp = |address: &ListenAddress| matches!(address, ListenAddress::Udp(_));
        let origin = self.plan.origins.get(&listener.origin);
        listener.addresses.iter().any(is_udp)
            || origin.is_some_and(|origin| origin.protocol == Protocol::Udp)
    }

    /// Without a rule whatever is of this machine is trusted. Where an origin takes us for somebody, whoever
    /// comes in is that somebody for it, and only our own user and root are.
    fn by_default(
        &self,
        listener: &ListenPlan,
        asking: Asking,
        has_users: bool,
    ) -> (Vec<Rule>, Maps) {
        let is_known = |origin: &str| {
            let origin = self.plan.origins.get(origin);
            let tls = origin.and_then(|origin| origin.settings.tls.as_ref());
            tls.is_some_and(|tls| tls.identity.is_some())
        };
        let routes = listener.routes.iter().flat_map(|route| {
            let split = route.split.iter().map(|(origin, _)| origin);
            split.chain([&route.origin]).chain(&route.mirror)
        });
        // Where users are named for those who go through, each is to be one of them.
        if listener.forward.is_some() && has_users {
            let mut rules = ipreconnect::core::access::this_machine();
            for rule in &mut rules {
                rule.method = Method::Password;
            }
            return (rules, Maps::default());
        }
        let mut origins = routes.chain([&listener.origin]);
        if !origins.any(|origin| is_known(origin)) {
            let rules = ipreconnect::core::access::this_machine();
            return (rules, Maps::default());
        }
        let uid = rustix::process::geteuid().as_raw();
        let own = [ipreconnect_ports::user(uid), "root".to_owned()];
        match asking {
            Asking::Postgres => our_own_said(&own),
            Asking::Not | Asking::Http => (our_own(&own), Maps::default()),
        }
    }

    /// Whether a rule can be, at whichever listener.
    fn is_sound(&mut self, one: &Admission) {
        for (name, place) in &one.listeners {
            if self.plan.listeners.contains_key(name) {
                continue;
            }
            let names = self.plan.listeners.keys().map(String::as_str);
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a listener has the name of its origin, unless it says its own".to_owned(),
            };
            let message = format!("there is no listener `{name}`");
            self.wrong(message, place, "named here", &hint);
            self.has_broken_access = true;
        }
        if let Some((map, place)) = &one.map
            && !self.maps.has(map)
        {
            let hint = format!("define it: [access_map] {map} = [[\"system user\", \"name\"]]");
            let message = format!("there is no map `{map}`");
            self.wrong(message, place, "named here", &hint);
        }
        for (from, near, place) in &one.doubtful {
            let message = format!("{from:?} is taken for the name of a host");
            let hint = format!("did you mean `{near}`?");
            self.warn(message, place, "a host", &hint);
        }
        let is_elsewhere =
            one.demanded == Method::Peer && one.rules.iter().all(Rule::is_for_others);
        if is_elsewhere {
            let message = "nobody who comes from there is a user of this machine: `peer` lets none of them in";
            let hint = "`peer` is for `local` and `loopback`; `cert` or a password proves who comes from elsewhere";
            self.warn(
                message.to_owned(),
                &one.method,
                "proves nothing there",
                hint,
            );
        }
    }

    /// Whether a rule can be at a listener; else what is wrong.
    fn suits<'a>(&self, one: &'a Use, rule: &'a Admission, asking: Asking) -> Option<Wrong<'a>> {
        let listener = self.plan.listeners.get(&one.listener)?;
        let (name, method) = (&one.listener, rule.demanded);
        let asks = !matches!(method, Method::Trust | Method::Reject)
            || rule.rules.iter().any(Rule::needs_host);
        if asks && self.takes_datagrams(listener) {
            return Some((
                format!(
                    "listener `{name}` takes datagrams, of whom nothing but the address is known"
                ),
                &rule.method,
                "asks for more",
                "use `trust` or `reject`, and addresses",
            ));
        }
        let is_password = matches!(method, Method::Password | Method::ScramSha256);
        if is_password && asking == Asking::Not {
            return Some((
                format!(
                    "nobody can say a password at listener `{name}`, which carries bytes of any kind"
                ),
                &rule.method,
                "cannot be asked for there",
                "name the listeners that the rule is for (`listen`); `mode = \"http\"` and \"postgres\" hear passwords, `peer` and `cert` need none",
            ));
        }
        if is_password && one.users.is_none() && asking == Asking::Http {
            return Some((
                format!("listener `{name}` knows no passwords"),
                &rule.method,
                "asks for one",
                "name a file of users at the listener: users = { file = \"users.txt\" }",
            ));
        }
        let asks_certificate = listener
            .tls
            .as_ref()
            .is_some_and(|tls| !tls.client_roots.is_empty());
        if method == Method::Cert && !asks_certificate {
            return Some((
                format!("no client of listener `{name}` shows a certificate"),
                &rule.method,
                "asks for one",
                "tls = { cert = …, key = …, client_ca = \"ca.pem\" } asks for them, and verifies them",
            ));
        }
        self.suits_names(one, rule, asking)
    }

    /// Whether the names that a rule is for can be known at a listener; else what is wrong.
    fn suits_names<'a>(
        &self,
        one: &'a Use,
        rule: &'a Admission,
        asking: Asking,
    ) -> Option<Wrong<'a>> {
        let (name, method) = (&one.listener, rule.demanded);
        let is_for_roles = rule.rules.iter().any(Rule::needs_roles);
        if let Some(place) = rule.user.as_ref().or(rule.database.as_ref())
            && is_for_roles
            && one.roles.is_empty()
        {
            return Some((
                "who belongs to which role, PostgreSQL alone knows".to_owned(),
                place,
                "a role",
                "write them down, `roles = \"roles.conf\"` at the listener; or name the users, \"\\\"+name\\\"\" for one whose name begins so",
            ));
        }
        if let Some(place) = &rule.database
            && asking != Asking::Postgres
        {
            return Some((
                format!("nobody says at listener `{name}` which database he wants"),
                place,
                "cannot be known",
                "`mode = \"postgres\"` hears it",
            ));
        }
        let is_named = match asking {
            Asking::Postgres => true,
            // Who is refused need not prove that he is the one.
            Asking::Http if method == Method::Reject => one.users.is_some(),
            Asking::Http | Asking::Not => !matches!(method, Method::Trust | Method::Reject),
        };
        let place = rule.user.as_ref().filter(|_| !is_named)?;
        Some((
            "nobody says here who he is, and this method does not prove it".to_owned(),
            place,
            "cannot be known",
            "`peer` proves who a client of this machine is, `cert` who holds a certificate; without `user` the rule goes by addresses alone",
        ))
    }

    /// Keys that only some listeners have a use for.
    fn needs_no_files(&self, one: &Use, mode: Protocol) {
        for (key, place) in &one.rule_keys {
            let (is_of_use, hint) = match key.as_str() {
                "listen.users" | "listen.forward.users" | "listen.roles" => (
                    matches!(mode, Protocol::Http | Protocol::Postgres),
                    "nobody can say a password here: `mode = \"http\"` or \"postgres\"",
                ),
                "listen.ident" => (
                    mode == Protocol::Postgres && one.hba.is_some(),
                    "it belongs to `hba`; maps of [[access]] stand in [access_map]",
                ),
                _ => (mode == Protocol::Postgres, "mode = \"postgres\""),
            };
            // A file that could not be read says enough.
            let is_broken =
                key == "listen.ident" && one.rule_keys.iter().any(|(key, _)| key == "listen.hba");
            if !is_of_use && !is_broken {
                let message = format!("`{key}` is of no use at listener `{}`", one.listener);
                self.wrong(message, place, "here", hint);
            }
        }
    }

    /// What a file of PostgreSQL's says that cannot come true here.
    fn warn_of(&mut self, one: &Use, rules: &[Rule], place: &Definition) {
        let Some(listener) = self.plan.listeners.get(&one.listener) else {
            return;
        };
        // What is to be asked, and is asked by nobody, lets everybody in.
        let unasked =
            |rule: &&Rule| matches!(rule.method, Method::Other(method) if method != Foreign::Md5);
        if let (Some(rule), Some(_)) = (rules.iter().find(unasked), &one.users) {
            let at = format!("{}:{}", rule.place.file.display(), rule.place.line);
            let method = rule.method.name();
            let message = format!(
                "{at}: nobody asks by `{method}` here: where `users` are named, the gateway asks, and the server behind trusts it"
            );
            let hint = "use scram-sha-256 or password, or leave `users` out";
            self.wrong(message, place, "this file", hint);
        }
        let refuses_role = |rule: &&Rule| rule.method == Method::Reject && rule.needs_roles();
        if let Some(rule) = rules.iter().find(refuses_role)
            && one.roles.is_empty()
        {
            let at = format!("{}:{}", rule.place.file.display(), rule.place.line);
            let message = format!(
                "{at}: who belongs to which role is not known, and so nobody would be refused"
            );
            let hint = "write them down: roles = \"roles.conf\" at the listener";
            self.wrong(message, place, "this file", hint);
        }
        let has_tls = listener.tls.is_some();
        let roots = listener.tls.as_ref().map(|tls| tls.client_roots.len());
        let asks_for_none = has_tls && roots == Some(0);
        let knows_no_roles = one.roles.is_empty();
        let first = |is_one: &dyn Fn(&&Rule) -> bool| {
            let rule = rules.iter().find(is_one)?;
            Some(format!("{}:{}", rule.place.file.display(), rule.place.line))
        };
        let told = [
            (
                first(&|rule| !has_tls && rule.kind == Kind::HostSsl),
                "hostssl record cannot match because SSL is disabled",
                "open TLS at the listener: tls = { cert = …, key = … }",
            ),
            (
                first(&|rule| asks_for_none && rule.client_cert != ClientCert::Off),
                "a certificate is asked for, and no client is asked to show one",
                "tls = { …, client_ca = \"ca.pem\" }",
            ),
            (
                first(&|rule| knows_no_roles && rule.needs_roles()),
                "who belongs to which role is not known: nobody but the user of the role's own name does",
                "write them down: roles = \"roles.conf\" at the listener",
            ),
        ];
        for (at, what, hint) in told {
            if let Some(at) = at {
                self.warn(format!("{at}: {what}"), place, "this file", hint);
            }
        }
    }

    fn warn(&mut self, message: String, place: &Definition, label: &'static str, hint: &str) {
        let mut warning = Mistake::new(message).at(&place.source, place.span.clone(), label);
        if !hint.is_empty() {
            warning = warning.hint(hint);
        }
        self.warnings.push(warning);
    }
}

/// How clients of a listener can be asked who they are.
fn asking(mode: Protocol) -> Asking {
    match mode {
        Protocol::Postgres => Asking::Postgres,
        Protocol::Http | Protocol::H2 => Asking::Http,
        Protocol::Tcp | Protocol::Udp => Asking::Not,
    }
}
