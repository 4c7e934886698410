use std::path::PathBuf;

use super::*;

fn asked(phones: &[&str]) -> Planned {
    Planned {
        phones: phones.iter().map(|phone| (*phone).to_owned()).collect(),
        calls: 4,
        streams: 1,
        config: None,
        address: None,
        signalling_from: 5060,
        media: PortRange { first: 10_000, last: 29_999 },
        html: None,
        write: None,
    }
}

fn of(asked: &Planned) -> Result<String, String> {
    plan(asked, Some(Ipv4Addr::new(192, 168, 1, 2)))
}

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-plan-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const OFFICE: &str = include_str!("../../../../config/office.toml");

#[test]
fn each_phone_has_a_port_and_a_range_of_its_own() {
    let told = of(&asked(&["reception", "desk2:2", "door:1"])).unwrap();
    let sections = told.split("into a file):\n\n").nth(1).unwrap();
    // 5060 and 5070 are those of the two sides.
    let reception = "[[phone]]\nname = \"reception\"\nuser = \"reception\"\nouter_listen = \"udp:192.168.1.2:5080\"\n\
                     media_ports = \"10000-10015\"\nmax_calls = 4\n";
    assert!(sections.starts_with(reception), "{sections}");
    assert!(
        sections.contains("outer_listen = \"udp:192.168.1.2:5090\"\nmedia_ports = \"10020-10027\"\nmax_calls = 2\n")
    );
    assert!(
        sections.contains("outer_listen = \"udp:192.168.1.2:5100\"\nmedia_ports = \"10040-10043\"\nmax_calls = 1\n")
    );
    assert!(
        told.contains("  reception   signalling  UDP       the router's    5080          192.168.1.2  5080\n"),
        "{told}"
    );
    assert!(
        told.contains("  door        sound       UDP       the router's    10040-10043   192.168.1.2  10040-10043\n")
    );
}

#[test]
fn a_configuration_is_completed_and_accepted() {
    let dir = Dir::new("completed");
    let before =
        format!("{OFFICE}\n[[phone]]  # the desk\nname = \"desk\"\nuser = \"100\"\nmedia_ports = \"10000-10099\"\n");
    let config = dir.file("siplatch.toml", &before);
    let page = dir.0.join("sheet.html");
    let many = Planned {
        config: Some(config.clone()),
        write: Some(config.clone()),
        html: Some(page.clone()),
        streams: 2,
        ..asked(&["desk", "door:1@203.0.113.12", "gate:1@203.0.113.12/192.168.2.2"])
    };
    of(&many).unwrap();
    let after = std::fs::read_to_string(&config).unwrap();
    // What was there is there, and `siplatch check` has no fault to find.
    assert!(before.lines().all(|line| after.lines().any(|other| other == line)));
    let settings = cli::load(Some(&config), &Overrides::of_status(None)).unwrap();
    let phones = &settings.proxy.phones;
    let bind = |at: usize| settings.proxy.listeners[usize::from(phones[at].outer_listener.unwrap())].bind.to_string();
    assert_eq!([0, 1, 2].map(bind), ["192.168.1.2:5080", "192.168.1.2:5090", "192.168.2.2:5100"]);
    let range = |at: usize| settings.proxy.media.ranges[usize::from(phones[at].range.unwrap().0)];
    assert_eq!(
        [0, 1, 2].map(range).map(|range| (range.first, range.last)),
        [(10_000, 10_099), (10_100, 10_107), (10_120, 10_127)]
    );
    assert_eq!(phones[0].max_calls, Some(4));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<td>door</td><td>signalling</td><td>UDP</td><td>203.0.113.12</td><td>5090</td>"), "{html}");
    assert!(!html.contains("http"), "nothing is fetched from elsewhere");
    // A second time there is nothing to add.
    let again = Planned { config: Some(config), ..asked(&[]) };
    assert!(of(&again).unwrap().ends_with("Every phone has its ports already.\n"));
}

