//! What is usually found at a port, and how bad it is if others reach it.

/// What a service is, as far as its exposure goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Made to be reached.
    Ordinary,
    /// Keeps data, often without asking who wants them.
    Database,
    /// Lets others look into a program, and change it.
    Debugger,
    /// A page that shows or changes what runs.
    Dashboard,
    /// Has a machine, a container or a cluster do something.
    Control,
}

/// A service that is usually found at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its port.
    pub port: u16,
    /// The name that IANA has assigned to the port; empty, if nobody has asked for one.
    pub name: &'static str,
    /// What people call what is found there.
    pub title: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What is usually found at a port; of UDP, where the same is found over UDP.
#[must_use]
pub fn service(port: u16, is_udp: bool) -> Option<&'static Service> {
    if is_udp && !OVER_UDP.contains(&port) {
        return None;
    }
    let at = SERVICES.binary_search_by_key(&port, |service| service.port);
    SERVICES.get(at.ok()?)
}

/// What a program is by its short name (`/proc/PID/comm`), which has no more than 15 letters.
#[must_use]
pub fn kind_of_program(name: &str) -> Option<(&'static str, Kind)> {
    let found = PROGRAMS.iter().find(|(own, ..)| *own == name);
    found.map(|(_, title, kind)| (*title, *kind))
}

const PROGRAMS: &[(&str, &str, Kind)] = &[
    ("postgres", "PostgreSQL", Kind::Database),
    ("pgbouncer", "PgBouncer", Kind::Database),
    ("mysqld", "MySQL", Kind::Database),
    ("mariadbd", "MariaDB", Kind::Database),
    ("redis-server", "Redis", Kind::Database),
    ("valkey-server", "Valkey", Kind::Database),
    ("keydb-server", "KeyDB", Kind::Database),
    ("mongod", "MongoDB", Kind::Database),
    ("memcached", "memcached", Kind::Database),
    ("etcd", "etcd", Kind::Database),
    ("influxd", "InfluxDB", Kind::Database),
    ("clickhouse-serv", "ClickHouse", Kind::Database),
    ("cockroach", "CockroachDB", Kind::Database),
    ("couchdb", "CouchDB", Kind::Database),
    ("dlv", "Delve", Kind::Debugger),
    ("gdbserver", "gdbserver", Kind::Debugger),
    ("lldb-server", "lldb-server", Kind::Debugger),
    ("adb", "adb", Kind::Debugger),
    ("grafana", "Grafana", Kind::Dashboard),
    ("grafana-server", "Grafana", Kind::Dashboard),
    ("prometheus", "Prometheus", Kind::Dashboard),
    ("alertmanager", "Alertmanager", Kind::Dashboard),
    ("jupyter-lab", "Jupyter", Kind::Dashboard),
    ("jupyter-noteboo", "Jupyter", Kind::Dashboard),
    ("netdata", "Netdata", Kind::Dashboard),
    ("dockerd", "Docker's API", Kind::Control),
    ("kubelet", "Kubelet", Kind::Control),
    ("kube-apiserver", "Kubernetes' API", Kind::Control),
    ("Xvnc", "VNC", Kind::Control),
    ("x11vnc", "VNC", Kind::Control),
    ("Xorg", "X11", Kind::Control),
];

/// Ports at which the same is found over UDP.
const OVER_UDP: &[u16] = &[
    7, 53, 67, 68, 69, 88, 111, 123, 137, 161, 162, 389, 443, 464, 500, 514, 546, 547, 853, 1194,
    1701, 1812, 1813, 1900, 2049, 3478, 4789, 5060, 5353, 5355, 7946, 8300, 11_211, 51_820,
];

const fn of(port: u16, name: &'static str, title: &'static str, kind: Kind) -> Service {
    Service {
        port,
        name,
        title,
        kind,
    }
}

