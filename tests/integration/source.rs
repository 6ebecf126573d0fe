//! Rules for the source that the compiler does not enforce.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The core only decides: no runtime, no database, no router, no SDK, no clock, no randomness.
const NOT_IN_CORE: [&str; 16] = [
    "tokio",
    "rusqlite",
    "rumqttd",
    "rumqttc",
    "aws_",
    "hyper",
    "tracing",
    "getrandom",
    "rand",
    "libc",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The line without its comment, and without texts: a rule may call a function by such a name.
fn code(line: &str) -> String {
    let without_texts: String = line.split('"').step_by(2).collect();
    without_texts.split("//").next().unwrap_or_default().to_owned()
}

/// Forbidden names that a line uses as whole words.
fn uses(line: &str) -> Vec<&'static str> {
    let code = code(line);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands_alone = |name: &str, at: usize| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && (name.ends_with('_') || !after.is_some_and(is_word))
    };
    let is_used = |name: &&&str| code.match_indices(**name).any(|(at, _)| stands_alone(name, at));
    NOT_IN_CORE.iter().filter(is_used).copied().collect()
}

#[test]
fn the_core_is_pure() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core"), &mut files);
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let used = uses(line);
            assert!(used.is_empty(), "{}:{number} uses {used:?}", file.display());
        }
    }
}

#[test]
fn impure_lines_are_found_out() {
    assert_eq!(uses("use std::time::{Duration, Instant};"), ["Instant"]);
    assert_eq!(uses("let now = std::time::SystemTime::now();"), ["SystemTime"]);
    assert_eq!(uses("use tokio::sync::watch;"), ["tokio"]);
    assert_eq!(uses("rand::random()"), ["rand"]);
    assert_eq!(uses("use aws_sdk_kinesis::Client;"), ["aws_"]);
    assert_eq!(uses("// not an Instant, whatever tokio says"), Vec::<&str>::new());
    assert_eq!(uses("let operand = strand(brand);"), Vec::<&str>::new());
}

/// From the bottom up: a module may use its own layer and those below it.
const LAYERS: [&[&str]; 10] = [
    &["core"],
    &["clock", "counter", "descriptors", "disk", "errors", "finding", "heartbeat", "program_pages", "systemd", "tls"],
    &["handoff", "uplink"],
    &["mqtt", "ingest", "store"],
    &["keys"],
    &["pipeline", "sinks", "admin", "files", "bridge"],
    &["gateway"],
    &["config"],
    &["commands", "limits"],
    &["lib", "main"],
];

/// A module of `src` with the paths that it uses, and the names that its `use` lines import.
#[derive(Debug, Default)]
struct Module {
    paths: Vec<(usize, Vec<String>)>,
    names: BTreeMap<String, Vec<String>>,
}

/// All modules by their paths, such as `["core", "detection", "alert"]`, without tests.
#[derive(Debug, Default)]
struct Modules(BTreeMap<Vec<String>, Module>);

/// The code with comments, texts and characters blanked out, line by line.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n').is_some() {},
            'r' if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let hashes = rest.clone().take_while(|c| *c == '#').count();
                if rest.clone().nth(hashes) != Some('"') {
                    out.push(c);
                    continue;
                }
                rest.nth(hashes);
                let end = format!("\"{}", "#".repeat(hashes));
                let mut text = String::new();
                while !text.ends_with(&end) {
                    let Some(c) = rest.next() else { break };
                    text.push(c);
                }
                out.extend(text.chars().filter(|c| *c == '\n'));
            }
            '"' => {
                while let Some(c) = rest.next() {
                    match c {
                        '\\' => out.extend(rest.next().filter(|c| *c == '\n')),
                        '"' => break,
                        '\n' => out.push('\n'),
                        _ => {}
                    }
                }
            }
            '\'' => {
                let ahead: Vec<char> = rest.clone().take(2).collect();
                match ahead[..] {
                    ['\\', _] => {
                        rest.nth(1);
                        while rest.next().is_some_and(|c| c != '\'') {}
                    }
                    [_, '\''] => {
                        rest.nth(1);
                    }
                    _ => out.push(c),
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// The identifiers, `::`, and other characters of the code, with their line numbers.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            if c.is_whitespace() {
                continue;
            }
            let mut token = String::from(c);
            if c == ':' {
                token.extend(chars.next_if_eq(&':'));
            } else if c.is_alphanumeric() || c == '_' {
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    token.push(c);
                }
            }
            tokens.push((number, token));
        }
    }
    tokens
}

