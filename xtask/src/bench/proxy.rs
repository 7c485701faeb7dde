//! The proxies side by side: how each is configured, by a careful operator, and started.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::fault::NAME;
use super::papers::HOST;

/// The private namespace of a round has these ports for itself.
pub(crate) const PROXY_PORT: u16 = 9000;
pub(crate) const PREFERRED_PORT: u16 = 7001;
pub(crate) const BACKUP_PORT: u16 = 7002;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proxy {
    Ipreconnect,
    Haproxy,
    Nginx,
    Envoy,
}

impl Proxy {
    pub(crate) const ALL: [Proxy; 4] = [
        Proxy::Ipreconnect,
        Proxy::Haproxy,
        Proxy::Nginx,
        Proxy::Envoy,
    ];

    /// As `--only` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Proxy::Ipreconnect => "ipreconnect",
            Proxy::Haproxy => "haproxy",
            Proxy::Nginx => "nginx",
            Proxy::Envoy => "envoy",
        }
    }
}

/// A program that can be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) proxy: Proxy,
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// nginx: its stream module, where that is a file of its own.
    pub(crate) module: Option<PathBuf>,
}

/// Whether there is a second origin to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backup {
    Present,
    Absent,
}

/// What is around a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) backup: Backup,
    /// Where the origin's name is asked for, if it is known by a name.
    pub(crate) resolver: Option<SocketAddr>,
    /// The port of the preferred origin.
    pub(crate) port: u16,
    /// Whether the origins speak TLS, and are to be verified.
    pub(crate) origin_tls: bool,
    /// The papers that the proxy shows to clients inside TLS, if that is spoken to them.
    pub(crate) door: Option<&'static str>,
    /// Connections that ipreconnect keeps ready.
    pub(crate) warm: u32,
}

impl World {
    pub(crate) const ALONE: Self = Self {
        backup: Backup::Absent,
        resolver: None,
        port: PREFERRED_PORT,
        origin_tls: false,
        door: None,
        warm: 0,
    };

    /// The preferred origin's host.
    fn host(self) -> &'static str {
        match self.resolver {
            Some(_) => NAME,
            None => "127.0.0.1",
        }
    }
}

impl Program {
    /// Writes the configuration into `directory`, and returns the command that starts the proxy in
    /// the foreground.
    pub(crate) fn command(&self, world: World, directory: &Path) -> io::Result<Command> {
        self.started_by(world, Tuning::None, directory)
    }

    /// The same for one origin, with what makes it carry bytes at the least cost.
    pub(crate) fn carrier(&self, directory: &Path) -> io::Result<Command> {
        self.started_by(World::ALONE, Tuning::Bytes, directory)
    }

    /// The same for connections inside TLS; the papers are in the directory.
    pub(crate) fn tls_carrier(&self, world: World, directory: &Path) -> io::Result<Command> {
        self.started_by(world, Tuning::Bytes, directory)
    }

    /// The same for datagrams.
    pub(crate) fn datagram_carrier(&self, directory: &Path) -> io::Result<Command> {
        if self.proxy == Proxy::Haproxy {
            return Err(io::Error::other("it carries no UDP"));
        }
        self.started_by(World::ALONE, Tuning::Datagrams, directory)
    }

    /// nginx: whether the servers of an upstream may be names that are looked up again (1.27.3).
    fn resolves_in_upstreams(&self) -> bool {
        let number = self.version.split(' ').nth(1).unwrap_or_default();
        let parts: Vec<u32> = number
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        parts >= vec![1, 27, 3]
    }