/// In the order of their ports.
const SERVICES: &[Service] = &[
    of(7, "echo", "Echo", Kind::Ordinary),
    of(20, "ftp-data", "FTP (data)", Kind::Ordinary),
    of(21, "ftp", "FTP", Kind::Ordinary),
    of(22, "ssh", "SSH", Kind::Ordinary),
    of(23, "telnet", "Telnet", Kind::Control),
    of(25, "smtp", "Mail (SMTP)", Kind::Ordinary),
    of(53, "domain", "DNS", Kind::Ordinary),
    of(67, "bootps", "DHCP server", Kind::Ordinary),
    of(68, "bootpc", "DHCP client", Kind::Ordinary),
    of(69, "tftp", "TFTP", Kind::Ordinary),
    of(79, "finger", "Finger", Kind::Ordinary),
    of(80, "http", "HTTP", Kind::Ordinary),
    of(88, "kerberos", "Kerberos", Kind::Ordinary),
    of(110, "pop3", "Mail (POP3)", Kind::Ordinary),
    of(111, "sunrpc", "Portmapper", Kind::Control),
    of(119, "nntp", "News", Kind::Ordinary),
    of(123, "ntp", "NTP", Kind::Ordinary),
    of(135, "epmap", "RPC endpoint mapper", Kind::Control),
    of(137, "netbios-ns", "NetBIOS names", Kind::Ordinary),
    of(139, "netbios-ssn", "NetBIOS sessions", Kind::Ordinary),
    of(143, "imap", "Mail (IMAP)", Kind::Ordinary),
    of(161, "snmp", "SNMP", Kind::Control),
    of(162, "snmptrap", "SNMP traps", Kind::Ordinary),
    of(179, "bgp", "BGP", Kind::Ordinary),
    of(389, "ldap", "LDAP", Kind::Database),
    of(443, "https", "HTTPS", Kind::Ordinary),
    of(445, "microsoft-ds", "SMB", Kind::Ordinary),
    of(464, "kpasswd", "Kerberos passwords", Kind::Ordinary),
    of(
        465,
        "submissions",
        "Mail (submission over TLS)",
        Kind::Ordinary,
    ),
    of(500, "isakmp", "IKE", Kind::Ordinary),
    of(512, "exec", "rexec", Kind::Control),
    of(513, "login", "rlogin", Kind::Control),
    of(514, "syslog", "Syslog", Kind::Ordinary),
    of(515, "printer", "Printing (LPD)", Kind::Ordinary),
    of(546, "dhcpv6-client", "DHCPv6 client", Kind::Ordinary),
    of(547, "dhcpv6-server", "DHCPv6 server", Kind::Ordinary),
    of(548, "afpovertcp", "AFP", Kind::Ordinary),
    of(554, "rtsp", "RTSP", Kind::Ordinary),
    of(587, "submission", "Mail (submission)", Kind::Ordinary),
    of(631, "ipp", "Printing (IPP)", Kind::Ordinary),
    of(636, "ldaps", "LDAP over TLS", Kind::Database),
    of(853, "domain-s", "DNS over TLS", Kind::Ordinary),
    of(873, "rsync", "rsync", Kind::Ordinary),
    of(989, "ftps-data", "FTP over TLS (data)", Kind::Ordinary),
    of(990, "ftps", "FTP over TLS", Kind::Ordinary),
    of(993, "imaps", "Mail (IMAP over TLS)", Kind::Ordinary),
    of(995, "pop3s", "Mail (POP3 over TLS)", Kind::Ordinary),
    of(1080, "socks", "SOCKS", Kind::Ordinary),
    of(1194, "openvpn", "OpenVPN", Kind::Ordinary),
    of(
        1337,
        "menandmice-dns",
        "Strapi, or another development server",
        Kind::Dashboard,
    ),
    of(1433, "ms-sql-s", "Microsoft SQL Server", Kind::Database),
    of(1521, "ncube-lm", "Oracle", Kind::Database),
    of(1701, "l2tp", "L2TP", Kind::Ordinary),
    of(1812, "radius", "RADIUS", Kind::Ordinary),
    of(1813, "radius-acct", "RADIUS accounting", Kind::Ordinary),
    of(1883, "mqtt", "MQTT", Kind::Ordinary),
    of(1900, "ssdp", "SSDP", Kind::Ordinary),
    of(2049, "nfs", "NFS", Kind::Ordinary),
    of(2181, "eforward", "ZooKeeper", Kind::Database),
    of(2345, "dbm", "Delve (Go debugger)", Kind::Debugger),
    of(2375, "docker", "Docker API", Kind::Control),
    of(2376, "docker-s", "Docker API over TLS", Kind::Control),
    of(2379, "etcd-client", "etcd", Kind::Database),
    of(2380, "etcd-server", "etcd (peers)", Kind::Database),
    of(2947, "gpsd", "gpsd", Kind::Ordinary),
    of(
        3000,
        "hbci",
        "Grafana, or a development server",
        Kind::Dashboard,
    ),
    of(3128, "ndl-aas", "HTTP proxy", Kind::Ordinary),
    of(3260, "iscsi-target", "iSCSI", Kind::Ordinary),
    of(3306, "mysql", "MySQL", Kind::Database),
    of(3310, "dyna-access", "ClamAV", Kind::Ordinary),
    of(3389, "ms-wbt-server", "Remote Desktop", Kind::Control),
    of(3478, "stun", "STUN", Kind::Ordinary),
    of(
        4200,
        "vrml-multi-use",
        "Angular development server",
        Kind::Dashboard,
    ),
    of(4222, "nats", "NATS", Kind::Ordinary),
    of(4369, "epmd", "Erlang port mapper", Kind::Control),
    of(4444, "nv-video", "JDWP, or Selenium", Kind::Debugger),
    of(4505, "salt-pub", "Salt (publish)", Kind::Control),
    of(4506, "salt-ret", "Salt (requests)", Kind::Control),
    of(4789, "vxlan", "VXLAN", Kind::Ordinary),
    of(
        5000,
        "commplex-main",
        "Flask, or a development server",
        Kind::Dashboard,
    ),
    of(
        5005,
        "avt-profile-2",
        "Java debugger (JDWP)",
        Kind::Debugger,
    ),
    of(5037, "", "Android debug bridge", Kind::Debugger),
    of(5060, "sip", "SIP", Kind::Ordinary),
    of(5173, "", "Vite development server", Kind::Dashboard),
    of(5222, "xmpp-client", "XMPP", Kind::Ordinary),
    of(5353, "mdns", "mDNS", Kind::Ordinary),
    of(5355, "hostmon", "LLMNR", Kind::Ordinary),
    of(5432, "postgresql", "PostgreSQL", Kind::Database),
    of(5433, "pyrrho", "PostgreSQL", Kind::Database),
    of(5555, "personal-agent", "adb, or a debugger", Kind::Debugger),
    of(5601, "esmagent", "Kibana", Kind::Dashboard),
    of(5671, "amqps", "AMQP over TLS", Kind::Ordinary),
    of(5672, "amqp", "AMQP", Kind::Ordinary),
    of(5678, "rrac", "debugpy (Python debugger)", Kind::Debugger),
    of(5900, "rfb", "VNC", Kind::Control),
    of(5901, "", "VNC", Kind::Control),
    of(5984, "couchdb", "CouchDB", Kind::Database),
    of(5985, "wsman", "WinRM", Kind::Control),
    of(5986, "wsmans", "WinRM over TLS", Kind::Control),
    of(6000, "x11", "X11", Kind::Control),
    of(6060, "x11", "pprof (Go profiler)", Kind::Debugger),
    of(6379, "redis", "Redis", Kind::Database),
    of(6380, "", "Redis over TLS", Kind::Database),
    of(6432, "pgbouncer", "PgBouncer", Kind::Database),
    of(6443, "sun-sr-https", "Kubernetes API", Kind::Control),
    of(6667, "ircu-3", "IRC", Kind::Ordinary),
    of(7000, "afs3-fileserver", "Cassandra (peers)", Kind::Database),
    of(7474, "neo4j", "Neo4j browser", Kind::Dashboard),
    of(7687, "bolt", "Neo4j", Kind::Database),
    of(7946, "", "Docker Swarm", Kind::Control),
    of(8000, "irdmi", "HTTP (development)", Kind::Ordinary),
    of(8001, "vcom-tunnel", "kubectl proxy", Kind::Control),
    of(8008, "http-alt", "HTTP", Kind::Ordinary),
    of(8080, "http-alt", "HTTP", Kind::Ordinary),
    of(8081, "sunproxyadmin", "HTTP", Kind::Ordinary),
    of(8086, "d-s-n", "InfluxDB", Kind::Database),
    of(8088, "radan-http", "HTTP", Kind::Ordinary),
    of(8123, "polipo", "ClickHouse (HTTP)", Kind::Database),
    of(8200, "trivnet1", "Vault", Kind::Control),
    of(8265, "", "Ray dashboard", Kind::Dashboard),
    of(8300, "tmi", "Consul (servers)", Kind::Control),
    of(8404, "svcloud", "HAProxy statistics", Kind::Dashboard),
    of(8443, "pcsync-https", "HTTPS", Kind::Ordinary),
    of(8500, "fmtp", "Consul", Kind::Control),
    of(8529, "", "ArangoDB", Kind::Database),
    of(8761, "", "Eureka", Kind::Dashboard),
    of(
        8787,
        "msgsrvr",
        "RStudio, or a Ruby debugger",
        Kind::Debugger,
    ),
    of(8834, "nessus", "Nessus", Kind::Dashboard),
    of(8888, "ddi-tcp-1", "Jupyter", Kind::Dashboard),
    of(8983, "", "Solr", Kind::Database),
    of(9000, "cslistener", "PHP-FPM, or MinIO", Kind::Control),
    of(
        9001,
        "etlservicemgr",
        "Supervisor, or MinIO console",
        Kind::Dashboard,
    ),
    of(9042, "", "Cassandra", Kind::Database),
    of(9090, "websm", "Prometheus, or Cockpit", Kind::Dashboard),
    of(
        9091,
        "xmltec-xmlmail",
        "Pushgateway, or Transmission",
        Kind::Dashboard,
    ),
    of(9092, "xmltec", "Kafka", Kind::Database),
    of(9093, "copycat", "Alertmanager", Kind::Dashboard),
    of(
        9100,
        "hp-pdl-datastr",
        "Node exporter, or a printer",
        Kind::Ordinary,
    ),
    of(9160, "apani1", "Cassandra (Thrift)", Kind::Database),
    of(9200, "wap-wsp", "Elasticsearch", Kind::Database),
    of(9222, "teamcoherence", "Chrome DevTools", Kind::Debugger),
    of(9229, "", "Node inspector", Kind::Debugger),
    of(9300, "vrace", "Elasticsearch (peers)", Kind::Database),
    of(9418, "git", "git", Kind::Ordinary),
    of(9443, "tungsten-https", "Portainer", Kind::Dashboard),
    of(9901, "enrp", "Envoy admin", Kind::Dashboard),
    of(10000, "ndmp", "Webmin", Kind::Dashboard),
    of(10050, "zabbix-agent", "Zabbix agent", Kind::Ordinary),
    of(10051, "zabbix-trapper", "Zabbix server", Kind::Ordinary),
    of(10250, "", "Kubelet", Kind::Control),
    of(10255, "", "Kubelet (read only)", Kind::Control),
    of(11211, "memcache", "memcached", Kind::Database),
    of(11434, "", "Ollama", Kind::Dashboard),
    of(15672, "", "RabbitMQ management", Kind::Dashboard),
    of(16443, "", "Kubernetes API", Kind::Control),
    of(17500, "db-lsp", "Dropbox", Kind::Ordinary),
    of(19999, "dnp-sec", "Netdata", Kind::Dashboard),
    of(24678, "", "Vite (reload)", Kind::Dashboard),
    of(25565, "", "Minecraft", Kind::Ordinary),
    of(25672, "", "RabbitMQ (peers)", Kind::Control),
    of(26257, "", "CockroachDB", Kind::Database),
    of(26379, "", "Redis Sentinel", Kind::Database),
    of(27017, "mongodb", "MongoDB", Kind::Database),
    of(27018, "", "MongoDB", Kind::Database),
    of(28015, "", "RethinkDB", Kind::Database),
    of(32400, "plex", "Plex", Kind::Dashboard),
    of(33060, "mysqlx", "MySQL (X protocol)", Kind::Database),
    of(35729, "", "LiveReload", Kind::Dashboard),
    of(50000, "", "Db2, or Jenkins agents", Kind::Database),
    of(50051, "", "gRPC", Kind::Ordinary),
    of(51820, "", "WireGuard", Kind::Ordinary),
    of(61616, "", "ActiveMQ", Kind::Ordinary),
    of(
        62078,
        "iphone-sync",
        "iPhone synchronisation",
        Kind::Ordinary,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(SERVICES.is_sorted_by(|one, other| one.port < other.port));
        assert!(OVER_UDP.iter().all(|port| service(*port, true).is_some()));
        assert!(PROGRAMS.iter().all(|(name, ..)| name.len() <= 15));
    }

    #[test]
    fn services_are_found() {
        let name = |port, is_udp| service(port, is_udp).map(|service| service.name);
        assert_eq!(name(5432, false), Some("postgresql"));
        assert_eq!(name(5432, true), None);
        assert_eq!(name(53, true), Some("domain"));
        assert_eq!(name(62_893, false), None);
        assert_eq!(name(0, false), None);
    }
}
