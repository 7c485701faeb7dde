use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn each_address_has_its_scope() {
    for (text, expected) in [
        ("0.0.0.0", Scope::Unspecified),
        ("0.1.2.3", Scope::Unspecified),
        ("127.0.0.1", Scope::Loopback),
        ("127.255.0.9", Scope::Loopback),
        ("169.254.1.1", Scope::LinkLocal),
        ("169.254.169.254", Scope::Metadata),
        ("100.100.100.200", Scope::Metadata),
        ("100.64.0.1", Scope::Shared),
        ("100.128.0.1", Scope::Global),
        ("172.15.0.1", Scope::Global),
        ("172.31.0.1", Scope::Private),
        ("192.168.1.1", Scope::Private),
        ("224.0.0.251", Scope::Multicast),
        ("255.255.255.255", Scope::Multicast),
        ("203.0.113.7", Scope::Reserved),
        ("192.0.2.1", Scope::Reserved),
        ("198.51.100.1", Scope::Reserved),
        ("198.18.0.1", Scope::Reserved),
        ("198.20.0.1", Scope::Global),
        ("192.0.1.1", Scope::Global),
        ("240.0.0.1", Scope::Reserved),
        ("93.184.216.34", Scope::Global),
        ("::", Scope::Unspecified),
        ("::1", Scope::Loopback),
        ("fe80::1", Scope::LinkLocal),
        ("febf::1", Scope::LinkLocal),
        ("fd00:ec2::254", Scope::Metadata),
        ("fd12::1", Scope::Private),
        ("ff02::1", Scope::Multicast),
        ("2001:db8::1", Scope::Reserved),
        ("100::1", Scope::Reserved),
        ("3fff::1", Scope::Reserved),
        ("2606:2800:21f::1", Scope::Global),
        ("64:ff9b:1::1", Scope::Private),
        ("::ffff:127.0.0.1", Scope::Loopback),
        ("::ffff:0:127.0.0.1", Scope::Loopback),
        ("::127.0.0.1", Scope::Loopback),
        ("64:ff9b::169.254.169.254", Scope::Metadata),
        ("64:ff9b::93.184.216.34", Scope::Global),
        ("64:ff9b::203.0.113.7", Scope::Reserved),
        ("2002:7f00:1::1", Scope::Loopback),
        ("2002:a00:1::1", Scope::Private),
        // Teredo: the client's address is inverted.
        ("2001:0:cb00:7101:0:0:80ff:fffe", Scope::Loopback),
    ] {
        assert_eq!(scope(ip(text)), expected, "{text}");
    }
}

#[test]
fn only_localhost_leads_to_this_machine() {
    let policy = AddressPolicy::Usual;
    for (host, allowed) in [
        ("localhost", true),
        ("LOCALHOST.", true),
        ("db.localhost", true),
        ("localhost.example", false),
        ("notlocalhost", false),
        ("", false),
    ] {
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let verdict = policy.judge(ip(loopback), Via::name(host));
            assert_eq!(verdict.is_ok(), allowed, "{host} {loopback}");
        }
    }
    assert_eq!(policy.judge(ip("127.0.0.1"), Via::Literal), Ok(()));
}

#[test]
fn the_usual_policy_refuses_what_no_origin_should_be() {
    let judge = |text| AddressPolicy::Usual.judge(ip(text), Via::Name);
    for allowed in [
        "10.0.0.1",
        "100.64.0.1",
        "203.0.113.7",
        "fd12::1",
        "2001:db8::1",
    ] {
        assert_eq!(judge(allowed), Ok(()), "{allowed}");
    }
    let denied = judge("169.254.169.254").unwrap_err();
    assert_eq!(
        denied.to_string(),
        "169.254.169.254 is the address of a cloud's metadata service"
    );
    for text in ["0.0.0.0", "224.0.0.1", "fe80::1", "64:ff9b::127.0.0.1"] {
        assert!(judge(text).is_err(), "{text}");
    }
}

#[test]
fn declared_networks_are_all_that_is_dialled() {
    let networks = ["203.0.113.0/24", "2001:db8::/32", "127.0.0.0/8"];
    let policy = AddressPolicy::Only(networks.map(|net| net.parse().unwrap()).to_vec());
    for (text, allowed) in [
        ("203.0.113.9", true),
        ("::ffff:203.0.113.9", true),
        ("2001:db8::9", true),
        ("127.0.0.1", true),
        ("203.0.114.1", false),
        ("64:ff9b::203.0.113.9", false),
        ("::1", false),
    ] {
        for via in [Via::Literal, Via::Name] {
            assert_eq!(policy.judge(ip(text), via).is_ok(), allowed, "{text}");
        }
    }
}