    fn started_by(&self, world: World, tuning: Tuning, directory: &Path) -> io::Result<Command> {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map(|()| path)
        };
        let mut command = Command::new(&self.path);
        match self.proxy {
            Proxy::Ipreconnect => {
                let config = write("ipreconnect.toml", ipreconnect(world, tuning, directory))?;
                command.args(["run", "--config"]).arg(config);
            }
            Proxy::Haproxy => {
                let config = write("haproxy.cfg", haproxy(world, tuning, directory))?;
                command.args(["-db", "-f"]).arg(config);
            }
            Proxy::Nginx => {
                let config = write("nginx.conf", nginx(world, tuning, self, directory))?;
                command.arg("-p").arg(directory).arg("-c").arg(config);
            }
            Proxy::Envoy => {
                let config = write("envoy.yaml", envoy(world, tuning, directory))?;
                command
                    .args([
                        "--concurrency",
                        "1",
                        "--disable-hot-restart",
                        "-l",
                        "warning",
                        "-c",
                    ])
                    .arg(config);
            }
        }
        command.current_dir(directory);
        Ok(command)
    }
}

/// What a proxy is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuning {
    None,
    /// To carry bytes: one worker, equal buffers, splicing where it is to be had.
    Bytes,
    /// To carry datagrams: one worker.
    Datagrams,
}

/// Default settings.
fn ipreconnect(world: World, tuning: Tuning, directory: &Path) -> String {
    let workers = match tuning {
        Tuning::None => "",
        Tuning::Bytes | Tuning::Datagrams => "workers = 1\n",
    };
    let scheme = match tuning {
        Tuning::None | Tuning::Bytes => "",
        Tuning::Datagrams => "udp://",
    };
    // A name leads to this machine only where that is declared.
    let (dns, networks) = match world.resolver {
        Some(resolver) => (
            format!("[dns]\nservers = [\"{resolver}\"]\n\n"),
            "connect.allow_ips = [\"127.0.0.0/8\"]\n",
        ),
        None => (String::new(), ""),
    };
    let host = world.host();
    let backup = match world.backup {
        Backup::Present => format!(", \"127.0.0.1:{BACKUP_PORT}\""),
        Backup::Absent => String::new(),
    };
    let state = directory.join("state");
    let at = directory.display();
    let mut origin = networks.to_owned();
    if world.origin_tls {
        origin += &format!("tls = {{ ca = \"{at}/ca.pem\", server_name = \"{HOST}\" }}\n");
    }
    if world.warm > 0 {
        origin += &format!("pool.warm = {}\n", world.warm);
    }
    let door = world.door.map_or_else(String::new, |papers| {
        format!("tls = {{ cert = \"{at}/{papers}.pem\", key = \"{at}/{papers}.key\" }}\n")
    });
    let port = world.port;
    format!(
        "[gateway]\n\
         state_dir = \"{}\"\n{workers}\n\
         {dns}[origin.bench]\n\
         address = [\"{scheme}{host}:{port}\"{backup}]\n{origin}\n\
         [[listen]]\n\
         address = \"127.0.0.1:{PROXY_PORT}\"\n\
         origin = \"bench\"\n{door}",
        state.display()
    )
}

/// Errors of connections hasten the checks. A server without a backup is not checked: one that is
/// marked down would turn clients away at once, where retries may still reach it.
fn haproxy(world: World, tuning: Tuning, directory: &Path) -> String {
    // Pipes for splicing need descriptors too.
    let (buffers, splice) = match tuning {
        Tuning::None | Tuning::Datagrams => ("    maxconn 8192\n", ""),
        Tuning::Bytes => (
            "    maxconn 9000\n    maxpipes 256\n    tune.bufsize 65536\n",
            "    option splice-auto\n",
        ),
    };
    let resolvers = world.resolver.map_or_else(String::new, |resolver| {
        format!(
            "resolvers dns\n    nameserver one {resolver}\n    resolve_retries 3\n    timeout resolve 1s\n    \
             timeout retry 500ms\n    hold valid 1s\n"
        )
    });
    let (at, port) = (directory.display(), world.port);
    let to = match world.origin_tls {
        true => {
            format!(" ssl verify required ca-file {at}/ca.pem sni str({HOST}) verifyhost {HOST}")
        }
        false => String::new(),
    };
    let from = world
        .door
        .map_or_else(String::new, |papers| format!(" ssl crt {at}/{papers}.both"));
    let servers = match world.backup {
        Backup::Absent if world.resolver.is_some() => format!(
            "    server a {NAME}:{PREFERRED_PORT} resolvers dns resolve-prefer ipv4 init-addr none\n"
        ),
        Backup::Present => format!(
            "    default-server check inter 500ms fastinter 100ms fall 2 rise 2 observe layer4 \
             error-limit 1 on-error fastinter\n    \
             server a 127.0.0.1:{port}{to}\n    server b 127.0.0.1:{BACKUP_PORT}{to} backup\n"
        ),
        Backup::Absent => format!("    server a 127.0.0.1:{port}{to}\n"),
    };
    format!(
        "global\n    nbthread 1\n{buffers}{resolvers}\
         defaults\n    mode tcp\n    timeout connect 500ms\n    timeout check 500ms\n    \
         timeout client 10m\n    timeout server 10m\n    timeout queue 10s\n    \
         retries 10\n    option redispatch 1\n    backlog 4096\n{splice}\
         listen bench\n    bind 127.0.0.1:{PROXY_PORT}{from}\n{servers}"
    )
}

