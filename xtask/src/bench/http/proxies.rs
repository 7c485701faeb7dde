//! How each proxy is configured to carry requests, by a careful operator.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::bench::proxy::{PREFERRED_PORT, PROXY_PORT, Program, Proxy};

/// Writes the configuration into `directory`, and returns the command that starts the proxy in the
/// foreground.
pub(super) fn command(program: &Program, directory: &Path) -> io::Result<Command> {
    let (name, text) = match program.proxy {
        Proxy::Ipreconnect => ("ipreconnect.toml", ipreconnect(directory)),
        Proxy::Haproxy => ("haproxy.cfg", haproxy()),
        Proxy::Nginx => ("nginx.conf", nginx(directory)),
        Proxy::Envoy => ("envoy.yaml", envoy(directory)),
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

fn ipreconnect(directory: &Path) -> String {
    format!(
        "[gateway]\nworkers = 1\nstate_dir = \"{}\"\n\n\
         [log]\naccess = \"access.log\"\n\n\
         [origin.bench]\naddress = \"http://127.0.0.1:{PREFERRED_PORT}\"\n\n\
         [[listen]]\naddress = \"127.0.0.1:{PROXY_PORT}\"\norigin = \"bench\"\n",
        directory.join("state").display()
    )
}

/// Standard output is a file.
fn haproxy() -> String {
    format!(
        "global\n    nbthread 1\n    maxconn 9000\n    log stdout format raw local0\n\
         defaults\n    mode http\n    log global\n    option httplog\n    option forwardfor\n    \
         timeout connect 500ms\n    timeout client 10m\n    timeout server 10m\n    timeout queue 10s\n    \
         timeout check 500ms\n    retries 3\n    retry-on conn-failure empty-response\n    option redispatch\n    \
         http-reuse always\n    backlog 4096\n\
         listen bench\n    bind 127.0.0.1:{PROXY_PORT}\n    \
         server a 127.0.0.1:{PREFERRED_PORT} check inter 1s\n"
    )
}

fn nginx(directory: &Path) -> String {
    let at = directory.display();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         error_log stderr error;\npid {at}/nginx.pid;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  access_log {at}/access.log combined buffer=32k flush=1s;\n  \
         keepalive_timeout 10m;\n  keepalive_requests 1000000000;\n  \
         upstream bench {{\n    server 127.0.0.1:{PREFERRED_PORT} max_fails=1 fail_timeout=1s;\n    \
         keepalive 256;\n    keepalive_requests 1000000000;\n  }}\n  \
         server {{\n    listen 127.0.0.1:{PROXY_PORT} backlog=4096;\n    location / {{\n      \
         proxy_pass http://bench;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_connect_timeout 500ms;\n      \
         proxy_buffers 16 8k; proxy_buffer_size 8k;\n    }}\n  }}\n}}\n"
    )
}

fn envoy(directory: &Path) -> String {
    let at = directory.display();
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
              - match: {{ prefix: / }}
                route:
                  cluster: bench
                  retry_policy: {{ retry_on: \"connect-failure,refused-stream,reset-before-request\", num_retries: 3 }}
  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 0.5s
    health_checks:
    - {{ timeout: 0.5s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: 2, healthy_threshold: 2, tcp_health_check: {{}} }}
    circuit_breakers:
      thresholds:
      - {{ max_connections: 16384, max_pending_requests: 16384, max_requests: 16384, max_retries: 1024 }}
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {PREFERRED_PORT} }} }}
"
    )
}
