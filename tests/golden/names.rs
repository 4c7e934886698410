//! Names for random parts.

/// What is random in a run, by kind and order of appearance: `{token-1}`, `{branch-2}`, …
#[derive(Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    pub(crate) fn write(&mut self, text: &str) -> String {
        let base32 = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let run = rest.find(|c: char| !base32(c)).unwrap_or(rest.len());
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let hex = rest.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(rest.len());
            let fresh_word = !out.ends_with(|c: char| c.is_ascii_alphanumeric());
            let (kind, length) = if let Some(branch) = rest.strip_prefix("z9hG4bK") {
                let end = branch.find(|c: char| !base32(c) && c != '-').unwrap_or(branch.len());
                (if matches!(end, 14 | 26) { "branch" } else { "" }, end + 7)
            } else if hex == 43 && fresh_word {
                ("nonce", 43)
            } else if run == 32 && fresh_word {
                ("token", 32)
            } else if run == 13
                && fresh_word
                && (rest[..13].contains(|c: char| c.is_ascii_digit())
                    || out.ends_with(";tag=")
                    || out.ends_with("Call-ID: "))
            {
                ("tag", 13)
            } else if digits == 5 && fresh_word && is_relay_port(&rest[..5]) {
                ("port", 5)
            } else {
                ("", if c.is_ascii_alphanumeric() && fresh_word { word(rest) } else { c.len_utf8() })
            };
            let (piece, tail) = rest.split_at(length);
            if kind.is_empty() {
                out.push_str(piece);
            } else {
                out.push_str(&self.name(kind, piece));
            }
            rest = tail;
        }
        out
    }

    fn name(&mut self, kind: &str, value: &str) -> String {
        if let Some((_, name)) = self.0.iter().find(|(v, _)| v == value) {
            return name.clone();
        }
        let count = self.0.iter().filter(|(_, n)| n[1..].starts_with(kind)).count() + 1;
        let name = format!("{{{kind}-{count}}}");
        self.0.push((value.to_owned(), name.clone()));
        name
    }

    pub(crate) fn put_back(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (value, name)| text.replace(name, value))
    }
}

fn is_relay_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|p| (30_000..30_120).contains(&p) || (40_000..40_121).contains(&p))
}

/// Length of the alphanumeric word that starts here.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len()).max(1)
}
