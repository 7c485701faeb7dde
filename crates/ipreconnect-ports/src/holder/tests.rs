use super::*;

fn holder(process: Option<Process>, uid: Option<u32>, user: Option<&str>) -> Holder {
    Holder {
        process,
        uid,
        user: user.map(str::to_owned),
        inode: 1,
    }
}

#[test]
fn a_holder_reads_as_one_would_say_it() {
    let nginx = Process {
        pid: 4711,
        name: "nginx".into(),
    };
    let shown = holder(Some(nginx.clone()), Some(33), Some("www-data")).to_string();
    assert_eq!(shown, "nginx (pid 4711, user www-data)");
    let shown = holder(Some(nginx), None, None).to_string();
    assert_eq!(shown, "nginx (pid 4711, user unknown)");
    let shown = holder(None, Some(33), None).to_string();
    assert_eq!(shown, "a process that cannot be seen from here (uid 33)");
}

#[test]
fn addresses_conflict_as_the_kernel_has_it() {
    let table = [
        ("127.0.0.1", Families::Own, "127.0.0.1", true),
        ("127.0.0.1", Families::Own, "127.0.0.2", false),
        ("127.0.0.1", Families::Own, "0.0.0.0", true),
        ("0.0.0.0", Families::Own, "127.0.0.1", true),
        ("0.0.0.0", Families::Own, "::1", false),
        ("::", Families::Both, "127.0.0.1", true),
        ("::", Families::Own, "127.0.0.1", false),
        ("::", Families::Own, "::1", true),
        ("::1", Families::Own, "127.0.0.1", false),
        ("::ffff:127.0.0.1", Families::Own, "127.0.0.1", true),
    ];
    for (held, families, wanted, expected) in table {
        let socket = FoundInet {
            found: Found {
                inode: 1,
                uid: None,
            },
            ip: held.parse().unwrap(),
            port: 1,
            families,
        };
        let found = conflicts(&socket, wanted.parse().unwrap());
        assert_eq!(found, expected, "{held} ({families:?}) against {wanted}");
    }
}
