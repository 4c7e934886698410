//! The questions: at most three, each with an answer that Enter gives. Flags
//! answer them ahead; where nobody sits at a terminal, nobody is asked.

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::net::IpAddr;

use proxy::config::Role;

use super::Wish;
use crate::cli::{Init, InitRole};
use crate::config::{HostPort, read_upstream};

/// Whoever answers.
struct Desk<'a> {
    /// `None`: nobody sits there.
    in_out: Option<(&'a mut dyn BufRead, &'a mut dyn Write)>,
}

impl Desk<'_> {
    /// An answer that `read` takes; a bad one is explained and asked for again, three times.
    fn ask<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        flag: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let Some((input, output)) = &mut self.in_out else {
            return default.map_or_else(|| Err(format!("{question}?\n  mend: write {flag}\n")), read);
        };
        let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        for _ in 0..3 {
            let mut line = String::new();
            let asked = write!(output, "{question}{shown}: ").and_then(|()| output.flush());
            let read_line = asked.and_then(|()| input.read_line(&mut line));
            match (read_line, line.trim(), default) {
                (Err(error), ..) => return Err(format!("{error}\n")),
                (Ok(0), ..) => break,
                (Ok(_), "", None) => {}
                (Ok(_), answer, default) => {
                    match read(if answer.is_empty() { default.unwrap_or_default() } else { answer }) {
                        Ok(value) => return Ok(value),
                        Err(why) => {
                            // Who cannot read it will see the question again.
                            let _ = output.write_all(why.as_bytes());
                        }
                    }
                }
            }
        }
        Err(format!("no answer to: {question}\n  mend: write {flag}\n"))
    }
}

/// What is wanted, from flags and answers.
pub(super) fn wish(asked: &Init) -> Result<Wish, String> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if !(stdin.is_terminal() && stdout.is_terminal()) {
        return questions(asked, &mut Desk { in_out: None });
    }
    let (mut input, mut output) = (stdin.lock(), stdout.lock());
    questions(asked, &mut Desk { in_out: Some((&mut input, &mut output)) })
}

fn questions(asked: &Init, desk: &mut Desk<'_>) -> Result<Wish, String> {
    let role = match (asked.role, &asked.upstream) {
        (Some(role), _) => role,
        // A border is asked for by its name.
        (None, Some(_)) if desk.in_out.is_none() => InitRole::Office,
        (None, _) => {
            let question = "Where does siplatch stand: office (phones behind a router, a provider beyond), border (in front of \
                            a core) or standalone (phones call each other)";
            let default = if desk.in_out.is_some() { "office" } else { "standalone" };
            desk.ask(question, Some(default), "--role", role)?
        }
    };
    let mut wish = Wish::new(match role {
        InitRole::Office => Role::Office,
        InitRole::Border => Role::Border,
        InitRole::Standalone => Role::Standalone,
    });
    wish.reflector = asked.reflector.as_deref().map(|text| HostPort::read(text, 3478)).transpose()?;
    if wish.role == Role::Standalone {
        return Ok(wish);
    }
    let whose = if wish.role == Role::Office { "The provider's SIP domain or server" } else { "The core's address" };
    let uri = match &asked.upstream {
        Some(text) => upstream(text)?,
        None => desk.ask(whose, None, "--upstream", upstream)?,
    };
    if wish.role == Role::Border {
        wish.upstream = uri;
        let known = asked.address.map(|ip| ip.to_string());
        wish.address = match known {
            Some(text) => address(&text)?,
            None => desk.ask(
                "The public address that phones use, or Enter for this machine's own",
                Some("own"),
                "--address",
                address,
            )?,
        };
        return Ok(wish);
    }
    let host = read_upstream(&uri)?.0;
    wish.upstream = uri;
    let default = if host.parse::<IpAddr>().is_ok() { None } else { Some(format!("stun.{}", bare(&host))) };
    wish.stun = match &asked.stun[..] {
        [] => desk.ask("STUN servers, two are best (HOST, HOST)", default.as_deref(), "--stun HOST", servers)?,
        named => servers(&named.join(","))?,
    };
    Ok(wish)
}

