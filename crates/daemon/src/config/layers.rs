//! The layers of the configuration: file, environment, flags, each overriding
//! the one before, merged by the crate `config`.
//!
//! Each layer is first compared with the key table of [`super::raw`], so that
//! all its faults are found at once, each with its place; what is faulty is
//! left out, and the rest goes on.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origins, Place, nearest};
use super::raw::{Form, Key, Kind, Raw, SECTIONS, Section};

/// What a configuration is read from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// Name and text of the file.
    pub(crate) file: Option<(String, String)>,
    /// Environment variables that begin with [`PREFIX`].
    pub(crate) environment: Vec<(String, String)>,
    /// Flags: as written, key, value.
    pub(crate) flags: Vec<(String, String, String)>,
}

/// How the environment names our keys: `SIPLATCH__MEDIA__PORTS`.
pub(crate) const PREFIX: &str = "SIPLATCH__";

/// What came of reading.
#[derive(Debug)]
pub(crate) struct Reading {
    /// All layers together, without what is faulty.
    pub(crate) raw: Raw,
    /// Where each key was written.
    pub(crate) origins: Origins,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// False when the file is not TOML: nothing can be said about its meaning.
    pub(crate) whole: bool,
}

/// Reads all layers.
pub(crate) fn read(sources: &Sources) -> Reading {
    let (name, text) = sources.file.clone().unwrap_or_default();
    let mut reader = Reader { origins: Origins::new(name, text.clone()), faults: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        reader.syntax(error);
    }
    if !errors.is_empty() {
        return Reading { raw: Raw::default(), origins: reader.origins, faults: reader.faults, whole: false };
    }
    let file = reader.file(document.get_ref());
    let environment = sources.environment.iter().filter_map(|(variable, value)| {
        let path = variable.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect::<Vec<_>>();
        Some((Place::Environment(variable.clone()), path, value.as_str()))
    });
    let mut counts = lengths(&file);
    let environment = reader.overrides(environment.collect(), &mut counts);
    let flags = sources.flags.iter().map(|(flag, key, value)| {
        let path = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (Place::Flag(flag.clone()), path, value.as_str())
    });
    let flags = reader.overrides(flags.collect(), &mut counts);
    let raw = config::Config::builder()
        .add_source(Layer(file))
        .add_source(Layer(environment))
        .add_source(Layer(flags))
        .build()
        .and_then(config::Config::try_deserialize)
        .unwrap_or_else(|error| {
            reader.fault("", error.to_string(), "compare with config/reference.toml".to_owned());
            Raw::default()
        });
    Reading { raw, origins: reader.origins, faults: reader.faults, whole: true }
}

/// How many there are of each section in double brackets.
fn lengths(file: &Map<String, Value>) -> BTreeMap<String, usize> {
    let many = SECTIONS.iter().filter(|section| section.form == Form::Many);
    many.map(|section| {
        let list = file.get(section.name).and_then(|list| list.clone().into_array().ok());
        (section.name.to_owned(), list.map_or(0, |list| list.len()))
    })
    .collect()
}

/// One layer, as the crate `config` wants it.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

struct Reader {
    origins: Origins,
    faults: Vec<Fault>,
}

impl Reader {
    fn fault(&mut self, key: &str, what: String, mend: String) {
        self.faults.push(Fault { key: key.to_owned(), what, mend });
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        // Keys of syntax faults have no name; numbering gives each its own place.
        let key = format!("[{}]", self.faults.len());
        if let Some(span) = error.span() {
            self.origins.note(&key, Place::File(span));
        }
        let (what, mend) = match error.message() {
            "duplicate key" => ("this key is written twice".to_owned(), "keep one of the two"),
            message => (
                format!("this is not TOML: {message}"),
                "write key = value, text in \"quotes\", lists in [brackets], sections as [name]",
            ),
        };
        self.faults.push(Fault { key, what, mend: mend.to_owned() });
    }

