//! Putting the files of a configuration together: to a plan, or to all their mistakes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::access::{Maps, Method, Roles, Rule};
use ipreconnect::resolve::DnsSettings;
use ipreconnect_proxy::Users;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::files::{base_of, files_of, find, read};
use super::mistake::{Colour, Mistake, Mistakes, Severity, Source};
use super::plan::{ListenPlan, OriginPlan, ParentPlan, Plan, Protocol, Required};
use super::section::{Field, Reader, Section};
use super::{access, alerts, dns, gateway, guard, kept, listen, log, origin};

/// A plan, and what there is to say about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    pub(crate) warnings: Vec<Mistake>,
    /// The file or directory it was read from; none if it came from the command line.
    pub(crate) place: Option<PathBuf>,
}

impl Loaded {
    /// The warnings, one line each.
    pub(crate) fn warning_lines(&self) -> Vec<String> {
        Mistakes(self.warnings.clone()).lines()
    }

    /// The warnings, drawn.
    pub(crate) fn render_warnings(&self, colour: Colour) -> String {
        let drawn = self
            .warnings
            .iter()
            .map(|warning| warning.render(Severity::Warning, colour));
        drawn.collect::<Vec<_>>().join("\n")
    }
}

/// Loads the configuration at `path`, or where it is looked for otherwise.
pub(crate) fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Mistakes> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => find(environment)?,
    };
    let mut loaded = read_all(&files_of(&path)?, environment).finish()?;
    loaded.place = Some(path);
    Ok(loaded)
}

