//! The rows of `docs/rfc.md`: which behaviour, how much it matters, whether it holds, and what shows it.

/// One behaviour.
pub(crate) struct Row {
    /// Which table of behaviours it stands in, from 1, in the order of the page.
    pub(crate) table: usize,
    /// The RFC, the section, or both.
    pub(crate) section: String,
    /// How much it matters.
    pub(crate) level: String,
    /// Whether it holds: `yes`, `partly`, `no`.
    pub(crate) holds: String,
    /// What it says.
    pub(crate) behaviour: String,
    /// What shows it: each code span of the last cell.
    pub(crate) names: Vec<String>,
}

/// What the page may say of how much a behaviour matters.
pub(crate) const LEVELS: [&str; 4] = ["must", "next", "option", "must, with media"];

/// The cells that a table of behaviours begins with.
const HEAD: &str = "| section | level |";

/// The rows of all tables of behaviours; other tables are passed over.
///
/// # Errors
/// A row that cannot be read, with the reason.
pub(crate) fn rows(page: &str) -> Result<Vec<Row>, String> {
    let mut found = Vec::new();
    let (mut table, mut inside) = (0, false);
    for line in page.lines() {
        if line.starts_with(HEAD) {
            table += 1;
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("| ---") {
            found.push(row(table, line).map_err(|why| format!("{why}: {line}"))?);
        }
    }
    Ok(found)
}

fn row(table: usize, line: &str) -> Result<Row, &'static str> {
    let line = line.strip_prefix('|').and_then(|l| l.trim_end().strip_suffix('|')).ok_or("no row of a table")?;
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [section, level, holds, behaviour, shown] = cells[..] else { return Err("five cells make a row") };
    if !LEVELS.contains(&level) {
        return Err("the level is none of those that the page explains");
    }
    if !matches!(holds, "yes" | "partly" | "no") {
        return Err("the third cell is yes, partly or no");
    }
    if shown.matches('`').count() % 2 != 0 {
        return Err("a code span does not end");
    }
    let names: Vec<String> = shown.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    if holds != "no" && names.is_empty() {
        return Err("no test is named");
    }
    Ok(Row {
        table,
        section: section.to_owned(),
        level: level.to_owned(),
        holds: holds.to_owned(),
        behaviour: behaviour.to_owned(),
        names,
    })
}