    fn file(&mut self, document: &DeTable<'_>) -> Map<String, Value> {
        let mut layer = Map::new();
        for (name, value) in document {
            let (path, span) = (name.get_ref().as_ref(), name.span().start..value.span().end);
            let section = Section::named(path).filter(|section| section.form != Form::Top);
            let read = match (section, value.get_ref()) {
                (None, value_) if Section::named("").is_some_and(|top| top.key(path).is_some()) => {
                    self.origins.note(path, Place::File(value.span()));
                    Section::named("").and_then(|top| top.key(path)).and_then(|key| self.value(path, key, value_))
                }
                (None, _) => {
                    self.origins.note(path, Place::File(name.span()));
                    self.unknown_section(path);
                    None
                }
                (Some(section), DeValue::Table(table)) if section.form == Form::One => {
                    self.origins.note(path, Place::File(name.span()));
                    Some(self.table(path, section, table))
                }
                (Some(section), DeValue::Array(list))
                    if section.form == Form::Many && list.iter().all(|item| item.get_ref().is_table()) =>
                {
                    let items = list.iter().enumerate().map(|(index, item)| {
                        let path = format!("{path}[{index}]");
                        self.origins.note(&path, Place::File(item.span()));
                        let table = item.get_ref().as_table().map(|table| self.table(&path, section, table));
                        table.unwrap_or_else(|| ValueKind::Nil.into())
                    });
                    Some(items.collect::<Vec<_>>().into())
                }
                (Some(section), _) => {
                    self.origins.note(path, Place::File(span));
                    let once = if section.form == Form::One { "once" } else { "any number of times" };
                    let header = section.header();
                    self.fault(path, format!("this section is written as {header}, {once}"), format!("write {header}"));
                    None
                }
            };
            if let Some(value) = read {
                layer.insert(path.to_owned(), value);
            }
        }
        layer
    }

    fn unknown_section(&mut self, name: &str) {
        let homes: Vec<String> = SECTIONS.iter().filter(|s| s.key(name).is_some()).map(Section::header).collect();
        let names = SECTIONS.iter().map(|section| section.name).filter(|name| !name.is_empty()).chain(["role"]);
        let mend = match (homes.is_empty(), nearest(name, names)) {
            (false, _) => format!("{name} belongs under {}", homes.join(" or ")),
            (true, Some("role")) => "did you mean role?".to_owned(),
            (true, Some(near)) => {
                format!("did you mean {}?", Section::named(near).map(Section::header).unwrap_or_default())
            }
            (true, None) => {
                let headers: Vec<String> =
                    SECTIONS.iter().filter(|s| s.form != Form::Top).map(Section::header).collect();
                format!("remove it; there are role, {}", headers.join(", "))
            }
        };
        self.fault(name, "there is no such section or key".to_owned(), mend);
    }

    fn unknown_key(&mut self, path: &str, section: &Section, name: &str) {
        let homes: Vec<String> = SECTIONS
            .iter()
            .filter(|other| other.key(name).is_some())
            .map(|s| if s.form == Form::Top { "the top, before the first [section]".to_owned() } else { s.header() })
            .collect();
        let mend = match nearest(name, section.keys.iter().map(|key| key.name)) {
            Some(near) => format!("did you mean {near}?"),
            None if !homes.is_empty() => format!("{name} belongs under {}", homes.join(" or ")),
            None => {
                let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
                format!("remove it; {} has {}", section.header(), names.join(", "))
            }
        };
        self.fault(path, "there is no such key".to_owned(), mend);
    }

    fn table(&mut self, path: &str, section: &Section, table: &DeTable<'_>) -> Value {
        let mut values = Map::new();
        for (name, value) in table {
            let (name, key_span) = (name.get_ref().as_ref(), name.span());
            let path = format!("{path}.{name}");
            match section.key(name) {
                Some(key) => {
                    self.origins.note(&path, Place::File(value.span()));
                    if let Some(value) = self.value(&path, key, value.get_ref()) {
                        values.insert(name.to_owned(), value);
                    }
                }
                None => {
                    self.origins.note(&path, Place::File(key_span));
                    self.unknown_key(&path, section, name);
                }
            }
        }
        values.into()
    }

