use super::{Ends, Hosts};

fn ends(local: &str) -> Option<Ends> {
    Some(Ends { peer: "10.0.0.9:1".parse().unwrap(), local: local.parse().unwrap() })
}

#[test]
fn loopback_names_are_allowed_at_any_port_and_nothing_that_resembles_them() {
    let hosts = Hosts::new(&[], "127.0.0.1".parse().unwrap());
    for host in ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]", "[::1]:7860"] {
        assert!(hosts.allow(host, None), "{host}");
    }
    let strangers = ["", "evil.example", "0.0.0.0:7860", "[::1].evil", "127.0.0.1.evil", "localhost.evil:7860"];
    let tricks =
        ["localhost:7860:1", "localhost:", "localhost:x", "a@localhost", "localhost/", "[::1]x", "127.1", "::1"];
    for host in strangers.into_iter().chain(tricks) {
        assert!(!hosts.allow(host, ends("127.0.0.1:7860")), "{host}");
    }
}

#[test]
fn configured_names_and_the_own_public_address_are_allowed() {
    let hosts = Hosts::new(&["Pictures.example".into()], "0.0.0.0".parse().unwrap());
    assert!(hosts.allow("pictures.example:80", None));
    assert!(hosts.allow("192.168.1.5:7860", ends("192.168.1.5:7860")));
    assert!(hosts.allow("192.168.1.5:7860", ends("[::ffff:192.168.1.5]:7860")));
    assert!(!hosts.allow("0.0.0.0:7860", ends("192.168.1.5:7860")));
    let private = Hosts::new(&[], "127.0.0.1".parse().unwrap());
    assert!(!private.allow("192.168.1.5:7860", ends("192.168.1.5:7860")));
}
