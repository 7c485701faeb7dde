//! Rules as PostgreSQL reads them and decides by them: the same files before it and before us.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ipreconnect::core::access::{
    Files, Foreign, Host, Method, Names, Rule, Rules, Source, Verdict, Visitor, World, read_hba,
};
use ipreconnect_ports::{Interface, interfaces};
use socket2::{Domain, Socket, Type};

use crate::desk::until;
use crate::servers::{Postgres, needed};

/// One session of `psql` that stays, whatever the rules say meanwhile.
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn new(psql: &Path, cluster: &Postgres) -> Self {
        let mut child = Command::new(psql)
            .args(["-h", "127.0.0.1", "-p", &cluster.port.to_string()])
            .args(["-U", "postgres", "-XAtq", "-F", "\t", "postgres"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    /// The rows of an answer.
    fn ask(&mut self, query: &str) -> Vec<Vec<String>> {
        writeln!(self.input, "{query};\n\\echo THE END").unwrap();
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "{query}");
            match line.trim_end_matches('\n') {
                "THE END" => return rows,
                row => rows.push(row.split('\t').map(str::to_owned).collect()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file system.
struct Disk;

impl Files for Disk {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        Ok(std::fs::read(path).ok())
    }

    fn list(&mut self, path: &Path) -> Result<Vec<PathBuf>, String> {
        let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
        Ok(entries.map(|entry| entry.unwrap().path()).collect())
    }
}

/// What is the same for everybody here.
struct Here(Vec<Interface>);

impl World for Here {
    fn is_own_address(&self, address: IpAddr) -> bool {
        self.0.iter().any(|one| one.address == address)
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        self.0.iter().any(|one| one.is_in_network(address))
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        let is_one = ["ann", "bob", "staff", "sales", "postgres"].contains(&role);
        is_one && (user == role.as_bytes() || (user == b"ann" && role == "staff"))
    }

    fn proves(&self, _: &Rule, _: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }

    fn host(&self) -> Host<'_> {
        Host::None
    }
}

/// Words by chance, and the same ones each time.
struct Dice(fastrand::Rng);

impl Dice {
    fn one<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.0.usize(..words.len())]
    }

    fn list(&mut self, words: &[&str]) -> String {
        let mut list = self.one(words).to_owned();
        while self.0.u8(..4) == 0 {
            let between = self.one(&[",", ", ", ",\t"]);
            list = format!("{list}{between}{}", self.one(words));
        }
        list
    }

    /// A line; with mistakes, if they are wanted. Since its version 16 a server knows expressions.
    fn line(&mut self, version: u32, mistakes: bool) -> String {
        let mut databases = vec![
            "all",
            "sameuser",
            "samerole",
            "samegroup",
            "replication",
            "sales",
            "\"all\"",
            "ann",
            "\"same\"\"user\"",
            "staff",
            "\"replication\"",
            "\"\"",
        ];
        let mut users = vec![
            "all",
            "ann",
            "bob",
            "+staff",
            "\"+staff\"",
            "\"all\"",
            "+nobody",
            "\"b\"ob",
            "sta\"ff\"",
        ];
        if version >= 16 {
            databases.extend(["/^s", "\"/^a.*n$\"", "/."]);
            users.extend(["/^b", "\"/^(ann|bob)$\"", "/x"]);
        }
        let addresses = [
            "127.0.0.1/32",
            "127.0.0.0/8",
            "127.0.0.2 255.255.255.254",
            "127.0.0.1 255.0.0.255",
            "0.0.0.0/0",
            "::/0",
            "::1/128",
            "all",
            "samehost",
            "samenet",
            "127.1/32",
            "0x7f.0.0.1/31",
            "10.0.0.0/8",
            "127.0.0.3 255.255.255.255",
            "::1 ffff::",
            "::ffff:127.0.0.1/128",
        ];
        let methods = ["trust", "reject", "password", "scram-sha-256"];
        let is_local = self.0.u8(..5) == 0;
        let kind = match is_local {
            true => "local",
            false => self.one(&[
                "host",
                "host",
                "host",
                "hostnossl",
                "hostnogssenc",
                "hostgssenc",
            ]),
        };
        let mut fields = vec![kind.to_owned(), self.list(&databases), self.list(&users)];
        if !is_local {
            fields.push(self.one(&addresses).to_owned());
        }
        fields.push(self.one(&methods).to_owned());
        if mistakes {
            let at = self.0.usize(..=fields.len());
            match self.0.u8(..5) {
                0 => fields.truncate(at),
                1 => fields.insert(
                    at,
                    self.one(&["x", "all,all", "127.0.0.1/99", "h/8", "\"\"", "a=b"])
                        .to_owned(),
                ),
                2 => fields.push(
                    self.one(&[
                        "map=x",
                        "map",
                        "clientcert=verify-ca",
                        "clientname=DN",
                        "x=y",
                    ])
                    .to_owned(),
                ),
                3 if at < fields.len() => {
                    fields[at] = self
                        .one(&["peer", "cert", "md5", "nothing", "1.2.3.4/x", "::1/8"])
                        .to_owned();
                }
                _ => {}
            }
        }
        let between = self.one(&[" ", "\t", "  ", " \t "]);
        let end = self.one(&["", "", " # a comment", "#\"", " ", "\t\r"]);
        fields.join(between) + end
    }

    fn file(&mut self, version: u32, mistakes: bool) -> String {
        let mut lines = Vec::new();
        for _ in 0..self.0.usize(1..12) {
            let is_wrong = mistakes && self.0.bool();
            lines.push(self.line(version, is_wrong));
            lines.extend((self.0.u8(..6) == 0).then(|| "# nothing".to_owned()));
            lines.extend((self.0.u8(..6) == 0).then(String::new));
        }
        lines.join("\n") + self.one(&["", "\n", "\n\n"])
    }
}

/// What a server demands of whoever begins so, in the words of its rules.
fn demanded(
    mut stream: impl Read + Write,
    user: &str,
    database: &str,
    is_replication: bool,
) -> String {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    let replication = is_replication.then_some(("replication", "true"));
    for (name, value) in [("user", user), ("database", database)]
        .into_iter()
        .chain(replication)
    {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut said = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut said).unwrap();
    match (head[0], said.get(..4)) {
        (b'R', Some([0, 0, 0, 0])) => "trust".to_owned(),
        (b'R', Some([0, 0, 0, 3])) => "password".to_owned(),
        (b'R', Some([0, 0, 0, 10])) => "scram-sha-256".to_owned(),
        _ => {
            let said = String::from_utf8_lossy(&said).into_owned();
            match said {
                said if said.contains("pg_hba.conf rejects") => "reject".to_owned(),
                said if said.contains("no pg_hba.conf entry") => "none".to_owned(),
                said => format!("{:?}: {said}", char::from(head[0])),
            }
        }
    }
}

fn connect(from: &str, port: u16, directory: &Path) -> Box<dyn Stream> {
    let patience = Some(Duration::from_secs(20));
    if from == "local" {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(patience).unwrap();
        return Box::new(stream);
    }
    let from: IpAddr = from.parse().unwrap();
    let (domain, to): (_, IpAddr) = match from {
        IpAddr::V4(_) => (Domain::IPV4, [127, 0, 0, 1].into()),
        IpAddr::V6(_) => (Domain::IPV6, std::net::Ipv6Addr::LOCALHOST.into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&SocketAddr::new(to, port).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(patience).unwrap();
    Box::new(stream)
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn name(method: Method) -> &'static str {
    match method {
        Method::Other(Foreign::Md5) => "scram-sha-256",
        other => other.name(),
    }
}

#[test]
fn rules_mean_what_they_mean_to_postgresql() {
    let test = "rules_mean_what_they_mean_to_postgresql";
    let (Some(control), Some(psql)) = (needed(test, "pg_ctl"), needed(test, "psql")) else {
        return;
    };
    let cluster = Postgres::new(control);
    cluster.start();
    let directory = cluster.directory.path().to_owned();
    let mut session = Session::new(&psql, &cluster);
    let version: u32 = session.ask("show server_version_num")[0][0]
        .parse()
        .unwrap();
    let version = version / 10_000;
    session.ask("create role ann login; create role bob login; create role staff; create role sales; grant staff to ann");
    let path = Path::new(&cluster.data()).join("pg_hba.conf");
    let mut dice = Dice(fastrand::Rng::with_seed(7));

    // What is read, and what is wrong with it.
    let mut wrong = 0;
    for _ in 0..300 {
        let text = dice.file(version, true);
        std::fs::write(&path, &text).unwrap();
        let rows = session.ask(
            "select line_number, coalesce(auth_method, ''), coalesce(error, '') from pg_hba_file_rules order by line_number",
        );
        let mut theirs = Vec::new();
        for row in &rows {
            let [line, method, error] = row.as_slice() else {
                panic!("{row:?}");
            };
            // Only a remark on how that server was built.
            let is_remark = error.contains("record cannot match because");
            let error = if is_remark {
                String::new()
            } else {
                error.clone()
            };
            // A method that came with version 18.
            let error = error.replace("sspi, cert, and oauth", "sspi, and cert");
            theirs.push((line.parse::<usize>().unwrap(), method.clone(), error));
        }
        let mut ours: Vec<(usize, String, String)> = match read_hba(&path, &mut Disk) {
            Ok(rules) => rules
                .iter()
                .map(|rule| {
                    (
                        rule.place.line,
                        rule.method.name().to_owned(),
                        String::new(),
                    )
                })
                .collect(),
            Err(mistakes) => {
                // Where something is wrong, only that is compared.
                theirs.retain(|(_, _, error)| !error.is_empty());
                mistakes
                    .into_iter()
                    .map(|mistake| (mistake.place.line, String::new(), mistake.what))
                    .collect()
            }
        };
        ours.sort();
        theirs.sort();
        wrong += usize::from(ours.iter().any(|(_, _, error)| !error.is_empty()));
        assert_eq!(ours, theirs, "{text}");
    }
    assert!((50..250).contains(&wrong), "{wrong}");

    // What is decided.
    let here = Here(interfaces().unwrap());
    let sources = [
        "local",
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.3",
        "127.1.2.3",
        "::1",
    ];
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..120 {
        let text = dice.file(version, false);
        let marked = format!("host all marker_{number} 127.0.0.1/32 reject\n{text}");
        std::fs::write(&path, &marked).unwrap();
        session.ask("select pg_reload_conf()");
        until("the rules are read", || {
            let stream = connect("127.0.0.1", cluster.port, &directory);
            demanded(stream, &format!("marker_{number}"), "x", false) == "reject"
        });
        let rules = read_hba(&path, &mut Disk).unwrap_or_else(|why| panic!("{why:?}\n{marked}"));
        let rules = Rules::new(rules, Names::Said);
        for _ in 0..6 {
            let source = dice.one(&sources);
            let user = dice.one(&["ann", "bob", "staff", "+staff", "all", "nobody"]);
            let database = dice.one(&[
                "sales",
                "all",
                "ann",
                "bob",
                "staff",
                "replication",
                "same\"user",
            ]);
            let is_replication = dice.0.u8(..6) == 0;
            let visitor = Visitor {
                source: match source {
                    "local" => Source::Local,
                    address => Source::Ip(address.parse().unwrap()),
                },
                is_tls: false,
                user: Some(user.as_bytes()),
                database: Some(database.as_bytes()),
                is_replication,
            };
            let ours = match rules.decide(&visitor, &here) {
                Verdict::Rule(rule) => name(rule.method),
                Verdict::None => "none",
                Verdict::NeedsHost => "a host",
            };
            let stream = connect(source, cluster.port, &directory);
            let theirs = demanded(stream, user, database, is_replication);
            assert_eq!(
                ours, theirs,
                "{source} {user} {database} {is_replication}\n{marked}"
            );
            *verdicts.entry(theirs).or_default() += 1;
        }
    }
    assert_eq!(verdicts.len(), 5, "{verdicts:?}");
}