    /// A value of the key's kind, or a fault.
    fn value(&mut self, path: &str, key: &Key, value: &DeValue<'_>) -> Option<Value> {
        match (key.kind, value) {
            (Kind::Text | Kind::Secret, DeValue::String(text)) => return Some(text.as_ref().into()),
            (Kind::Number, DeValue::Integer(number)) => {
                if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
                    return Some(number.into());
                }
            }
            (Kind::Truth, DeValue::Boolean(truth)) => return Some((*truth).into()),
            (Kind::Texts, DeValue::Array(list)) => return self.texts(path, list),
            (Kind::Text | Kind::Secret | Kind::Number | Kind::Truth | Kind::Texts, _) => {}
        }
        let Key { name, example, .. } = key;
        let (what, mend) = match (key.kind, value) {
            (Kind::Text, DeValue::Integer(number)) => {
                ("this wants text in quotes", format!("write {name} = \"{}\"", number.as_str()))
            }
            (Kind::Text, _) => ("this wants text in quotes", format!("for example {name} = {example}")),
            (Kind::Secret, _) => ("this wants text in quotes", format!("write {name} = \"…\"")),
            (Kind::Texts, DeValue::String(text)) => {
                ("this wants a list", format!("put it in brackets: {name} = [\"{text}\"]"))
            }
            (Kind::Texts, _) => ("this wants a list of texts", format!("for example {name} = {example}")),
            (Kind::Number, DeValue::String(text)) if text.parse::<i64>().is_ok() => {
                ("this wants a whole number", format!("write it without quotes: {name} = {text}"))
            }
            (Kind::Number, _) => ("this wants a whole number", format!("for example {name} = {example}")),
            (Kind::Truth, _) => ("this wants true or false", format!("for example {name} = {example}")),
        };
        self.fault(path, what.to_owned(), mend);
        None
    }

    fn texts(&mut self, path: &str, list: &[Spanned<DeValue<'_>>]) -> Option<Value> {
        let mut texts = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.origins.note(&path, Place::File(item.span()));
            match item.get_ref().as_str() {
                Some(text) => texts.push(Value::from(text)),
                None => {
                    let what = "this list holds texts only".to_owned();
                    self.fault(&path, what, "put each item in quotes".to_owned());
                }
            }
        }
        (texts.len() == list.len()).then(|| texts.into())
    }

    /// A layer of single keys: environment or flags. `counts` says how many
    /// `[[…]]` there are already; one more may be begun, none left out.
    fn overrides(
        &mut self,
        entries: Vec<(Place, Vec<String>, &str)>,
        counts: &mut BTreeMap<String, usize>,
    ) -> Map<String, Value> {
        let mut layer = Map::new();
        for (place, path, text) in entries {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let shown = parts.join(".");
            let (section, full, name) = match parts.as_slice() {
                [name] => (Section::named(""), (*name).to_owned(), *name),
                [section, name] => {
                    let section = Section::named(section).filter(|section| section.form == Form::One);
                    (section, shown.clone(), *name)
                }
                [section, index, name] => {
                    let index = index.parse::<usize>().unwrap_or(usize::MAX);
                    let count = counts.get_mut(*section);
                    let fits = count.as_ref().is_some_and(|count| index <= **count);
                    if let Some(count) = count.filter(|count| index == **count) {
                        *count += 1;
                    }
                    let section = Section::named(section).filter(|section| section.form == Form::Many && fits);
                    (section, format!("{}[{index}].{name}", parts[0]), *name)
                }
                _ => (None, shown.clone(), ""),
            };
            let Some(section) = section else {
                self.origins.note(&shown, place);
                let mend = "write section.key, or section.number.key for the sections in double brackets, the first \
                            being number 0";
                self.fault(&shown, "there is no such key".to_owned(), mend.to_owned());
                continue;
            };
            let Some(key) = section.key(name) else {
                self.origins.note(&full, place);
                self.unknown_key(&full, section, name);
                continue;
            };
            self.origins.note(&full, place);
            let value = match key.kind {
                Kind::Text | Kind::Secret => Some(text.into()),
                Kind::Texts => {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    Some(items.map(Value::from).collect::<Vec<_>>().into())
                }
                Kind::Number => text.trim().parse::<i64>().ok().map(Value::from),
                Kind::Truth => text.trim().parse::<bool>().ok().map(Value::from),
            };
            match value {
                Some(value) => {
                    layer.insert(full, value);
                }
                None => {
                    let wants = if key.kind == Kind::Truth { "true or false" } else { "a whole number" };
                    self.fault(&full, format!("this wants {wants}"), format!("for example {}", key.example));
                }
            }
        }
        layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Sources {
        Sources { file: Some(("test.toml".into(), text.into())), ..Sources::default() }
    }

    #[test]
    fn flags_override_environment_overrides_file() {
        let mut sources = file("[media]\nports = \"1-2\"\ntimeout_s = 7\n[[phone]]\nname = \"a\"\n");
        sources.environment.push(("SIPLATCH__MEDIA__PORTS".into(), "3-4".into()));
        sources.environment.push(("SIPLATCH__INNER__LISTEN".into(), "udp:1.2.3.4, udp:5.6.7.8".into()));
        sources.environment.push(("SIPLATCH__PHONE__0__USER".into(), "bob".into()));
        sources.environment.push(("SIPLATCH__UPSTREAM__0__URI".into(), "sip:x".into()));
        sources.environment.push(("SIPLATCH__UPSTREAM__1__URI".into(), "sip:y".into()));
        sources.flags.push(("--upstream".into(), "upstream.0.uri".into(), "sip:z".into()));
        sources.flags.push(("--media-ports".into(), "media.ports".into(), "5-6".into()));
        let reading = read(&sources);
        assert!(reading.faults.is_empty(), "{:?}", reading.faults);
        assert_eq!(reading.raw.media.ports.as_deref(), Some("5-6"));
        assert_eq!(reading.raw.media.timeout_s, Some(7));
        assert_eq!(reading.raw.inner.unwrap_or_default().listen.unwrap_or_default(), ["udp:1.2.3.4", "udp:5.6.7.8"]);
        assert_eq!(reading.raw.phone[0].user.as_deref(), Some("bob"));
        assert_eq!(reading.raw.phone[0].name.as_deref(), Some("a"));
        let upstreams: Vec<_> = reading.raw.upstream.iter().map(|upstream| upstream.uri.as_deref()).collect();
        assert_eq!(upstreams, [Some("sip:z"), Some("sip:y")]);
    }

    #[test]
    fn all_faults_of_all_layers_are_found() {
        let mut sources = file("rol = \"border\"\n[media]\nprots = \"1-2\"\ntimeout_s = \"7\"\n[[inner]]\n[phone]\n");
        sources.environment.push(("SIPLATCH__MEDIA__TIMEOUT_S".into(), "soon".into()));
        sources.environment.push(("SIPLATCH__NONSENSE__AT__ALL__HERE".into(), "1".into()));
        sources.environment.push(("SIPLATCH__PHONE__7__USER".into(), "bob".into()));
        let reading = read(&sources);
        assert_eq!(reading.faults.len(), 8, "{:#?}", reading.faults);
    }

    #[test]
    fn faulty_values_are_left_out() {
        let reading = read(&file("[media]\nports = 5\ntimeout_s = 9\n"));
        assert_eq!((reading.raw.media.ports, reading.raw.media.timeout_s), (None, Some(9)));
        assert_eq!(reading.faults.len(), 1);
    }
}