/// The position after the bracket that closes the one at `open`.
fn behind_bracket(tokens: &[(usize, String)], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, (_, token)) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Removes what follows `#[cfg(test)]`; the second part holds the names of test modules in files of their own.
fn without_tests(tokens: &[(usize, String)]) -> (Vec<(usize, String)>, Vec<String>) {
    let (mut kept, mut test_files) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let next: String = tokens[at..].iter().take(7).map(|(_, token)| token.as_str()).collect();
        if next != "#[cfg(test)]" {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += 7;
        while tokens.get(at).is_some_and(|(_, token)| token == "#") {
            at = behind_bracket(tokens, at + 1);
        }
        let end = at + tokens[at..].iter().take_while(|(_, token)| token != ";" && token != "{").count();
        if tokens.get(end).is_some_and(|(_, token)| token == "{") {
            at = behind_bracket(tokens, end);
            continue;
        }
        if let Some(module) = tokens[at..end].iter().position(|(_, token)| token == "mod") {
            test_files.push(tokens[at + module + 1].1.clone());
        }
        at = end + 1;
    }
    (kept, test_files)
}

/// The tree of a `use` line as (name, path) pairs; afterwards `at` is behind it. A glob has the name `*`.
fn use_tree(tokens: &[(usize, String)], at: &mut usize, before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let mut path = before.to_vec();
    while let Some((_, token)) = tokens.get(*at) {
        *at += 1;
        match token.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(*at).is_some_and(|(_, token)| token != "}") {
                    use_tree(tokens, at, &path, found);
                    if tokens.get(*at).is_some_and(|(_, token)| token == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "as" => {
                found.push((tokens[*at].1.clone(), path));
                *at += 1;
                return;
            }
            "*" => {
                found.push(("*".to_string(), path));
                return;
            }
            "self" if !path.is_empty() => {}
            "," | "}" | ";" => {
                *at -= 1;
                break;
            }
            name => path.push(name.to_string()),
        }
    }
    found.push((path.last().cloned().unwrap_or_default(), path));
}

impl Module {
    fn read(text: &str) -> (Self, Vec<String>) {
        let (tokens, test_files) = without_tests(&tokens(&blanked(text)));
        let mut module = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            let (line, token) = &tokens[at];
            let starts = |token: &str| ["crate", "super", "self"].contains(&token);
            let next_is = |at: usize, expected: &str| tokens.get(at).is_some_and(|(_, token)| token == expected);
            if token == "use" && !next_is(at + 1, "<") {
                at += 1;
                let mut found = Vec::new();
                use_tree(&tokens, &mut at, &[], &mut found);
                for (name, path) in found {
                    module.paths.push((*line, path.clone()));
                    module.names.insert(name, path);
                }
            } else if next_is(at + 1, "::") && (at == 0 || tokens[at - 1].1 != "::") && token != ">" {
                let mut path = vec![token.clone()];
                let must_be_ours = starts(token);
                while next_is(at + 1, "::") && tokens.get(at + 2).is_some_and(|(_, token)| is_name(token)) {
                    path.push(tokens[at + 2].1.clone());
                    at += 2;
                }
                if must_be_ours || path.len() > 1 {
                    module.paths.push((*line, path));
                }
            }
            at += 1;
        }
        (module, test_files)
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

impl Modules {
    /// Reads the files, given by their paths below `src`.
    fn read(files: &[(String, String)]) -> Self {
        let (mut modules, mut tests) = (Self::default(), Vec::new());
        for (file, text) in files {
            let path = file.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
            let path: Vec<String> = path.split('/').map(str::to_string).collect();
            let (module, test_files) = Module::read(text);
            // What the root declares is beside it.
            let parent = if path == ["lib"] { &[] } else { &path[..] };
            tests.extend(test_files.into_iter().map(|name| [parent, &[name]].concat()));
            modules.0.insert(path, module);
        }
        modules.0.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        modules
    }

    /// The module that contains what `module` refers to by `path`; re-exports are followed.
    fn resolved(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let mut at = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            // The core is a crate of its own, in the folder of its name.
            "crate" => {
                at.truncate(usize::from(at[0] == "core"));
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            // In a `use` line or in the code: a module below, or a name imported by a `use` line; anything else is a crate or a type.
            first => {
                let below = [&at[..], &[first.to_string()]].concat();
                let named = self.0.get(&at).is_some_and(|module| module.names.contains_key(first));
                if !self.0.contains_key(&below) && !named {
                    return None;
                }
            }
        }
        while let Some(segment) = rest.first() {
            let below = [&at[..], std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&below) {
                at = below;
                rest = &rest[1..];
                continue;
            }
            let passed_on = self.0.get(&at).and_then(|module| module.names.get(segment));
            if let Some(further) = passed_on.filter(|further| depth < 8 && further[..] != *path) {
                return self.resolved(&at, &[&further[..], &rest[1..]].concat(), depth + 1);
            }
            break;
        }
        Some(at)
    }

    /// Which module uses which, and where.
    fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (from, module) in &self.0 {
            for (line, path) in &module.paths {
                let to = self.resolved(from, path, 0).filter(|to| !to.is_empty() && to != from);
                let place = || format!("src/{} line {line}: {}", from.join("/"), path.join("::"));
                arrows.extend(to.map(|to| Arrow { from: from.clone(), to, place: place() }));
            }
        }
        arrows
    }
}

#[derive(Debug, Clone)]
struct Arrow {
    from: Vec<String>,
    to: Vec<String>,
    place: String,
}

/// Uses of a higher layer by a lower one.
fn backward(modules: &Modules) -> Vec<String> {
    let layer = |path: &[String]| {
        let layer = LAYERS.iter().position(|layer| layer.contains(&path[0].as_str()));
        layer.unwrap_or_else(|| panic!("{} has no layer", path[0]))
    };
    let is_backward = |arrow: &Arrow| layer(&arrow.to) > layer(&arrow.from);
    modules.arrows().into_iter().filter(is_backward).map(|arrow| arrow.place).collect()
}

/// Cycles between sibling modules. What the modules below them use counts as theirs, so a module and those below it are one unit and may
/// use each other.
fn circles(modules: &Modules) -> Vec<String> {
    // (parent, child, other child) -> place
    let mut uses: BTreeMap<Vec<String>, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for arrow in modules.arrows() {
        let common = arrow.from.iter().zip(&arrow.to).take_while(|(from, to)| from == to).count();
        if let (Some(from), Some(to)) = (arrow.from.get(common), arrow.to.get(common)) {
            let siblings = uses.entry(arrow.from[..common].to_vec()).or_default();
            siblings.entry(from.clone()).or_default().entry(to.clone()).or_insert(arrow.place);
        }
    }
    let mut found = Vec::new();
    for siblings in uses.values() {
        let reached = |start: &str| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![start.to_string()]);
            while let Some(name) = open.pop() {
                let further = siblings.get(&name).into_iter().flat_map(BTreeMap::keys);
                open.extend(further.filter(|next| seen.insert((*next).clone())).cloned());
            }
            seen
        };
        for (from, targets) in siblings {
            let closing = targets.iter().filter(|(to, _)| reached(to).contains(from));
            found.extend(closing.map(|(_, place)| place.clone()));
        }
    }
    found
}

