//! The reference of all keys, as `check --reference` prints it. A test holds it against what the
//! sections really read.

use std::fmt::Write;

/// One section of the file.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// Key, default, meaning.
    pub(super) keys: &'static [(&'static str, &'static str, &'static str)],
    /// Keys that are known and refused, because what they need is not built yet.
    pub(super) later: &'static [&'static str],
}

pub(super) const PARTS: &[Part] = &[
    Part {
        title: "[gateway]",
        about: "The process.",
        keys: &[
            ("workers", "`0`", "worker threads; 0 is one for each core"),
            (
                "state_dir",
                "`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/ipreconnect`",
                "where the lock and the admin socket are; one gateway each",
            ),
            (
                "admin",
                "`\"unix:admin.sock\"`",
                "where the admin API is: a Unix socket, relative to `state_dir`, and addresses of this machine, such as `\"127.0.0.1:9311\"`, for the dashboard; those ask for the token in `state_dir/token`",
            ),
            (
                "admin_hosts",
                "`[]`",
                "names that requests to the admin API over TCP may be for, beside addresses and `localhost`",
            ),
            (
                "shutdown",
                "`\"30s\"`",
                "grace for clients when the gateway ends",
            ),
            ("zone", "none", "entries of the same zone are preferred"),
        ],
        later: &[],
    },
    Part {
        title: "[log]",
        about: "One line for each event. Nothing waits for lines to be written: threads of their own do that. What is said more than five times in ten seconds is told as one line with a count.",
        keys: &[
            (
                "level",
                "`\"info\"`",
                "`error`, `warn`, `info`, `debug` or `trace`",
            ),
            ("format", "`\"text\"`", "`text` or `json`"),
            (
                "to",
                "`[\"stderr\"]`",
                "where lines go: any of `stderr`, `file`, `syslog` and `otlp` (the collector of `[otlp]`)",
            ),
            (
                "file",
                "none",
                "the file of `file`; it may be moved away at any time, and a new one is begun",
            ),
            (
                "syslog",
                "`\"unix:/dev/log\"`",
                "the daemon of `syslog`: a Unix socket, `udp://ADDRESS:PORT` or `tcp://ADDRESS:PORT` (RFC 5424)",
            ),
            (
                "access",
                "none",
                "the file of the access log: one line for each request; a reload or SIGHUP opens it again",
            ),
            (
                "access_format",
                "`\"json\"`",
                "`json`, `combined` as web servers write it, or `squid` as that proxy does",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[otlp]",
        about: "A collector of OpenTelemetry, which is told by OTLP over HTTP, in JSON.",
        keys: &[
            (
                "url",
                "required",
                "where it is; `/v1/logs` and `/v1/traces` are added",
            ),
            (
                "headers",
                "none",
                "what every delivery has with it, as in `{ x-api-key = { file = \"key\" } }`",
            ),
            ("service", "`\"ipreconnect\"`", "`service.name`"),
            (
                "traces",
                "`false`",
                "whether requests over HTTP are traced: one span each, with what happened to it (held, retried, endpoint changed); the origin is told by `traceparent`",
            ),
            (
                "sample",
                "`1.0`",
                "the share of requests that are traced if they have no `traceparent`; others go by what that says",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[dns]",
        about: "How names are resolved, for all origins. A and AAAA are two lookups; one lookup serves everybody who uses a name.",
        keys: &[
            (
                "servers",
                "`[\"system\"]`",
                "whom to ask, the preferred one first: `system` (the operating system's own resolution, NSS included), an address as `\"9.9.9.9\"` or `\"127.0.0.1:5353\"`, `tcp://ADDRESS`, `tls://ADDRESS#NAME` (the name in its certificate), `https://HOST/PATH`",
            ),
            (
                "strategy",
                "`\"order\"`",
                "`order`: the next one joins after 300 ms, or at once on failure; `race`: all at once; in both a denial counts only when every preferred server has had its say",
            ),
            (
                "dnssec",
                "`\"off\"`",
                "`validate`: provably false answers are never used; `require`: only proven ones are",
            ),
            (
                "trust_anchor",
                "the root's own keys",
                "a file of DNSKEY records that DNSSEC begins with",
            ),
            (
                "min_ttl",
                "`\"1s\"`",
                "a shorter time to live is taken for this",
            ),
            (
                "max_ttl",
                "`\"1h\"`",
                "a longer time to live is taken for this",
            ),
            (
                "stale_for",
                "`\"1d\"`",
                "for how long an answer is used after its time, while no resolver answers; also after a restart",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME]",
        about: "A server that the application cannot work without.",
        keys: &[
            (
                "address",
                "required",
                "`host:port`, `ip:port`, `[v6]:port`, `unix:/path`, `srv:_service._tcp.domain`, `http://host`, `https://host`, with `udp://` before it for UDP, `tls://` for TLS, or a table `{ to, weight, backup, zone }`; a list is in order of preference",
            ),
            (
                "protocol",
                "`\"tcp\"`",
                "`tcp`, `udp`, `http` (1.1) or `h2` (HTTP/2, inside TLS as agreed by ALPN, else as is known of the origin); a scheme in the address sets it too: `tcp`, `udp`, `http`, `https`, `h2` (with TLS), `h2c` (without)",
            ),
            (
                "required",
                "`true`",
                "whether `status` and `/readyz` wait for it",
            ),
            (
                "feature",
                "none",
                "what an application should switch off while it is down",
            ),
            (
                "balance",
                "`\"failover\"`",
                "`failover` (each entry is a backup of those before it), or, among equals: `round-robin`, `least-connections`, `p2c-ewma`, `random`, `hash`",
            ),
            (
                "hash_on",
                "`\"source\"`",
                "with `hash`: the client's address; of an `http` origin also `header:NAME`, `cookie:NAME` (the address where a request has none), `path`",
            ),
            (
                "host",
                "see meaning",
                "of an `http` origin, whom it is asked for: `client` (the host that the client named), `origin` (its own address), or a host. By default `origin` with TLS, else `client`",
            ),
            ("retry", "", "see below"),
            ("connect", "", "see below"),
            ("timeouts", "", "see below"),
            ("health", "", "see below"),
            ("reconnect", "", "see below"),
            ("hold", "", "see below"),
            ("pool", "", "see below"),
            (
                "tls",
                "none",
                "see below; present means TLS, and an address written `tls://host:port` does too",
            ),
            ("on", "none", "see below"),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.on]",
        about: "What is done when it is lost, and when it is back: each a table with `exec` (a program, which gets the facts in `IPRECONNECT_EVENT`, `_ORIGIN`, `_LAYER`, `_CAUSE`, `_BLAME` and `_LASTED_MS`, and as JSON on its standard input) or `webhook` (a URL, or `{ file = PATH }`, that the facts are posted to). It has 30 seconds; those of one origin come one after the other.",
        keys: &[
            ("down", "none", "when it is down"),
            ("up", "none", "when it is up again"),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.retry]",
        about: "Requests whose connection was lost before their answer, of an `http` origin. One that is idempotent is sent again; any other one only if it provably was not processed.",
        keys: &[
            ("attempts", "`3`", "how often one request may be sent"),
            (
                "budget",
                "`0.2`",
                "the share of live traffic that may be retries, beside ten a second for each worker",
            ),
            (
                "hedge",
                "`\"suspect\"`",
                "`suspect`: an idempotent request gets a second try elsewhere when its endpoint is in doubt; `outlier`: also when it takes far longer than that endpoint usually does for the same path; `off`",
            ),
            (
                "idempotency_key",
                "`false`",
                "whether a request with an `Idempotency-Key` may be sent again to the same endpoint, which is to recognise it",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.pool]",
        about: "Connections that are kept ready: dialled, inside TLS where the origin has it, and proven. Who comes takes one of them.",
        keys: &[
            (
                "warm",
                "`0`, of `http` `2`",
                "how many, on the preferred endpoint, and as many on the first backup. Some servers count or close connections that say nothing",
            ),
            (
                "idle",
                "`\"60s\"`",
                "how long one is kept, and one of `http` between requests; less, where the origin says so (`Keep-Alive`) or was seen to close it before",
            ),
            (
                "max",
                "`0`",
                "of `http` and `h2`: how many connections to each endpoint, those aside that are kept ready; requests wait for one as long as the hold allows. Each worker has its part of them, and at least one. 0 is no limit",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.tls]",
        about: "TLS to the origin. Its servers prove who they are on every connection, before the first byte. The files are read again when they change.",
        keys: &[
            (
                "server_name",
                "the host of each address",
                "the name that certificates must be valid for; that of `srv:` is the domain that was asked for",
            ),
            (
                "ca",
                "the system's roots",
                "a PEM file of the only roots that count",
            ),
            (
                "client_cert",
                "none",
                "a PEM file with our own chain, for servers that ask for one",
            ),
            (
                "client_key",
                "`client_cert`",
                "a PEM file with its key, readable by its owner alone",
            ),
            (
                "pins",
                "none",
                "`sha256/` and the base64 of a public key's hash (SPKI); the chain must have one of them. Pin a key that is kept for emergencies, too",
            ),
            (
                "verify",
                "`true`",
                "false verifies nothing but pins, and needs `insecure = true` beside it",
            ),
            (
                "insecure",
                "`false`",
                "the second word for `verify = false`",
            ),
            (
                "on_key_change",
                "`\"verify\"`",
                "a key that is another one than before, with a valid chain and name: `verify` notes it, `alarm` uses it and tells people until they accept it, `refuse` does not use it before",
            ),
            (
                "alpn",
                "none",
                "protocols to offer, the preferred one first",
            ),
            (
                "starttls",
                "none",
                "`postgres`: TLS begins after PostgreSQL's SSLRequest",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.connect]",
        about: "One attempt, and the race between addresses (RFC 8305).",
        keys: &[
            ("timeout", "`\"2s\"`", "how long one attempt may take"),
            (
                "attempt_delay",
                "`\"250ms\"`",
                "until the next address is dialled too; sooner where the path's history says so",
            ),
            (
                "allow_ips",
                "see meaning",
                "the networks that may be dialled, judged after resolution; by default all but link-local and multicast addresses, clouds' metadata services, and loopback through a name other than `localhost` and those below it",
            ),
            (
                "local_ports",
                "the kernel's",
                "the ports that connections are made from, as `\"40000-49999\"`: those of this origin then take no port from others (`ipreconnect ports pressure`). They are a part of the kernel's own range (`net.ipv4.ip_local_port_range`). It takes Linux 6.3",
            ),
            (
                "proxy_protocol",
                "`\"off\"`",
                "of a `tcp` origin: `v1` or `v2`, how it is told whose connection each is, before everything else; `v2` with what is known of the client's TLS. Connections of the gateway itself say so",
            ),
        ],
        later: &["source"],
    },
    Part {
        title: "[origin.NAME.timeouts]",
        about: "Streams, and answers.",
        keys: &[
            (
                "first_byte",
                "`\"60s\"`",
                "of an `http` origin: from the end of a request to the beginning of its answer; after that, 504",
            ),
            (
                "idle",
                "`\"1h\"`",
                "silent in both directions for so long: closed; of UDP sessions the default is `\"60s\"`",
            ),
            (
                "stall",
                "`\"30s\"`",
                "bytes wait, the peer's window is open, nothing moves: reset",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.health]",
        about: "The heartbeat, and what follows from it.",
        keys: &[
            (
                "check",
                "`\"auto\"`",
                "`auto`: a TLS handshake where TLS is used, else `tcp`, a half-open check that the server's application does not see; `tls`; `off`; `http:/path` asks for a page, in HTTP/2 of an `h2` origin, and `send:PING\\r\\n expect:+PONG` of a `tcp` origin sends bytes and compares how the answer begins (`send:` alone, where the server speaks first); a UDP endpoint is looked at by an empty datagram at the start and while it refuses, never else",
            ),
            (
                "status",
                "`\"200-399\"`",
                "with `http:`, the answers that are good, as in `200` or `200-299,404`",
            ),
            (
                "interval",
                "`\"5s\"`",
                "between heartbeats of an idle endpoint; none while real traffic proves it, which it does not for checks that ask something; 250 ms while it is suspect",
            ),
            ("timeout", "`\"500ms\"`", "how long a heartbeat waits"),
            (
                "down_after",
                "`2`",
                "failures in a row until an endpoint is down",
            ),
            (
                "up_after",
                "`2`",
                "successes in a row until a preferred endpoint returns",
            ),
            (
                "on_down",
                "`\"keep\"`",
                "`keep` or `close` established streams of an endpoint that is down",
            ),
            (
                "on_return",
                "`\"keep\"`",
                "`keep` or `close` streams on the backup when the preferred endpoint is back",
            ),
            (
                "passive",
                "`true` of `http` and `h2`",
                "whether an endpoint is set aside whose answers are far worse than those of the others: half of 20 or more within ten seconds 5xx (but 501 and 505) or lost while most others stay below a tenth, or three times as slow and 50 ms slower. For 10 s, and longer each time, up to 5 min",
            ),
            (
                "max_ejected",
                "`0.5`",
                "the most that is set aside of an origin's endpoints; the last good one never is",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.reconnect]",
        about: "Attempts while the origin is down. The first is immediate; clients that wait make the schedule denser.",
        keys: &[
            (
                "first",
                "`\"50ms\"`",
                "the delay after the immediate attempt",
            ),
            ("factor", "`2.0`", "by which delays grow"),
            ("max", "`\"15s\"`", "the longest delay"),
            (
                "jitter",
                "`\"full\"`",
                "`full`, `equal`, `decorrelated` or `none`",
            ),
            (
                "attempts",
                "`0`",
                "after so many the origin is given up; 0 is never",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[origin.NAME.hold]",
        about: "Clients wait here while the origin is away.",
        keys: &[
            (
                "for",
                "`\"10s\"`",
                "how long one client waits; `\"0s\"` fails at once",
            ),
            (
                "clients",
                "`10000`",
                "how many wait at once, over all workers",
            ),
            (
                "bytes",
                "`\"64MiB\"`",
                "of `http` and `h2`: what may have come of the bodies of those that wait. Of each, no more is read than came with its head. Each worker has its part",
            ),
            (
                "half_close",
                "`false`",
                "whether a client that sends FIN while it waits stays",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[[listen]]",
        about: "Where the application connects to.",
        keys: &[
            (
                "name",
                "its origin's, or its address",
                "the listener's name",
            ),
            (
                "address",
                "required",
                "`ip:port`, `[v6]:port`, `localhost:port` (both families), `ip:auto`, `unix:/path`; a list is allowed",
            ),
            (
                "public",
                "`false`",
                "must be true for an address that is neither loopback nor Unix; then an `[[access]]` has to let somebody in from elsewhere",
            ),
            (
                "origin",
                "required without routes",
                "where everything goes that no route matches; without it, that is refused",
            ),
            ("tls", "none", "see below; a list chooses by SNI"),
            ("route", "none", "see below; the first match decides"),
            ("status", "none", "see below; of `mode = \"status\"`"),
            ("forward", "see below", "of `mode = \"forward\"`"),
            (
                "mode",
                "the origin's protocol",
                "`tcp` or `udp`, as its origin speaks; `http` where the origin is one, or speaks it over `tcp`; `postgres` before a PostgreSQL server: who comes is judged by the user and the database that it asks for, before the server is asked; `status` for a public page of what is up, and `forward` for a proxy that goes where its clients say, both without an origin; `leases` leads `http://NAME.localhost` to the port that `ipreconnect ports lease NAME` keeps",
            ),
            (
                "unix",
                "none",
                "who may open its Unix sockets: `{ mode = \"0660\", owner = \"app\", group = \"www-data\" }`; what is not said is as it comes",
            ),
            (
                "netns",
                "none",
                "opens the listener inside another network namespace, where nothing of this machine is reached otherwise: `container:ID` (the beginning of a container's number, or its name), `name:NAME` (of `ip netns` or Docker), `pid:N`, or the path of one. What is started again under another number is found again. It takes CAP_SYS_ADMIN, and CAP_SYS_PTRACE for processes of other users; the method `peer` cannot tell who its clients are",
            ),
            (
                "on_conflict",
                "`\"move\"`",
                "a port `auto` is kept for the listener's name in `state_dir`. Where somebody else has it at the next start, another one is taken (`move`), or nothing is opened (`refuse`)",
            ),
            (
                "hba",
                "none",
                "of a `postgres` listener: a file as PostgreSQL's `pg_hba.conf`, in place of `[[access]]`. Who is to show a password, and no `users` are named, is asked for it by the server",
            ),
            (
                "ident",
                "none",
                "beside `hba`: a file as PostgreSQL's `pg_ident.conf`",
            ),
            (
                "roles",
                "none",
                "of an `http` or `postgres` listener: a file that says who belongs to which role, for `+role` and `samerole`: in each line a role, and its members with commas between them",
            ),
            (
                "users",
                "none",
                "of an `http` or `postgres` listener: the file of those who may show a password here, kept from others; `{ file = \"…\" }` is the same. Its lines are `NAME:SCRAM-SHA-256$…`, as `ipreconnect password NAME` and PostgreSQL make them, or `NAME:$argon2id$…`",
            ),
            ("limits", "", "see below"),
            ("forwarded", "", "see below"),
            (
                "compress",
                "`false`",
                "of an `http` listener: whether texts of 1 KiB and more are compressed for clients that want it (zstd, br, gzip). Answers that hold a secret beside what the client itself chose are better left alone (BREACH)",
            ),
            (
                "shield",
                "`true` on loopback",
                "of an `http` listener: refuses with 403 what a browser was made to send by somebody else's page: for a name that does not lead here (DNS rebinding), with an `Origin` of another site, or with `Sec-Fetch-Site: cross-site`, but for `GET` and `HEAD` that lead the person here. Names that lead here are addresses, `localhost`, `*.localhost`, those of routes and those of the origins. By default it is on where all addresses are loopback and no proxy before it is believed (`proxy_protocol`, `forwarded.trust`)",
            ),
            (
                "shield_origins",
                "`[]`",
                "sites whose pages are let in as well, beside those of this machine: `\"https://app.example.com\"`, `\"https://*.example.com\"`, `\"chrome-extension://ID\"`; requests may be for their names, too",
            ),
            (
                "proxy_protocol",
                "`\"off\"`",
                "`accept`: proxies of `proxy_trust` may say whose connection they bring (the PROXY protocol, version 1 or 2); `require`: nobody else comes in. Access rules, logs and `X-Forwarded-For` then have that address",
            ),
            (
                "proxy_trust",
                "none",
                "the proxies that are believed: `local` (Unix sockets), `loopback`, addresses, networks",
            ),
            (
                "deny",
                "none",
                "addresses and networks that are refused before anything else is looked at; `{ file = \"deny.txt\" }` has one in each line, `#` begins a comment. Files are read again by a reload",
            ),
            (
                "error_page",
                "none",
                "of an `http` listener: a file of HTML that people are shown in place of our own words, with `{status}` and `{reason}` filled in",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[listen.tls]",
        about: "TLS that is opened at the door. `tls = \"internal\"` alone has a local authority in `state_dir` make certificates for the listener's own names. The files are read again when they change; one that is no good changes nothing. In a list, what is said once holds for all.",
        keys: &[
            (
                "cert",
                "required",
                "a PEM file with the chain, its own certificate first",
            ),
            (
                "key",
                "`cert`",
                "a PEM file with its key, readable by its owner alone (by root's group too)",
            ),
            ("ocsp", "none", "an OCSP response in DER, to be stapled"),
            (
                "client_ca",
                "none",
                "a PEM file of roots: clients are asked for a certificate that one of them issued",
            ),
            (
                "client_auth",
                "`\"required\"`",
                "`required` or `optional`, with `client_ca`",
            ),
            (
                "internal",
                "none",
                "instead of `cert`: a local authority in `state_dir` makes certificates for the listener's addresses, the hosts of its routes, and these names",
            ),
            ("acme", "none", "instead of `cert`: see below"),
            ("min_version", "`\"1.2\"`", "`1.2` or `1.3`"),
            (
                "alpn",
                "none",
                "protocols that are spoken inside, the preferred one first",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[listen.tls.acme]",
        about: "Certificates from an ACME server (RFC 8555), renewed at two thirds of their time. Account, certificate and key are kept in `state_dir`.",
        keys: &[
            ("names", "required", "the names, without wildcards"),
            (
                "directory",
                "Let's Encrypt",
                "the server's directory, `https://…`",
            ),
            ("contact", "none", "e-mail addresses for the account"),
            (
                "terms_agreed",
                "required",
                "true says that you agree to the server's terms",
            ),
            (
                "challenge",
                "`\"tls-alpn-01\"`",
                "`tls-alpn-01`: proven on this listener, which the server reaches at port 443; `http-01`: at `http`, which it reaches at port 80",
            ),
            (
                "http",
                "`\"0.0.0.0:80\"`",
                "with `http-01`: where the proof is given, while one is asked for",
            ),
            (
                "ca",
                "the system's roots",
                "a PEM file of the only root that the server's own certificate may lead to",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[listen.limits]",
        about: "What clients may do. The first nine are of every listener but those of datagrams, the others of `http` listeners.",
        keys: &[
            (
                "clients",
                "none",
                "connections that are open at once; who comes then waits in the kernel's queue until one is closed",
            ),
            (
                "clients_per_source",
                "none",
                "those of one address, or of a network of 64 bits of IPv6; more are refused",
            ),
            (
                "connects",
                "none",
                "new connections, as `\"1000/s\"`; who comes faster waits in the kernel's queue",
            ),
            (
                "connects_per_source",
                "none",
                "those of one source; more are refused",
            ),
            (
                "connects_burst",
                "as many as `connects_per_source` says",
                "new connections of one source at once after a pause",
            ),
            (
                "bandwidth",
                "none",
                "bytes a second of all clients together, in either direction, as `\"100MiB\"`; who has something to carry has the same part",
            ),
            (
                "bandwidth_per_source",
                "none",
                "those of all connections of one source together",
            ),
            (
                "bandwidth_per_connection",
                "none",
                "those of one connection (of `http`: to the client); the kernel paces them",
            ),
            (
                "first_byte",
                "none",
                "of a listener that is no `http` one: a client that says nothing for so long is closed, and nothing is opened for it before. Not for protocols whose servers speak first",
            ),
            (
                "header_timeout",
                "`\"10s\"`",
                "from the first byte of a request's head to its last; after that, 408",
            ),
            ("idle", "`\"75s\"`", "without a request"),
            (
                "stall",
                "`\"60s\"`",
                "without a byte of a body that is to come, or that the client is to take",
            ),
            (
                "body",
                "none",
                "the longest body of a request, as `\"10MiB\"`; a longer one is refused with 413",
            ),
            (
                "body_rate",
                "`0`",
                "the least that must come of a body in each second, after ten seconds; a slower one is refused with 408",
            ),
            (
                "requests",
                "none",
                "requests of one connection; it ends in order after that many",
            ),
            (
                "streams",
                "`128`",
                "requests of one connection of HTTP/2 at once",
            ),
            (
                "rate",
                "none",
                "requests of one client, as `\"100/s\"`, `\"30/m\"`, `\"1000/h\"`; more are refused with 429. Of IPv6, a network of 64 bits is one client",
            ),
            (
                "burst",
                "as many as `rate` says",
                "requests of one client at once after a pause",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[listen.forwarded]",
        about: "What origins of an `http` listener are told of the client: `X-Forwarded-For`, `X-Real-IP`, `X-Forwarded-Proto`.",
        keys: &[
            (
                "trust",
                "none",
                "peers whose word on the client is believed: `loopback`, addresses, networks. The client is the first stranger from the right of `X-Forwarded-For`",
            ),
            (
                "chain",
                "`\"replace\"`",
                "what becomes of `X-Forwarded-For`: `replace` (the client alone), `append`, `delete` (the origin learns nothing), `untouched`",
            ),
            (
                "standard",
                "`false`",
                "whether it is told as `Forwarded` (RFC 7239), too",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[listen.status]",
        about: "The page of `mode = \"status\"`: what is up, since when, and what was; nothing of where or why. `/status.json` has the same.",
        keys: &[
            ("title", "`\"Status\"`", "what it is called"),
            ("origins", "all", "the origins that it tells of"),
        ],
        later: &[],
    },
    Part {
        title: "[listen.forward]",
        about: "The proxy of `mode = \"forward\"`: HTTP by the absolute form and by CONNECT, SOCKS 4, 4a and 5, on one port. A host is judged as it is written, in whichever spelling; then it is looked up once, and the very addresses that are judged are dialled. Denials are told to the client, in the access log, and by `ipreconnect why LISTENER --from IP --to HOST`.",
        keys: &[
            (
                "allow",
                "everything",
                "`ads.example` (that name), `*.example` (all below it), `.example` (it, and all below it), a network, `{ file = \"names.txt\" }`; a list is allowed. Names go by what is written, networks by what that leads to",
            ),
            (
                "block",
                "nothing",
                "the same, and goes before `allow`. A file has names, networks, the lines of hosts files, or `||ads.example^` and `@@||good.example^` as adblock lists have them; its other lines are counted by `check`, and say nothing. It is read again when the configuration is",
            ),
            (
                "ports",
                "`[80, 443]`",
                "`[80, \"8000-8999\"]`, or `\"all\"`",
            ),
            (
                "private",
                "`\"deny\"`",
                "addresses that are not of the whole Internet, this machine's included: `deny`, `allow`, or a list of networks. Link-local addresses, metadata services of clouds, groups and unspecified addresses are never gone to, unless a list names them",
            ),
            (
                "enforce",
                "`true`",
                "false lets everybody go everywhere, and tells what would be denied",
            ),
            (
                "headers",
                "`\"hide\"`",
                "what origins are told over plain HTTP: `hide` (no `Via`, `X-Forwarded-For`, `Forwarded`, `X-Real-IP`, whoever has written them), `tell` (they are added to), `untouched` (they pass as they came). Credentials for the proxy never pass",
            ),
            (
                "rewrite",
                "none",
                "headers over plain HTTP: `{ set, remove, request_set, request_remove, response_set, response_remove }`, as at a route",
            ),
            (
                "cache",
                "none",
                "answers over plain HTTP are kept (RFC 9111): `\"512MiB\"`, or what a route's `cache` has",
            ),
            (
                "users",
                "none",
                "`{ file = \"users.txt\" }`: the same as `listen.users`. Without any `[[access]]`, whoever comes from this machine has to be one of them",
            ),
            (
                "via",
                "straight there",
                "proxies behind this one, in order of preference: `\"http://proxy.example:3128\"`, `https://`, `socks5://user:password@…`, and `\"direct\"`; a table `{ to = [\"*.corp.example\"], via = [\"direct\"] }` is for some hosts alone. Each is kept as an origin is, and named by its address; one that leads nowhere is passed by. A proxy looks hosts up itself, so that they are judged here as they are written, and by no address",
            ),
            (
                "pac",
                "none",
                "the path at which browsers find a PAC file, as `\"/proxy.pac\"`: what the rules keep from networks of one's own goes straight there, everything else by this proxy",
            ),
            (
                "per_user",
                "none",
                "how much each user may have, or each address where nobody has to show who he is: `{ connections = 50, rate = \"20/s\", burst = 40, bytes_per_day = \"10GiB\" }`. Connections are requests and tunnels at once; bytes are those of both ways, by days of UTC, and begin anew when the gateway does. What is too much is answered by 429; a tunnel ends",
            ),
            (
                "transparent",
                "`false`",
                "whether clients come, too, that know of no proxy and were led here by the kernel (`redirect` of nftables, `SO_ORIGINAL_DST`): requests over HTTP go by their `Host`, TLS is judged by the name that it asks for and goes where it wanted to, as does everything else",
            ),
            (
                "idle",
                "`\"1h\"`",
                "a tunnel in which nothing moves ends after that",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[[listen.route]]",
        about: "Where requests go: the first route decides of which everything matches that it says. Where no HTTP is spoken, only `host` and `origin` are there: the name that a client asks for in its TLS handshake (SNI), which is not decrypted without `listen.tls`.",
        keys: &[
            (
                "host",
                "any",
                "a name, or `*.` before one for everything below it; a list is allowed",
            ),
            (
                "path",
                "any",
                "`/prefix/` (ends where a segment does), `= /exact` or `~ ^/expression`; a list is allowed. Other spellings of a path match as the path itself: `/%61`, `/x/../a`, `//a`",
            ),
            ("method", "any", "`GET`; a list is allowed"),
            (
                "header",
                "any",
                "`{ name = \"value\" }`, all of them; `*` is any value, `~ expression` one that matches",
            ),
            ("origin", "required without `split`", "where it goes"),
            (
                "split",
                "none",
                "`[{ origin, weight }]`, instead of `origin`: each takes its part of the requests; one that is down takes none",
            ),
            (
                "sticky",
                "none",
                "with `split`: `cookie:NAME` keeps a client to the origin that it was given",
            ),
            (
                "mirror",
                "none",
                "an origin that gets a copy of each request whose body has at most 64 KiB, once that is answered; nobody waits for its answer, and while it is down nothing is sent",
            ),
            ("rewrite", "none", "see below"),
            (
                "requires",
                "none",
                "origins; while one of them is down, `fallback` answers",
            ),
            (
                "fallback",
                "503 in our own words",
                "`{ status = 503, body = \"…\", content_type = \"text/plain; charset=utf-8\" }`",
            ),
            ("cache", "`false`", "keeps answers; see below"),
        ],
        later: &[],
    },
    Part {
        title: "[listen.route.cache]",
        about: "Answers are kept as they say that they may be (RFC 9111), and given to others without asking the origin. `cache = true` takes the defaults.",
        keys: &[
            ("size", "`256MiB`", "the bytes of all answers of the route"),
            (
                "object",
                "`8MiB`, or a quarter of `size`",
                "the longest answer that is kept",
            ),
            (
                "disk",
                "nothing",
                "the bytes of what memory has no room for, in files below `state_dir`; they go with the gateway",
            ),
            (
                "stale_if_error",
                "`1d`",
                "how long an answer is good after its time while the origin is down or fails, where the origin does not say; `0s` is not at all",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[[access]]",
        about: "Who may come in: the first rule that matches a client decides, and whom none matches is refused. Without any, what comes over Unix sockets and the loopback interface is trusted; where an origin takes us for somebody by a certificate of ours, only our own user and root. The words are those of `pg_hba.conf`: `\"all\"` in quotation marks of its own is a name, `/…` an expression, `@file` a list beside this file.",
        keys: &[
            ("listen", "every listener", "its name, or a list of names"),
            (
                "from",
                "required",
                "`local` (Unix sockets), `loopback`, `samehost`, `samenet`, `all` (addresses), `10.0.0.0/8`, `10.0.0.0 255.0.0.0`, a host or a `.suffix` whose name leads back to the address; or a list",
            ),
            (
                "user",
                "all",
                "the name that the method proves, or that a client of PostgreSQL says; or a list",
            ),
            (
                "database",
                "all",
                "of `postgres` listeners: the database that is asked for, `sameuser`, `samerole`, `replication` (which `all` is not); or a list",
            ),
            (
                "method",
                "required",
                "`trust`, `reject`; `peer`: the user of this machine at the other end, over a Unix socket or the loopback interface; `cert`: the common name or an alternative name of a certificate that `tls.client_ca` has verified; `password`, `scram-sha-256`: a password of `users`, shown to an `http` listener by Basic (RFC 7617)",
            ),
            (
                "map",
                "none",
                "the `[access_map]` that turns users of this machine, or names of certificates, into names",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[guard]",
        about: "Who talks to the ports of this machine. Connections that are open are looked at a few times a second, with the user and the program at their other end; those that are over in between are counted, and nobody can say whose they were. The user is the kernel's word, the program's name a hint: it can be called what its maker likes. `GET /v1/guard` tells what was seen. Off without this section.",
        keys: &[
            (
                "watch",
                "`[\"loopback\"]`",
                "`loopback`: connections within this machine; `all`: to its other addresses, too; ports and ranges: only those, as in `[5432, \"62000-62999\"]`",
            ),
            (
                "mode",
                "`\"learn\"`",
                "`learn` closes nothing, and writes rules that allow what it sees into `state_dir/guard-learned.toml`; `enforce` goes by the rules; `off`",
            ),
            (
                "default",
                "`\"report\"`",
                "what becomes of a connection that no rule is for, with `enforce`: `allow`, `report` or `close`; where it was over before it was known whose it is, it is never closed",
            ),
            (
                "rule",
                "",
                "see below; the first that is for a connection decides",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[[guard.rule]]",
        about: "Whoever fits all that a rule names is dealt with as it says.",
        keys: &[
            (
                "port",
                "every one",
                "listening ports and ranges: `[5432, \"62000-62999\"]`",
            ),
            (
                "user",
                "everybody",
                "users at the other end, by name or number",
            ),
            (
                "program",
                "every one",
                "the file that the other end runs, `\"/usr/bin/psql\"`, or its name alone, `\"psql\"`",
            ),
            (
                "address",
                "everywhere",
                "networks of the other end: `\"127.0.0.0/8\"`",
            ),
            (
                "action",
                "none",
                "`allow`, `report` or `close`. Closing takes CAP_NET_ADMIN; a rule that names no program is enforced by nftables, before a byte has passed, where `nft` is there, and else as soon as the connection is seen",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[alerts]",
        about: "Whom to tell what is wrong: origins that are down, keys that changed, certificates that end, holds that fill, a machine without ports, a changed configuration with errors. What fails together is told together; what comes and goes is summed up; while this machine itself is cut off nothing is told, and one message afterwards. What cannot be delivered waits on disk.",
        keys: &[
            (
                "to",
                "none",
                "a list of ways: `{ slack = URL }`, `{ webhook = URL }`, `{ ntfy = URL }`, `{ alertmanager = URL }`, `{ email = ADDRESS, smtp = URL, from = ADDRESS }`, `{ exec = PATH }`; a URL may be `{ file = PATH }`; redirects are not followed",
            ),
            (
                "after",
                "`\"5s\"`",
                "an origin must be down for so long before it is told",
            ),
            (
                "clear",
                "`\"10s\"`",
                "it must be up for so long before that is told",
            ),
            (
                "repeat",
                "`\"4h\"`",
                "what is still wrong is told again after so long; `\"0s\"` is never",
            ),
            (
                "instance",
                "this machine's name",
                "what this gateway is called in messages",
            ),
        ],
        later: &[],
    },
    Part {
        title: "[access_map]",
        about: "Who may be whom: each key is a map, a list of pairs of a user of this machine, or an `/expression`, and the name that it has; `\\\\1` is what the expression found in its parentheses. The first pair that matches counts.",
        keys: &[],
        later: &[],
    },
];

/// The reference in Markdown.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nGenerated from the program by `cargo xtask gen`.\n\nTOML: one file, or a directory of `*.toml` \
         merged in the order of their names. Looked for in `--config PATH`, `$IPRECONNECT_CONFIG`, `./ipreconnect.toml`, \
         `/etc/ipreconnect/ipreconnect.toml`. Durations have a unit (`\"250ms\"`, `\"1m30s\"`). `${VAR}` and \
         `${VAR:-default}` are expanded in strings, `$$` is a dollar sign. A relative path is relative to the file that \
         names it. Unknown keys are errors, and so are keys whose feature is not built yet.\n",
    );
    for part in PARTS {
        let _ = write!(
            text,
            "\n## `{}`\n\n{}\n\n| key | default | meaning |\n|---|---|---|\n",
            part.title, part.about
        );
        for (key, default, meaning) in part.keys {
            let _ = writeln!(text, "| `{key}` | {default} | {meaning} |");
        }
        if !part.later.is_empty() {
            let later: Vec<String> = part.later.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(text, "\nNot built yet, and refused: {}.", later.join(", "));
        }
    }
    text.push_str("\nWhole sections that are not built yet, and refused: `[guard]`.\n");
    text
}