/// Where the gateway of the configuration at `path` is asked. Mistakes elsewhere in it do not hide a
/// gateway that runs.
pub(crate) fn admin_socket(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<PathBuf, Mistakes> {
    Ok(as_far_as_right(path, environment)?.gateway.admin)
}

/// Where the gateway of the configuration at `path` keeps what it keeps.
pub(crate) fn state_directory(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<PathBuf, Mistakes> {
    Ok(as_far_as_right(path, environment)?.gateway.state_dir)
}

/// How names are resolved by the configuration at `path`, and its origins, as far as they are right.
/// Without a configuration it is the defaults.
pub(crate) fn names_and_origins(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<(DnsSettings, BTreeMap<String, OriginPlan>), Mistakes> {
    let plan = as_far_as_right(path, environment)?;
    Ok((plan.dns, plan.origins))
}

/// The plan of the configuration at `path`, as far as that is right; without one, the defaults.
fn as_far_as_right(path: Option<&Path>, environment: &Environment) -> Result<Plan, Mistakes> {
    let files = match path {
        Some(path) => files_of(path)?,
        None => match find(environment) {
            Ok(path) => files_of(&path)?,
            Err(_) => Vec::new(),
        },
    };
    Ok(read_all(&files, environment).plan)
}

fn read_all<'e>(files: &[PathBuf], environment: &'e Environment) -> Assembly<'e> {
    let mut sources = Vec::new();
    let mut mistakes = Vec::new();
    for file in files {
        match read(file) {
            Ok(source) => sources.push((Arc::new(source), base_of(file))),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    assemble(&sources, environment, mistakes)
}

/// The plan of `run --listen ADDR --origin ADDR,ADDR`.
pub(crate) fn from_addresses(
    listen: &[String],
    origins: &[String],
    environment: &Environment,
) -> Result<Loaded, Mistakes> {
    let list = |items: &[String]| {
        let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        quoted.join(", ")
    };
    let text = format!(
        "[[listen]]\naddress = [{}]\norigin = \"origin\"\n\n[origin.origin]\naddress = [{}]\n",
        list(listen),
        list(origins)
    );
    from_text(text, environment)
}

/// The plan of a text that the command line stands for.
pub(crate) fn from_text(text: String, environment: &Environment) -> Result<Loaded, Mistakes> {
    let source = Source {
        name: "command line".to_owned(),
        text,
    };
    let sources = [(Arc::new(source), PathBuf::from("."))];
    assemble(&sources, environment, Vec::new()).finish()
}

/// Where something was defined first, so that a second definition can point there.
pub(super) struct Definition {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

/// A listener, and where it says what.
pub(super) struct Use {
    pub(super) listener: String,
    pub(super) address: Definition,
    /// Others than this machine can reach it.
    pub(super) is_public: bool,
    pub(super) origin: Definition,
    pub(super) mode: Option<(Protocol, Definition)>,
    /// Origins of its routes, and those that they require.
    pub(super) routes: Vec<(String, Definition)>,
    /// Origins that its status page names.
    pub(super) shown: Vec<(String, Definition)>,
    /// Routes that say nothing of hosts.
    pub(super) hostless: Vec<Definition>,
    /// What only HTTP has.
    pub(super) only_http: Vec<(String, Definition)>,
    /// What datagrams have not.
    pub(super) of_streams: Vec<(String, Definition)>,
    pub(super) tls: Option<Definition>,
    /// Where another network namespace is named.
    pub(super) netns: Option<Definition>,
    /// Rules as PostgreSQL writes them, in place of those of the configuration.
    pub(super) hba: Option<(Vec<Rule>, Definition)>,
    pub(super) maps: Maps,
    pub(super) roles: Roles,
    pub(super) users: Option<(Arc<Users>, Definition)>,
    pub(super) rule_files: Vec<PathBuf>,
    /// Which files it names.
    pub(super) rule_keys: Vec<(String, Definition)>,
}

/// The rules of one `[[access]]`, and where it says what.
pub(super) struct Admission {
    /// The listeners that it is for; none is every one.
    pub(super) listeners: Vec<(String, Definition)>,
    pub(super) rules: Vec<Rule>,
    pub(super) demanded: Method,
    pub(super) method: Definition,
    pub(super) user: Option<Definition>,
    pub(super) database: Option<Definition>,
    pub(super) map: Option<(String, Definition)>,
    /// Sources that are hosts by their words, and what they nearly are.
    pub(super) doubtful: Vec<(String, &'static str, Definition)>,
}

pub(super) struct Assembly<'e> {
    environment: &'e Environment,
    pub(super) mistakes: RefCell<Vec<Mistake>>,
    pub(super) warnings: Vec<Mistake>,
    pub(super) plan: Plan,
    zone: Option<String>,
    pub(super) origins: BTreeMap<String, Definition>,
    listeners: BTreeMap<String, Definition>,
    pub(super) uses: Vec<Use>,
    pub(super) admissions: Vec<Admission>,
    /// A rule is wrong: what the others come to says nothing.
    pub(super) has_broken_access: bool,
    pub(super) maps: Maps,
    pub(super) tables: BTreeMap<&'static str, Definition>,
}

fn assemble<'e>(
    sources: &[(Arc<Source>, PathBuf)],
    environment: &'e Environment,
    mistakes: Vec<Mistake>,
) -> Assembly<'e> {
    let mut assembly = Assembly {
        environment,
        mistakes: RefCell::new(mistakes),
        warnings: Vec::new(),
        plan: Plan {
            gateway: gateway::defaults(environment),
            log: log::defaults(),
            dns: DnsSettings::default(),
            otlp: None,
            alerts: alerts::defaults(),
            guard: None,
            origins: BTreeMap::new(),
            listeners: BTreeMap::new(),
            permissions: environment.permissions,
        },
        zone: None,
        origins: BTreeMap::new(),
        listeners: BTreeMap::new(),
        uses: Vec::new(),
        admissions: Vec::new(),
        has_broken_access: false,
        maps: Maps::default(),
        tables: BTreeMap::new(),
    };
    // The gateway's zone decides on the order of every origin's entries.
    for pass in [Pass::Gateway, Pass::Everything] {
        for (source, base) in sources {
            assembly.file(source, base, pass);
        }
    }
    assembly.cross_check();
    assembly.lead_to_leases();
    assembly
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Gateway,
    Everything,
}

impl Assembly<'_> {
    fn finish(self) -> Result<Loaded, Mistakes> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(Mistake::order);
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        Ok(Loaded {
            plan: self.plan,
            warnings: self.warnings,
            place: None,
        })
    }

    fn file(&mut self, source: &Arc<Source>, base: &Path, pass: Pass) {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        // After the first error of syntax the others are mostly its echoes.
        if let Some(error) = errors.first() {
            if pass == Pass::Everything {
                let span = error.span().unwrap_or(0..0);
                let mistake = Mistake::new(error.message()).at(source, span, "here");
                self.mistakes.borrow_mut().push(mistake);
            }
            return;
        }
        let silenced = RefCell::default();
        let found = RefCell::default();
        let reader = Reader {
            source: Arc::clone(source),
            lookup: &*self.environment.variable,
            mistakes: if pass == Pass::Gateway {
                &silenced
            } else {
                &found
            },
        };
        let section = Section::new(&reader, "", root.get_ref(), 0..0);
        match pass {
            Pass::Gateway => {
                if let Some(table) = section.table("gateway") {
                    let read = gateway::read(table, base, self.plan.gateway.clone());
                    self.zone = read.zone.or(self.zone.take());
                }
            }
            Pass::Everything => self.everything(section, base),
        }
        self.mistakes.borrow_mut().extend(found.into_inner());
    }

    fn everything(&mut self, section: Section<'_>, base: &Path) {
        if let Some(table) = section.table("gateway") {
            self.only_once("gateway", &table);
            self.plan.gateway = gateway::read(table, base, self.plan.gateway.clone()).plan;
        }
        if let Some(table) = section.table("log") {
            self.only_once("log", &table);
            self.plan.log = log::read(table, base);
        }
        if let Some(table) = section.table("otlp") {
            self.only_once("otlp", &table);
            self.plan.otlp = log::read_otlp(table, base);
        }
        if let Some(table) = section.table("alerts") {
            self.only_once("alerts", &table);
            self.plan.alerts = alerts::read(table, base);
        }
        if let Some(table) = section.table("dns") {
            self.only_once("dns", &table);
            self.plan.dns = dns::read(table, base);
        }
        if let Some(table) = section.table("origin") {
            for (name, field) in table.names() {
                if let Some(one) = field.table() {
                    self.origin(&name, one, base);
                }
            }
        }
        if let Some(field) = section.field("listen") {
            for one in field.one_or_many() {
                let DeValue::Table(table) = one.value.get_ref() else {
                    one.wrong("must be a table", "write [[listen]]");
                    continue;
                };
                let span = one.value.span();
                let one = Section::new(section.reader, "listen", table, span);
                self.listener(one, base);
            }
        }
        if let Some(field) = section.field("access") {
            for one in field.one_or_many() {
                let DeValue::Table(table) = one.value.get_ref() else {
                    one.wrong("must be a table", "write [[access]]");
                    continue;
                };
                let span = one.value.span();
                let one = Section::new(section.reader, "access", table, span);
                self.admission(one, base);
            }
        }
        if let Some(table) = section.table("access_map") {
            self.maps.append(access::maps(&table, base));
        }
        if let Some(table) = section.table("guard") {
            self.only_once("guard", &table);
            self.plan.guard = guard::read(table);
        }
        section.finish();
    }

    fn only_once(&mut self, key: &'static str, table: &Section<'_>) {
        let definition = define(table, &table.span);
        if let Some(first) = self.tables.get(key) {
            let message = format!("`[{key}]` is defined in another file already");
            self.twice(&message, first, &definition);
        } else {
            self.tables.insert(key, definition);
        }
    }

    fn origin(&mut self, name: &str, section: Section<'_>, base: &Path) {
        let definition = define(&section, &section.span);
        if let Some(first) = self.origins.get(name) {
            let message = format!("origin `{name}` is defined twice");
            self.twice(&message, first, &definition);
            return;
        }
        self.origins.insert(name.to_owned(), definition);
        let permissions = self.plan.permissions;
        if let Some(plan) = origin::read(section, self.zone.as_deref(), base, permissions) {
            self.plan.origins.insert(name.to_owned(), plan);
        }
    }

    fn admission(&mut self, section: Section<'_>, base: &Path) {
        let reader = section.reader;
        let Some(read) = access::read(section, base, self.admissions.len()) else {
            self.has_broken_access = true;
            return;
        };
        let at = |field: Field<'_>| Definition {
            source: Arc::clone(&reader.source),
            span: field.span(),
        };
        self.admissions.push(Admission {
            listeners: read
                .listeners
                .into_iter()
                .map(|(name, field)| (name, at(field)))
                .collect(),
            rules: read.rules,
            demanded: read.demanded,
            method: at(read.method),
            user: read.user.map(at),
            database: read.database.map(at),
            map: read.map.map(|(map, field)| (map, at(field))),
            doubtful: read
                .doubtful
                .into_iter()
                .map(|(text, near, field)| (text, near, at(field)))
                .collect(),
        });
    }

    fn listener(&mut self, section: Section<'_>, base: &Path) {
        let reader = section.reader;
        let Some(read) = listen::read(section, base, self.plan.permissions) else {
            return;
        };
        let at = |span| Definition {
            source: Arc::clone(&reader.source),
            span,
        };
        let definition = at(read
            .name
            .as_ref()
            .map_or_else(|| read.address.span(), |(_, field)| field.span()));
        let own = read.name.as_ref().map(|(name, _)| name.as_str());
        let name = self.name_of(own, &read.plan);
        if let Some(first) = self.listeners.get(&name) {
            self.twice(
                &format!("listener `{name}` is defined twice"),
                first,
                &definition,
            );
            return;
        }
        self.uses.push(Use {
            listener: name.clone(),
            address: at(read.address.span()),
            is_public: !read.public.is_empty(),
            origin: at(read.origin.span()),
            mode: read.mode.map(|(mode, field)| (mode, at(field.span()))),
            routes: read
                .routes
                .iter()
                .flat_map(|route| {
                    let own = (route.plan.origin.clone(), at(route.origin.span()));
                    let required = route.requires.iter();
                    let required = required.map(|(name, field)| (name.clone(), at(field.span())));
                    std::iter::once(own).chain(required)
                })
                .collect(),
            shown: read
                .shown
                .into_iter()
                .map(|(name, field)| (name, at(field.span())))
                .collect(),
            hostless: read
                .routes
                .iter()
                .filter(|route| route.plan.hosts.is_empty())
                .map(|route| at(route.place.span()))
                .collect(),
            only_http: read
                .routes
                .iter()
                .flat_map(|route| &route.only_http)
                .chain(&read.only_http)
                .map(|field| (field.name.clone(), at(field.key.clone())))
                .collect(),
            of_streams: read
                .of_streams
                .iter()
                .map(|field| (field.name.clone(), at(field.key.clone())))
                .collect(),
            tls: read.tls.map(|field| at(field.span())),
            netns: read.netns.map(|field| at(field.span())),
            hba: read
                .rules
                .hba
                .map(|(rules, field)| (rules, at(field.span()))),
            maps: read.rules.maps,
            roles: read.rules.roles,
            users: read
                .rules
                .users
                .map(|(users, field)| (users, at(field.span()))),
            rule_files: read.rules.files,
            rule_keys: read
                .rules
                .keys
                .iter()
                .map(|field| (field.name.clone(), at(field.key.clone())))
                .collect(),
        });
        self.listeners.insert(name.clone(), definition);
        for parent in read
            .plan
            .forward
            .iter()
            .flat_map(|forward| forward.parents())
        {
            self.parent(parent, base);
        }
        self.plan.listeners.insert(name, read.plan);
    }

    /// Ports that are kept by name are origins of the listeners that lead there.
    fn lead_to_leases(&mut self) {
        let Some(file) = kept::file(&self.plan) else {
            return;
        };
        match crate::leases::kept(&self.plan.gateway.state_dir) {
            Ok(leases) => kept::lead(&mut self.plan, &leases),
            Err(error) => {
                let message = format!(
                    "the kept ports cannot be read from {}: {error}",
                    file.display()
                );
                let hint = "listeners with mode = \"leases\" lead nowhere until it can be read";
                self.warnings.push(Mistake::new(message).hint(hint));
            }
        }
    }

    /// A proxy behind a forward proxy is kept as any origin is.
    fn parent(&mut self, parent: &ParentPlan, base: &Path) {
        let text = format!("address = {:?}\nrequired = false\n", parent.address);
        let (lookup, zone) = (&*self.environment.variable, self.zone.as_deref());
        made_up(&mut self.plan, lookup, zone, (&parent.origin, &text), base);
        if let Some(plan) = self.plan.origins.get_mut(&parent.origin) {
            // Whoever comes goes by the next one meanwhile.
            plan.settings.hold.patience = Duration::ZERO;
        }
    }

    /// Its own name, else its origin's, else its address.
    fn name_of(&self, own: Option<&str>, plan: &ListenPlan) -> String {
        match own {
            Some(own) => own.to_owned(),
            None if plan.status.is_some() && !self.listeners.contains_key("status") => {
                "status".to_owned()
            }
            None if plan.forward.is_some() && !self.listeners.contains_key("forward") => {
                "forward".to_owned()
            }
            None if plan.leases && !self.listeners.contains_key("leases") => "leases".to_owned(),
            None if !plan.has_origin() || self.listeners.contains_key(&plan.origin) => {
                let address = plan.addresses.first().map(ToString::to_string);
                address.unwrap_or_else(|| plan.origin.clone())
            }
            None => plan.origin.clone(),
        }
    }

    pub(super) fn twice(&self, message: &str, first: &Definition, second: &Definition) {
        let mut mistake =
            Mistake::new(message).at(&second.source, second.span.clone(), "again here");
        if Arc::ptr_eq(&first.source, &second.source) {
            mistake = mistake.and_at(first.span.clone(), "first here");
        } else {
            let before = first
                .source
                .text
                .get(..first.span.start)
                .unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            mistake = mistake.hint(format!("first defined at {}:{line}", first.source.name));
        }
        self.mistakes.borrow_mut().push(mistake);
    }
}

fn define(section: &Section<'_>, span: &Range<usize>) -> Definition {
    Definition {
        source: Arc::clone(&section.reader.source),
        span: span.clone(),
    }
}

impl OriginPlan {
    /// Whether the application cannot do without it.
    pub(crate) fn is_required(&self) -> bool {
        self.required == Required::Yes
    }
}

/// An origin that no file has, by what a file would say of it.
pub(super) fn made_up(
    plan: &mut Plan,
    lookup: &dyn Fn(&str) -> Option<String>,
    zone: Option<&str>,
    (name, text): (&str, &str),
    base: &Path,
) {
    if plan.origins.contains_key(name) {
        return;
    }
    let silenced = RefCell::default();
    let reader = Reader {
        source: Arc::new(Source {
            name: name.to_owned(),
            text: text.to_owned(),
        }),
        lookup,
        mistakes: &silenced,
    };
    let (root, _) = DeTable::parse_recoverable(text);
    let section = Section::new(&reader, "origin", root.get_ref(), 0..0);
    if let Some(mut made) = origin::read(section, zone, base, plan.permissions) {
        made.settings.warm.connections = 0;
        plan.origins.insert(name.to_owned(), made);
    }
}