fn modules_of_src() -> Modules {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let name = |file: &Path| file.strip_prefix(&src).unwrap().to_str().unwrap().to_string();
    let files: Vec<_> = files.iter().map(|file| (name(file), std::fs::read_to_string(file).unwrap())).collect();
    let modules = Modules::read(&files);
    assert!(modules.arrows().len() > 500, "too few paths for a source of this size");
    modules
}

#[test]
fn dependencies_point_one_way() {
    let backward = backward(&modules_of_src());
    assert!(backward.is_empty(), "against the order of the layers:\n{}", backward.join("\n"));
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let circles = circles(&modules_of_src());
    assert!(circles.is_empty(), "part of a circle:\n{}", circles.join("\n"));
}

fn modules_of(files: &[(&str, &str)]) -> Modules {
    Modules::read(&files.iter().map(|(file, text)| ((*file).to_string(), (*text).to_string())).collect::<Vec<_>>())
}

#[test]
fn backward_lines_are_found_out() {
    let with = |line: &str| {
        backward(&modules_of(&[
            ("store/mod.rs", line),
            ("core/lib.rs", "pub struct Low;"),
            ("pipeline/mod.rs", "mod operation;"),
            ("pipeline/operation.rs", "pub struct Operation;"),
        ]))
    };
    assert_eq!(with("use crate::core::Low;").len(), 0);
    assert_eq!(with("use crate::{core::Low, pipeline::operation::{self, Operation}};").len(), 2);
    assert_eq!(with("fn f(_: &super::pipeline::operation::Operation) {}").len(), 1);
    assert_eq!(with("use crate::pipeline as above; fn f(_: above::operation::Operation) {}").len(), 2);
    assert_eq!(with("// use crate::pipeline::X;\nconst A: &str = \"crate::pipeline::X\";").len(), 0);
    assert_eq!(with("const A: &str = r#\"{\"use crate::pipeline::X;\"#;\nuse crate::pipeline::X;").len(), 1);
    assert_eq!(with("#[cfg(test)]\nmod tests { use crate::pipeline::X; }").len(), 0);
    assert_eq!(with("#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::pipeline::X;").len(), 1);
}

#[test]
fn circles_are_found_out() {
    let with = |alert: &str, monitor: &str, below: &str| {
        circles(&modules_of(&[
            ("core/alert.rs", alert),
            ("core/monitor.rs", monitor),
            ("core/monitor/table.rs", below),
            ("core/lib.rs", "pub use monitor::Monitor;"),
        ]))
    };
    assert_eq!(with("use super::monitor::Monitor;", "", "use super::Monitor;").len(), 0);
    assert_eq!(with("use super::monitor::Monitor;", "use crate::alert::Alert;", "").len(), 2);
    assert_eq!(with("use super::monitor::Monitor;", "", "use crate::{alert::Alert};").len(), 2);
    assert_eq!(with("use super::Monitor;", "use super::alert;", "").len(), 2, "a name that is passed on");
    let three =
        [("core/a.rs", "use super::b::B;"), ("core/b.rs", "use super::c::C;"), ("core/c.rs", "use super::a::A;")];
    assert_eq!(circles(&modules_of(&three)).len(), 3);
}