#[test]
fn collisions_are_named() {
    let dir = Dir::new("collisions");
    let phone = |name: &str, rest: &str| format!("[[phone]]\nname = \"{name}\"\n{rest}\n");
    let with = |phones: &[String]| {
        let config = dir.file("siplatch.toml", &format!("{OFFICE}\n{}", phones.concat()));
        of(&Planned { config: Some(config), ..asked(&[]) })
    };
    let twice = with(&[phone("a", "user = \"100\""), phone("b", "user = \"100\"")]).unwrap_err();
    assert!(twice.starts_with("\"a\" and \"b\" both have user \"100\", and nothing tells \"b\" from \"a\""), "{twice}");
    let device = "instance = \"urn:uuid:00000000-0000-1000-8000-000a95a0e128\"";
    let same = with(&[phone("a", device), phone("b", &format!("user = \"100\"\n{device}"))]).unwrap_err();
    assert!(same.contains("both have instance \"urn:uuid:"), "{same}");
    let own = |port: u16| {
        format!("user = \"{port}\"\nouter_listen = \"udp:192.168.1.2:{port}\"\nadvertise = \"203.0.113.9\"\n")
    };
    let public =
        with(&[phone("a", &own(5080)), phone("b", &format!("{}advertise_port = 5080", own(5090)))]).unwrap_err();
    assert!(public.starts_with("\"a\" and \"b\" are both to be reached at 203.0.113.9:5080"), "{public}");
    let source = with(&[phone("a", &own(5080)), phone("b", "user = \"1\"\nouter_listen = \"udp:192.168.1.2:5080\"")]);
    assert!(source.unwrap_err().contains("192.168.1.2:5080 is written twice"));
    // What is told apart by an address is no collision.
    with(&[phone("a", "user = \"100\"\naddress = \"192.168.1.11\""), phone("b", "user = \"100\"")]).unwrap();
}

#[test]
fn what_does_not_fit_is_said() {
    let narrow = Planned { media: PortRange { first: 10_000, last: 10_039 }, ..asked(&["a", "b", "c"]) };
    let why = of(&narrow).unwrap_err();
    assert!(
        why.starts_with(
            "the ports 10000-10039 have no room for another phone: 4 calls with 1 stream need 16 ports each"
        ),
        "{why}"
    );
    let late = Planned { signalling_from: 65_530, ..asked(&["a", "b"]) };
    assert!(of(&late).unwrap_err().starts_with("no signalling port is free from 65530 on"));
    for (wrong, what) in [
        ("", "is no name for a phone"),
        ("a b", "is no name for a phone"),
        ("a\"b", "is no name for a phone"),
        ("a:x", "does not say how many calls"),
        ("a:0", "does not say how many calls"),
        ("a@b", "does not name an IPv4 address"),
        ("a@1.2.3.4/x", "does not name an IPv4 address"),
    ] {
        assert!(of(&asked(&[wrong])).unwrap_err().contains(what), "{wrong}");
    }
    assert!(of(&asked(&[])).unwrap_err().starts_with("no phone is named"));
    assert!(range("1-2").is_err() && range("20000-10000").is_err() && range("x").is_err());
}

#[test]
fn another_file_is_never_written_over() {
    let dir = Dir::new("over");
    let there = dir.file("there.toml", "precious");
    let why = of(&Planned { write: Some(there.clone()), ..asked(&["a"]) }).unwrap_err();
    assert!(why.contains("cannot be written") && std::fs::read_to_string(there).unwrap() == "precious");
    let new = dir.0.join("new.toml");
    of(&Planned { write: Some(new.clone()), ..asked(&["a"]) }).unwrap();
    assert!(std::fs::read_to_string(new).unwrap().starts_with("[[phone]]\nname = \"a\"\n"));
}

#[test]
fn elsewhere_than_in_office_phones_share_the_signalling_port() {
    let dir = Dir::new("border");
    let border = include_str!("../../../../config/border.toml");
    let config = dir.file("border.toml", border);
    let told = of(&Planned { config: Some(config), ..asked(&["a"]) }).unwrap();
    assert!(!told.contains("outer_listen") && told.contains("media_ports = \"10000-10015\""), "{told}");
}