fn nginx(world: World, tuning: Tuning, program: &Program, directory: &Path) -> String {
    let (udp, options) = match tuning {
        Tuning::None => ("", "proxy_connect_timeout 500ms; proxy_next_upstream on;"),
        Tuning::Bytes => (
            "",
            "proxy_connect_timeout 500ms; proxy_next_upstream on; proxy_buffer_size 64k; \
             tcp_nodelay on;",
        ),
        Tuning::Datagrams => (" udp reuseport rcvbuf=4m", ""),
    };
    let backlog = match tuning {
        Tuning::None | Tuning::Bytes => " backlog=4096",
        Tuning::Datagrams => "",
    };
    let load = program
        .module
        .as_deref()
        .map_or_else(String::new, |module| {
            format!("load_module {};\n", module.display())
        });
    let resolver = world.resolver.map_or_else(String::new, |resolver| {
        format!("  resolver {resolver} ipv6=off;\n  resolver_timeout 1s;\n")
    });
    let host = world.host();
    let (zone, resolve, pass) = match (world.resolver, program.resolves_in_upstreams()) {
        (None, _) => ("", "", "bench"),
        (Some(_), true) => ("zone bench 64k;", " resolve", "bench"),
        (Some(_), false) => ("", "", "$by_name"),
    };
    let map = match pass {
        "bench" => String::new(),
        _ => format!("  map $remote_addr $by_name {{ default {NAME}:{PREFERRED_PORT}; }}\n"),
    };
    let upstream = match pass {
        "bench" => host,
        _ => "127.0.0.1",
    };
    let backup = match world.backup {
        Backup::Present => {
            format!("server 127.0.0.1:{BACKUP_PORT} max_fails=1 fail_timeout=1s backup;")
        }
        Backup::Absent => String::new(),
    };
    let pid = directory.join("nginx.pid");
    let (at, port) = (directory.display(), world.port);
    let to = match world.origin_tls {
        true => format!(
            " proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/ca.pem; \
             proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;"
        ),
        false => String::new(),
    };
    let (ssl, from) = match world.door {
        Some(papers) => (
            " ssl",
            format!(
                " ssl_certificate {at}/{papers}.pem; ssl_certificate_key {at}/{papers}.key; \
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:bench:10m;"
            ),
        ),
        None => ("", String::new()),
    };
    format!(
        "{load}daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         error_log stderr error;\npid {};\n\
         events {{ worker_connections 16384; }}\n\
         stream {{\n{resolver}{map}  \
         upstream bench {{\n    {zone}\n    \
         server {upstream}:{port} max_fails=1 fail_timeout=1s{resolve};\n    {backup}\n  }}\n  \
         server {{\n    listen 127.0.0.1:{PROXY_PORT}{udp}{ssl}{backlog};\n    proxy_pass {pass};\n    \
         proxy_timeout 10m; {options}{to}{from}\n  }}\n}}\n",
        pid.display()
    )
}

