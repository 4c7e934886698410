//! Reading what a transcript gives to siplatch, and the message that its text stands for.

/// One input.
#[derive(Default)]
pub(crate) struct Given {
    /// `# ` lines before it.
    pub(crate) notes: String,
    /// Its `<<<` line.
    pub(crate) line: String,
    /// A message, or empty.
    pub(crate) body: String,
}

/// `<<<` lines with what follows them up to the next `>>>`, `***`, `#` or `<<<`.
pub(crate) fn inputs(text: &str) -> Vec<Given> {
    let mut found: Vec<Given> = Vec::new();
    let mut notes = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("<<<") {
            found.push(Given { notes: std::mem::take(&mut notes), line: line.to_owned(), body: String::new() });
            inside = true;
        } else if line.starts_with("# ") {
            notes.push_str(line);
            notes.push('\n');
            inside = false;
        } else if line.starts_with(">>>") || line.starts_with("***") {
            inside = false;
        } else if inside && let Some(given) = found.last_mut() {
            given.body.push_str(line);
            given.body.push('\n');
        }
    }
    for given in &mut found {
        given.body.truncate(given.body.trim_end_matches('\n').len());
        given.body.push_str(if given.body.is_empty() { "\n" } else { "\n\n" });
    }
    found
}

/// Line ends and Content-Length as they are on the wire.
pub(crate) fn message(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches('\n');
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let body = if body.is_empty() { String::new() } else { format!("{}\r\n", body.replace('\n', "\r\n")) };
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.replace('\n', "\r\n"), body.len()).into_bytes()
}
