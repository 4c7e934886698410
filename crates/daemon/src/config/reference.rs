//! `config/reference.toml`, generated from the types.

use std::fmt::Write as _;

use super::raw::{Form, SECTIONS};

const HEAD: &str = "\
# Every key of siplatch. `siplatch reference` prints this page, `siplatch check FILE` explains every fault of a
# configuration, and every key may also come from the environment (SIPLATCH__MEDIA__PORTS=…, lists with
# commas, SIPLATCH__UPSTREAM__0__URI=… for the first [[upstream]]) or from a flag (--set media.ports=…).
# Flags override the environment, which overrides the file.
#
# Keys show their default, or an example where there is none.
";

/// The whole page. Keys are commented out, so that the page as it stands is
/// the default configuration.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        page.push('\n');
        for line in section.doc {
            let _ = writeln!(page, "#{line}");
        }
        if section.form != Form::Top {
            let _ = writeln!(page, "#{}", section.header());
        }
        for key in section.keys {
            for line in key.doc {
                let _ = writeln!(page, "#   {line}");
            }
            let _ = writeln!(page, "#{} = {}", key.name, key.example);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::raw::Raw;

    const WRITTEN: &str = include_str!("../../../../config/reference.toml");

    #[test]
    fn written_page_is_the_generated_one() {
        assert_eq!(WRITTEN, super::page(), "run `siplatch reference > config/reference.toml`");
    }

    /// Every commented key, with its comment sign removed, is a key of the
    /// types, and no key of the types is missing.
    #[test]
    fn page_holds_every_key() {
        let text: String = WRITTEN
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
            .map(|line| format!("{line}\n"))
            .collect();
        let raw: Raw = toml::from_str(&text).expect("the reference parses");
        // Debug text names every field, also of sections that are added later.
        let shown = format!("{raw:?}");
        assert!(!shown.contains("None"), "a key or section is missing from the reference: {shown}");
        assert!(!shown.contains("upstream: []") && !shown.contains("user: []"));
    }
}
