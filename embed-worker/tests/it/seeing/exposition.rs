//! A strict reader of Prometheus' text format, version 0.0.4: what it does not allow is an error.

use std::collections::{BTreeMap, BTreeSet};

/// A family of samples.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads a whole exposition.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            if help.is_empty() || !helped.insert(name.to_owned()) {
                return Err(wrong("helped twice, or not at all"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if !["counter", "gauge", "summary"].contains(&kind) || !is_name(name, true) {
                return Err(wrong("no such type, or no name"));
            }
            if !helped.contains(name) {
                return Err(wrong("no help before"));
            }
            let family = Family { kind: kind.into(), samples: Vec::new() };
            if families.insert(name.into(), family).is_some() {
                return Err(wrong("typed twice"));
            }
            current = name.into();
        } else {
            let sample = sample(line).map_err(|what| wrong(&what))?;
            let family = families.get_mut(&current).ok_or_else(|| wrong("no type before"))?;
            let suffix = sample.name.strip_prefix(&current).ok_or_else(|| wrong("not together"))?;
            let fits = match suffix {
                "" => (family.kind == "summary") == sample.labels.contains_key("quantile"),
                "_sum" | "_count" => family.kind == "summary",
                _ => false,
            };
            if !fits {
                return Err(wrong("not of this family"));
            }
            if family.kind == "counter" && !(sample.value >= 0.0 && current.ends_with("_total")) {
                return Err(wrong("not a counter"));
            }
            if !series.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("a series twice"));
            }
            family.samples.push(sample);
        }
    }
    Ok(families)
}

fn is_name(name: &str, colons: bool) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    let first = name.chars().next();
    first.is_some_and(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// `name{label="text",...} value`
fn sample(line: &str) -> Result<Sample, String> {
    let (name, rest) = line.split_once('{').ok_or("no labels")?;
    if !is_name(name, true) {
        return Err("no name".into());
    }
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        let (label, after) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(label, false) {
            return Err(format!("label `{label}`"));
        }
        let (text, after) = quoted(after)?;
        if labels.insert(label.to_owned(), text).is_some() {
            return Err(format!("label `{label}` twice"));
        }
        if let Some(after) = after.strip_prefix(',') {
            rest = after;
        } else if let Some(value) = after.strip_prefix("} ") {
            let value = value.parse().map_err(|_| format!("value `{value}`"))?;
            return Ok(Sample { name: name.into(), labels, value });
        } else {
            return Err("labels do not end".into());
        }
    }
}

/// A text up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut unescaped = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((unescaped, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => unescaped.push('\n'),
                Some((_, c @ ('\\' | '"'))) => unescaped.push(c),
                other => return Err(format!("escape {other:?}")),
            },
            c => unescaped.push(c),
        }
    }
    Err("a quote does not end".into())
}

#[test]
fn what_the_format_does_not_allow_is_refused() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let good = format!("{head}a_total{{x=\"\\\"\\\\\\n\"}} 1.5\n");
    let families = parse(&good).expect("as it should be");
    assert_eq!(families["a_total"].samples[0].labels["x"], "\"\\\n");
    let gauge = "# HELP b B.\n# TYPE b gauge\n";
    for bad in [
        good.trim_end(),
        &format!("{good}{}", "a_total{x=\"\\\"\\\\\\n\"} 2\n"),
        &format!("{head}a_total{{x=\"1\"}} -1\n"),
        &format!("{head}a_total{{x=\"1\",}} 1\n"),
        &format!("{head}a_total{{x=\"\\q\"}} 1\n"),
        &format!("{head}a_total{{x=\"1\"}} one\n"),
        &format!("{head}b{{x=\"1\"}} 1\n"),
        &format!("{head}{gauge}a_total{{x=\"1\"}} 1\n"),
        "# TYPE b gauge\nb{x=\"1\"} 1\n",
        "# HELP b B.\n# TYPE b counter\nb{x=\"1\"} 1\n",
        "b{x=\"1\"} 1\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
