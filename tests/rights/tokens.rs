//! Rust source as tokens with line numbers: comments, literals and test code left out.

/// One token: a word, or a piece of punctuation (`::` is one token).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The tokens of `source`.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at += bytes[at..].iter().take_while(|b| **b != b'\n').count(),
            b'/' if bytes[at..].starts_with(b"/*") => at += block_comment(&bytes[at..]),
            b'"' => at += string(&bytes[at..]),
            b'r' | b'b' | b'c' if raw_string(&bytes[at..]).is_some() => {
                at += raw_string(&bytes[at..]).unwrap_or_default();
            }
            b'\'' => at += char_or_lifetime(&bytes[at..]),
            byte if byte.is_ascii_whitespace() => at += 1,
            byte if word(byte) => {
                at += bytes[at..].iter().take_while(|b| word(**b)).count();
                out.push(Token { text: source[start..at].to_owned(), line });
            }
            b':' if bytes[at..].starts_with(b"::") => {
                at += 2;
                out.push(Token { text: "::".to_owned(), line });
            }
            byte => {
                at += 1;
                out.push(Token { text: char::from(byte).to_string(), line });
            }
        }
        line += bytes[start..at].iter().filter(|b| **b == b'\n').count();
    }
    out
}

/// Takes every item under `#[cfg(test)]` out of `tokens`; returns the names of the modules among
/// them that live in files of their own (`#[cfg(test)] mod tests;`).
pub(crate) fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !matches(&tokens[at..], &marker) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += marker.len();
        let item = at;
        let mut depth = 0_usize;
        while at < tokens.len() {
            let text = tokens[at].text.as_str();
            at += 1;
            match text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(text, ";" | "}") {
                break;
            }
        }
        if let Some(module) = tokens[item..at].iter().position(|t| t.text == "mod")
            && tokens[at - 1].text == ";"
        {
            modules.push(tokens[item + module + 1].text.clone());
        }
    }
    (kept, modules)
}

/// True when `tokens` begins with `texts`.
pub(crate) fn matches<T: AsRef<str>>(tokens: &[Token], texts: &[T]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == text.as_ref())
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Length of a literal with escapes, its quotes included.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

/// Length of `r"…"`, `br#"…"#`, `b"…"`, `b'…'` and the like; `None` for a plain word.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count();
    let raw = bytes[..prefix].contains(&b'r');
    let hashes = if raw { bytes[prefix..].iter().take_while(|b| **b == b'#').count() } else { 0 };
    let quote = prefix + hashes;
    match bytes.get(quote)? {
        b'"' if raw => {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let body = &bytes[quote + 1..];
            let end = body.windows(close.len()).position(|w| w == close).unwrap_or(body.len());
            Some((quote + 1 + end + close.len()).min(bytes.len()))
        }
        b'"' if prefix <= 1 => Some(quote + string(&bytes[quote..])),
        b'\'' if prefix == 1 && bytes[0] == b'b' => Some(1 + char_or_lifetime(&bytes[1..])),
        _ => None,
    }
}

/// Length of a character literal, or of the quote alone when a lifetime follows.
fn char_or_lifetime(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(b'\\') => bytes[2..].iter().skip(1).position(|b| *b == b'\'').map_or(bytes.len(), |end| end + 4),
        Some(first) => {
            let width = match first {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if bytes.get(1 + width) == Some(&b'\'') { width + 2 } else { 1 }
        }
        None => 1,
    }
}
