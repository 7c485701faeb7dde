//! A socket that a child was given.
//!
//! Alone in its program: between fork and exec the child has every socket of this process, and a
//! test of holders beside it would be right to name it.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;

use ipreconnect_ports::holders;

#[test]
fn a_child_that_inherited_a_socket_holds_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut child = Command::new("sleep")
        .arg("600")
        .stdin(OwnedFd::from(listener))
        .spawn()
        .unwrap();
    let found = holders(address);
    child.kill().unwrap();
    child.wait().unwrap();
    let found = found.unwrap();
    let process = found[0].process.as_ref().unwrap();
    assert_eq!((process.pid, process.name.as_str()), (child.id(), "sleep"));
    assert_eq!(holders(address).unwrap(), []);
}