fn envoy(world: World, tuning: Tuning, directory: &Path) -> String {
    let buffers = match tuning {
        Tuning::None | Tuning::Datagrams => "",
        Tuning::Bytes => "per_connection_buffer_limit_bytes: 65536",
    };
    let listener = match tuning {
        Tuning::None | Tuning::Bytes => envoy_streams(buffers, world.door, directory),
        Tuning::Datagrams => envoy_datagrams(),
    };
    let endpoint = |priority: u8, host: &str, port: u16| {
        format!(
            "      - priority: {priority}\n        lb_endpoints:\n        - endpoint:\n            \
             address: {{ socket_address: {{ address: {host}, port_value: {port} }} }}\n"
        )
    };
    let discovery = world
        .resolver
        .map_or_else(|| "    type: STATIC\n".to_owned(), envoy_names);
    let checks = match tuning {
        Tuning::None | Tuning::Bytes => {
            "    health_checks:\n    - { timeout: 0.5s, interval: 0.5s, no_traffic_interval: 0.5s, unhealthy_threshold: 2, \
             healthy_threshold: 2, tcp_health_check: {} }\n"
        }
        Tuning::Datagrams => "",
    };
    let at = directory.display();
    let to = match world.origin_tls {
        true => format!(
            "    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {HOST}
        max_session_keys: 64
        common_tls_context:
          tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
          validation_context:
            trusted_ca: {{ filename: {at}/ca.pem }}
            match_typed_subject_alt_names:
            - {{ san_type: DNS, matcher: {{ exact: {HOST} }} }}
"
        ),
        false => String::new(),
    };
    let mut endpoints = endpoint(0, world.host(), world.port);
    if world.backup == Backup::Present {
        endpoints += &endpoint(1, "127.0.0.1", BACKUP_PORT);
    }
    format!(
        "static_resources:
{listener}  clusters:
  - name: bench
{discovery}    connect_timeout: 0.5s
    {buffers}
{checks}{to}    outlier_detection:
      split_external_local_origin_errors: true
      consecutive_local_origin_failure: 2
      interval: 0.5s
      base_ejection_time: 1s
      max_ejection_percent: 100
    circuit_breakers:
      thresholds:
      - {{ max_connections: 16384, max_pending_requests: 16384, max_requests: 16384, max_retries: 1024 }}
    load_assignment:
      cluster_name: bench
      endpoints:
{endpoints}"
    )
}

fn envoy_names(resolver: SocketAddr) -> String {
    let (ip, port) = (resolver.ip(), resolver.port());
    format!(
        "    type: STRICT_DNS
    dns_lookup_family: V4_ONLY
    respect_dns_ttl: true
    ignore_health_on_host_removal: true
    dns_refresh_rate: 1s
    dns_failure_refresh_rate: {{ base_interval: 0.5s, max_interval: 1s }}
    typed_dns_resolver_config:
      name: envoy.network.dns_resolver.cares
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
        resolvers:
        - socket_address: {{ address: {ip}, port_value: {port} }}
        dns_resolver_options: {{ no_default_search_domain: true }}
"
    )
}

fn envoy_streams(buffers: &str, door: Option<&str>, directory: &Path) -> String {
    let at = directory.display();
    let from = door.map_or_else(String::new, |papers| {
        format!(
            "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - {{ certificate_chain: {{ filename: {at}/{papers}.pem }}, private_key: {{ filename: {at}/{papers}.key }} }}
"
        )
    });
    format!(
        "  listeners:
  - name: bench
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {PROXY_PORT} }} }}
    tcp_backlog_size: 4096
    {buffers}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: bench
          max_connect_attempts: 20
          backoff_options: {{ base_interval: 0.05s, max_interval: 0.25s }}
{from}"
    )
}

fn envoy_datagrams() -> String {
    format!(
        "  listeners:
  - name: bench
    address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {PROXY_PORT} }} }}
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: bench
        idle_timeout: 60s
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route
                cluster: bench
"
    )
}
