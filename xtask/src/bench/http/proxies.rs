//! How each proxy is configured to carry requests, by a careful operator.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::bench::proxy::{BACKUP_PORT, PREFERRED_PORT, PROXY_PORT, Program, Proxy};

/// What is around a proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bench) struct Around {
    /// Whether there is a second origin to go to.
    pub(in crate::bench) has_backup: bool,
    /// The papers that clients are shown, if TLS is spoken to them.
    pub(in crate::bench) door: Option<&'static str>,
    /// Whether HTTP/2 is spoken to them.
    pub(in crate::bench) is_h2: bool,
}

/// Writes the configuration into `directory`, and returns the command that starts the proxy in the
/// foreground.
pub(in crate::bench) fn command(
    program: &Program,
    around: Around,
    directory: &Path,
) -> io::Result<Command> {
    let (name, text) = match program.proxy {
        Proxy::Ipreconnect => ("ipreconnect.toml", ipreconnect(around, directory)),
        Proxy::Haproxy => ("haproxy.cfg", haproxy(around, directory)),
        Proxy::Nginx => ("nginx.conf", nginx(around, directory)),
        Proxy::Envoy => ("envoy.yaml", envoy(around, directory)),
    };
    let config = directory.join(name);
    fs::write(&config, text)?;
    let mut command = Command::new(&program.path);
    match program.proxy {
        Proxy::Ipreconnect => command.args(["run", "--config"]).arg(config),
        Proxy::Haproxy => command.args(["-db", "-f"]).arg(config),
        Proxy::Nginx => command.arg("-p").arg(directory).arg("-c").arg(config),
        Proxy::Envoy => command
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "warning",
                "-c",
            ])
            .arg(config),
    };
    command.current_dir(directory);
    Ok(command)
}

fn ipreconnect(around: Around, directory: &Path) -> String {
    let backup = match around.has_backup {
        true => format!(", \"http://127.0.0.1:{BACKUP_PORT}\""),
        false => String::new(),
    };
    let at = directory.display();
    let door = around.door.map_or_else(String::new, |papers| {
        format!("tls = {{ cert = \"{at}/{papers}.pem\", key = \"{at}/{papers}.key\" }}\n")
    });
    format!(
        "[gateway]\nworkers = 1\nstate_dir = \"{}\"\n\n\
         [log]\naccess = \"access.log\"\n\n\
         [origin.bench]\naddress = [\"http://127.0.0.1:{PREFERRED_PORT}\"{backup}]\n\n\
         [[listen]]\naddress = \"127.0.0.1:{PROXY_PORT}\"\norigin = \"bench\"\n{door}",
        directory.join("state").display()
    )
}

/// Standard output is a file.
fn haproxy(around: Around, directory: &Path) -> String {
    // One that is marked down would turn clients away at once, where retries may still reach it.
    let servers = match around.has_backup {
        true => format!(
            "    default-server check inter 500ms fastinter 100ms fall 2 rise 2 observe layer4 \
             error-limit 1 on-error fastinter on-marked-down shutdown-sessions\n    \
             server a 127.0.0.1:{PREFERRED_PORT}\n    server b 127.0.0.1:{BACKUP_PORT} backup\n"
        ),
        false => format!("    server a 127.0.0.1:{PREFERRED_PORT}\n"),
    };
    let at = directory.display();
    // Without TLS it knows HTTP/2 by its preface.
    let door = around.door.map_or_else(String::new, |papers| {
        format!(" ssl crt {at}/{papers}.both alpn h2,http/1.1")
    });
    format!(
        "global\n    nbthread 1\n    maxconn 9000\n    log stdout format raw local0\n\
         defaults\n    mode http\n    log global\n    option httplog\n    option forwardfor\n    \
         timeout connect 500ms\n    timeout client 10m\n    timeout server 10m\n    timeout queue 10s\n    \
         timeout check 500ms\n    retries 10\n    retry-on conn-failure empty-response\n    option redispatch 1\n    \
         http-reuse always\n    backlog 4096\n\
         listen bench\n    bind 127.0.0.1:{PROXY_PORT}{door}\n    http-request disable-l7-retry if METH_POST\n{servers}"
    )
}

fn nginx(around: Around, directory: &Path) -> String {
    let backup = match around.has_backup {
        true => format!("server 127.0.0.1:{BACKUP_PORT} max_fails=1 fail_timeout=1s backup;"),
        false => String::new(),
    };
    let at = directory.display();
    let (ssl, door) = match around.door {
        Some(papers) => (
            " ssl",
            format!(
                "ssl_certificate {at}/{papers}.pem; ssl_certificate_key {at}/{papers}.key; \
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:bench:10m;"
            ),
        ),
        None => ("", String::new()),
    };
    let http2 = if around.is_h2 { " http2" } else { "" };
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         error_log stderr error;\npid {at}/nginx.pid;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  access_log {at}/access.log combined buffer=32k flush=1s;\n  \
         keepalive_timeout 10m;\n  keepalive_requests 1000000000;\n  \
         upstream bench {{\n    server 127.0.0.1:{PREFERRED_PORT} max_fails=1 fail_timeout=1s;\n    {backup}\n    \
         keepalive 256;\n    keepalive_requests 1000000000;\n  }}\n  \
         server {{\n    listen 127.0.0.1:{PROXY_PORT}{ssl}{http2} backlog=4096;\n    {door}\n    location / {{\n      \
         proxy_pass http://bench;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_connect_timeout 500ms; proxy_read_timeout 2s;\n      \
         proxy_buffers 16 8k; proxy_buffer_size 8k;\n    }}\n  }}\n}}\n"
    )
}

fn envoy(around: Around, directory: &Path) -> String {
    let endpoint = |priority: u8, port: u16| {
        format!(
            "      - priority: {priority}\n        lb_endpoints:\n        - endpoint:\n            \
             address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n"
        )
    };
    let mut endpoints = endpoint(0, PREFERRED_PORT);
    if around.has_backup {
        endpoints += &endpoint(1, BACKUP_PORT);
    }
    let at = directory.display();
    // Without TLS it knows HTTP/2 by its preface.
    let door = around.door.map_or_else(String::new, |papers| {
        format!(
            "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - {{ certificate_chain: {{ filename: {at}/{papers}.pem }}, private_key: {{ filename: {at}/{papers}.key }} }}
"
        )
    });
    format!(
        "static_resources:
  listeners:
  - name: bench
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {PROXY_PORT} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          generate_request_id: false
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {at}/access.log
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: bench
              domains: [\"*\"]
              routes:
              - match: {{ prefix: /, headers: [{{ name: \":method\", string_match: {{ exact: POST }} }}] }}
                route: {{ cluster: bench, retry_policy: {{ retry_on: \"connect-failure,refused-stream\", num_retries: 10 }} }}
              - match: {{ prefix: / }}
                route:
                  cluster: bench
                  retry_policy: {{ retry_on: \"connect-failure,refused-stream,reset,retriable-4xx\", num_retries: 10, per_try_timeout: 1s }}
{door}  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 0.5s
    health_checks:
    - {{ timeout: 0.5s, interval: 0.5s, no_traffic_interval: 0.5s, unhealthy_threshold: 2, healthy_threshold: 2, tcp_health_check: {{}} }}
    outlier_detection: {{ split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, interval: 0.5s, base_ejection_time: 1s, max_ejection_percent: 100 }}
    circuit_breakers:
      thresholds:
      - {{ max_connections: 16384, max_pending_requests: 16384, max_requests: 16384, max_retries: 1024 }}
    load_assignment:
      cluster_name: bench
      endpoints:
{endpoints}"
    )
}
