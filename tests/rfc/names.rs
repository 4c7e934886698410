//! What a name on the page stands for, and which tests of which program show it.

/// What a name stands for, by its spelling.
pub(crate) enum Name<'a> {
    /// A transcript of `tests/golden/sip`.
    Transcript(&'a str),
    /// A case of `tests/interop`.
    Interop(&'a str),
    /// A cell of `tests/lab`.
    Cell(&'a str),
    /// A file of tests, or one that others rely on, from the root of the workspace.
    File(&'a str),
    /// A test function.
    Function(&'a str),
}

/// Reads a name.
pub(crate) fn name(text: &str) -> Name<'_> {
    if let Some(transcript) = text.strip_prefix("golden: ") {
        Name::Transcript(transcript)
    } else if let Some(case) = text.strip_prefix("interop: ") {
        Name::Interop(case)
    } else if let Some(cell) = text.strip_prefix("lab: ") {
        Name::Cell(cell)
    } else if text.contains('/') {
        Name::File(text)
    } else {
        Name::Function(text)
    }
}
