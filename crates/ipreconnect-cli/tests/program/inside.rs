//! Listeners inside other network namespaces, as containers have them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ipreconnect_lab::namespace::skipped;

use crate::desk::{Desk, Mortal, free_address, until};

/// A process with a network namespace of its own, in a control group as Docker gives them to containers.
struct Container {
    child: Child,
    group: PathBuf,
}

impl Container {
    /// One with this number; none where this machine does not permit it.
    fn start(test: &str, id: &str) -> Option<Self> {
        Self::start_below("docker", test, id)
    }

    /// The same below another control group.
    fn start_below(above: &str, test: &str, id: &str) -> Option<Self> {
        let places = [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup",
        ];
        let mut places = places
            .into_iter()
            .map(|place| PathBuf::from(place).join(above).join(id));
        let group = places.find(|place| {
            std::fs::create_dir_all(place).is_ok() && place.join("cgroup.procs").exists()
        });
        let Some(group) = group else {
            skipped(test, "no control group can be made");
            return None;
        };
        let mut child = Command::new("unshare")
            .args([
                "-n",
                "sh",
                "-c",
                "ip link set lo up; echo up; exec sleep 600",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut out = std::io::BufReader::new(child.stdout.take()?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).ok()?;
        let moved = std::fs::write(group.join("cgroup.procs"), child.id().to_string());
        let mut container = Self { child, group };
        if line != "up\n" || moved.is_err() {
            skipped(test, "no network namespace can be made");
            container.end();
            return None;
        }
        Some(container)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to an address from inside, and returns the answer.
    fn ask(&self, address: SocketAddr) -> String {
        let code = format!(
            "exec 3<>/dev/tcp/{}/{} && echo hello >&3 && timeout 10 head -n 1 <&3",
            address.ip(),
            address.port()
        );
        let pid = self.pid().to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-n", "bash", "-c", &code])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir(&self.group);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}

fn inside(origin: SocketAddr, listen: SocketAddr, netns: &str) -> String {
    format!(
        "[origin.a]\naddress = \"{origin}\"\n\
         [[listen]]\naddress = \"{listen}\"\norigin = \"a\"\nnetns = \"{netns}\"\n"
    )
}

/// A number that no other container has: its beginning is what tells them apart.
fn number() -> String {
    let mut number = format!("{:08x}{:04x}", std::process::id(), free_address().port());
    number.push_str(&"0f".repeat(26));
    number
}

#[test]
fn a_container_reaches_a_service_of_this_machine_and_is_found_when_it_is_started_again() {
    let test =
        "a_container_reaches_a_service_of_this_machine_and_is_found_when_it_is_started_again";
    let id = number();
    let Some(mut container) = Container::start(test, &id) else {
        return;
    };
    let origin = Mortal::born("one");
    let listen = free_address();
    assert_eq!(container.ask(listen), "", "nothing leads out of it");
    let desk = Desk::run(&inside(
        origin.address(),
        listen,
        &format!("container:{}", &id[..40]),
    ));
    desk.wait_for_phase("a", "up");
    assert_eq!(container.ask(listen), "one hello\n");
    assert!(TcpStream::connect(listen).is_err(), "here nobody listens");
    // None of its threads has what it took to go there.
    for thread in std::fs::read_dir(format!("/proc/{}/task", desk.pid())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:\t"));
        let effective = u64::from_str_radix(effective.unwrap(), 16).unwrap();
        assert_eq!(effective & 1 << 21, 0, "{status}");
    }
    let check = desk.command(&["check"]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains("inside container:"), "{check}");
    // It is started again: another process, another namespace.
    container.end();
    until("its end is noticed", || {
        desk.log()
            .contains("a listener is not inside its network namespace")
    });
    let Some(container) = Container::start(test, &id) else {
        return;
    };
    until("it is reached again", || {
        container.ask(listen) == "one hello\n"
    });
    // And of another listener, by the path of the namespace, with the same address.
    let path = format!("/proc/{}/ns/net", container.pid());
    let both = free_address();
    desk.write(&format!(
        "{}[[listen]]\nname = \"b\"\naddress = \"{both}\"\norigin = \"a\"\nnetns = \"{path}\"\n\
         [[listen]]\nname = \"c\"\naddress = \"{both}\"\norigin = \"a\"\n",
        inside(
            origin.address(),
            listen,
            &format!("pid:{}", container.pid())
        )
    ));
    let told = desk.command(&["reload"]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(container.ask(listen), "one hello\n");
    assert_eq!(container.ask(both), "one hello\n");
    assert_eq!(
        crate::desk::ask(&mut crate::desk::dial(both), "here\n"),
        "one here\n"
    );
}

#[test]
fn a_gateway_starts_without_the_container_and_goes_inside_when_it_is_there() {
    let test = "a_gateway_starts_without_the_container_and_goes_inside_when_it_is_there";
    let id = number();
    let origin = Mortal::born("one");
    let listen = free_address();
    let desk = Desk::run(&inside(
        origin.address(),
        listen,
        &format!("container:{id}"),
    ));
    assert!(desk.log().contains("is not there"), "{}", desk.log());
    let Some(container) = Container::start(test, &id) else {
        return;
    };
    until("it is reached", || container.ask(listen) == "one hello\n");
}

#[test]
fn what_a_user_calls_a_container_is_none() {
    let test = "what_a_user_calls_a_container_is_none";
    let id = number();
    let above = format!("ipreconnect-{}", std::process::id());
    let Some(mut container) = Container::start_below(&above, test, &id) else {
        return;
    };
    let above = container.group.parent().unwrap().to_owned();
    std::os::unix::fs::chown(&above, Some(65_534), None).unwrap();
    let (origin, listen) = (Mortal::born("one"), free_address());
    let config = inside(origin.address(), listen, &format!("container:{id}"));
    let desk = Desk::run(&config);
    assert!(
        desk.log().contains("does not belong to root"),
        "{}",
        desk.log()
    );
    std::os::unix::fs::chown(&above, Some(0), None).unwrap();
    until("it is reached", || container.ask(listen) == "one hello\n");
    container.end();
    let _ = std::fs::remove_dir(above);
}

#[test]
fn a_listener_that_moves_is_nowhere_else_and_one_that_cannot_stays() {
    let test = "a_listener_that_moves_is_nowhere_else_and_one_that_cannot_stays";
    let (Some(one), Some(two)) = (
        Container::start(test, &number()),
        Container::start(test, &number()),
    ) else {
        return;
    };
    let origin = Mortal::born("one");
    let (first, second) = (free_address(), free_address());
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let config = |addresses: &[SocketAddr], netns: &str, more: &str| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!(
            "[origin.a]\naddress = \"{}\"\n\
             [[listen]]\nname = \"a\"\naddress = {addresses:?}\norigin = \"a\"\n{netns}\n{more}",
            origin.address(),
        )
    };
    let pid = |container: &Container| format!("netns = \"pid:{}\"", container.pid());
    let desk = Desk::run(&config(&[first, second], &pid(&one), ""));
    desk.wait_for_phase("a", "up");
    assert_eq!(one.ask(first), "one hello\n");
    // Another listener of the same change cannot be opened: all is as it was.
    let other = format!("[[listen]]\nname = \"b\"\naddress = \"{taken}\"\norigin = \"a\"\n");
    desk.write(&config(&[first, second], &pid(&two), &other));
    assert!(!desk.command(&["reload"]).status.success());
    assert_eq!(one.ask(first), "one hello\n");
    assert_eq!(two.ask(first), "");
    drop(held);
    let change = |addresses: &[SocketAddr], netns: &str| {
        desk.write(&config(addresses, netns, ""));
        let told = desk.command(&["reload"]);
        assert!(told.status.success(), "{told:?}");
    };
    // Another word for the same place, and an address less.
    let path = format!("netns = \"/proc/{}/ns/net\"", one.pid());
    change(&[first], &path);
    assert_eq!(one.ask(first), "one hello\n");
    assert_eq!(one.ask(second), "");
    change(&[first], &pid(&two));
    assert_eq!(one.ask(first), "");
    assert_eq!(two.ask(first), "one hello\n");
    // Here, and then in a place that is not there yet.
    change(&[first], "");
    assert_eq!(two.ask(first), "");
    assert_eq!(
        crate::desk::ask(&mut crate::desk::dial(first), "here\n"),
        "one here\n"
    );
    change(
        &[first],
        &format!("netns = \"container:{}\"", "0123456789ab".repeat(5)),
    );
    assert!(TcpStream::connect(first).is_err(), "here nobody listens");
}

#[test]
fn what_cannot_be_inside_is_told() {
    let origin = free_address();
    let told = |netns: &str, more: &str| {
        let desk = Desk::with(&format!("{}{more}", inside(origin, free_address(), netns)));
        let output = desk.command(&["run"]);
        assert_eq!(output.status.code(), Some(2), "{netns}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let missing = told("pid:4194304", "");
    assert!(
        missing.contains("cannot be inside pid:4194304"),
        "{missing}"
    );
    for wrong in ["blue", "pid:0", "pid:x", "name:../x", "container:"] {
        let wrong = told(wrong, "");
        assert!(wrong.contains("container:3f2a9c11"), "{wrong}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(b"x").unwrap();
    let plain = told(&file.path().display().to_string(), "");
    assert!(plain.contains("this is no namespace"), "{plain}");
    let peer = "[[access]]\nfrom = \"loopback\"\nuser = \"root\"\nmethod = \"peer\"\n";
    let peer = told("name:blue", peer);
    assert!(peer.contains("`peer` cannot tell"), "{peer}");
}