/// `sip.example.net` belongs to `example.net`.
fn bare(host: &str) -> &str {
    host.strip_prefix("sip.").filter(|rest| rest.contains('.')).unwrap_or(host)
}

fn role(text: &str) -> Result<InitRole, String> {
    match text {
        "office" => Ok(InitRole::Office),
        "border" => Ok(InitRole::Border),
        "standalone" => Ok(InitRole::Standalone),
        _ => Err(format!("\"{text}\" is no role\n  mend: write office, border or standalone\n")),
    }
}

fn upstream(text: &str) -> Result<String, String> {
    let is_uri = text.starts_with("sip:") || text.starts_with("sips:");
    let uri = if is_uri { text.to_owned() } else { format!("sip:{text}") };
    read_upstream(&uri).map(|_| uri)
}

fn address(text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        "own" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| format!("\"{text}\" is no IP address\n  mend: write 203.0.113.30\n")),
    }
}

fn servers(text: &str) -> Result<Vec<HostPort>, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let mut all: Vec<HostPort> = Vec::new();
    for word in words {
        let server = HostPort::read(word, 3478)?;
        if !all.contains(&server) {
            all.push(server);
        }
    }
    if all.is_empty() { Err("name at least one\n".to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init() -> Init {
        Init {
            file: "x".into(),
            role: None,
            upstream: None,
            stun: Vec::new(),
            address: None,
            reflector: None,
            no_doctor: true,
            force: false,
        }
    }

    fn answers(asked: &Init, text: &str) -> (Result<Wish, String>, String) {
        let (mut input, mut output) = (text.as_bytes(), Vec::new());
        let wish = questions(asked, &mut Desk { in_out: Some((&mut input, &mut output)) });
        (wish, String::from_utf8(output).unwrap())
    }

    #[test]
    fn three_questions_at_most_and_enter_answers_where_something_is_likely() {
        let (wish, said) = answers(&init(), "\nsip.provider.example\n\n");
        let wish = wish.unwrap();
        assert_eq!((wish.role, &wish.upstream[..]), (Role::Office, "sip:sip.provider.example"));
        assert_eq!(wish.stun[0].to_string(), "stun.provider.example:3478");
        assert_eq!(said.matches(": ").count() - said.matches("siplatch stand: ").count(), 3, "{said}");
        let (wish, _) = answers(&init(), "border\n10.0.0.5\n203.0.113.30\n");
        let wish = wish.unwrap();
        assert_eq!((wish.role, &wish.upstream[..]), (Role::Border, "sip:10.0.0.5"));
        assert_eq!(wish.address, Some("203.0.113.30".parse().unwrap()));
        assert_eq!(answers(&init(), "standalone\n").0.unwrap().role, Role::Standalone);
    }

    #[test]
    fn a_bad_answer_is_explained_and_asked_for_again() {
        let (wish, said) = answers(&init(), "offce\noffice\na b\nsip:10.0.0.1\n\nstun.example\n");
        assert_eq!(wish.unwrap().stun[0].host, "stun.example");
        assert!(said.contains("\"offce\" is no role") && said.contains("is not a"), "{said}");
        let (wish, _) = answers(&init(), "x\ny\nz\n");
        assert!(wish.unwrap_err().contains("--role"));
    }

    #[test]
    fn without_a_terminal_flags_answer() {
        let nobody = |asked: &Init| questions(asked, &mut Desk { in_out: None });
        assert_eq!(nobody(&init()).unwrap().role, Role::Standalone);
        let office = Init { upstream: Some("provider.example".to_owned()), ..init() };
        let wish = nobody(&office).unwrap();
        assert_eq!((wish.role, wish.stun[0].host.as_str()), (Role::Office, "stun.provider.example"));
        let bare = Init { upstream: Some("192.0.2.5".to_owned()), ..init() };
        assert!(nobody(&bare).unwrap_err().contains("--stun"));
        let border = Init { role: Some(InitRole::Border), ..init() };
        assert!(nobody(&border).unwrap_err().contains("--upstream"));
    }
}
