//! The house rules that no compiler checks: layers, the list of files with `unsafe`, module docs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::repository_file;

/// The layer table of ARCHITECTURE.md: a module may import modules of a lower row only.
/// `config` holds plain numbers and may be seen by rows 4 and above.
const LAYERS: [(&str, u8); 10] = [
    ("cli", 7),
    ("server", 6),
    ("batch", 5),
    ("engine", 4),
    ("integrity", 4),
    ("tokenizer", 3),
    ("model", 3),
    ("gguf", 2),
    ("kernels", 1),
    ("threads", 0),
];

/// The only files that may hold `unsafe`, each with its reason at its head.
const UNSAFE_FILES: [&str; 15] = [
    "gguf/mmap.rs",
    "kernels/memory.rs",
    "kernels/roof.rs",
    "kernels/simd/mod.rs",
    "kernels/simd/avx2.rs",
    "kernels/simd/avx512.rs",
    "kernels/simd/neon.rs",
    "kernels/tile/avx2.rs",
    "kernels/tile/avx512.rs",
    "kernels/tile/avx_vnni.rs",
    "kernels/tile/half_panel.rs",
    "kernels/tile/neon.rs",
    "kernels/tile/neon_dot.rs",
    "kernels/tile/quarter_panel.rs",
    "threads.rs",
];

/// The same of the other crates. What Windows is asked with `unsafe` is all in one crate.
const OTHER_UNSAFE_FILES: [&str; 10] = [
    "embed-windows/src/access.rs",
    "embed-windows/src/access/tests.rs",
    "embed-windows/src/descriptor.rs",
    "embed-windows/src/detach.rs",
    "embed-windows/src/detach/tests.rs",
    "embed-windows/src/memory.rs",
    "embed-windows/src/pipe.rs",
    "embed-windows/src/process.rs",
    "embed-windows/src/sid.rs",
    "embed-windows/src/user.rs",
];

/// The crates that are not the worker.
const OTHER_CRATES: [&str; 5] =
    ["embed-client", "embed-log", "embed-protocol", "embed-windows", "napi-client"];

/// Name and text of every source file of the worker.
fn source_files() -> Vec<(String, String)> {
    files_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// Name and text of every source file under `root`.
fn files_of(root: &Path) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("the source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(root, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).expect("under the root").to_string_lossy();
            (name.replace('\\', "/"), fs::read_to_string(&path).expect("readable"))
        })
        .collect()
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, row)| *row)
}

/// Source without comments and without the tests at its end.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(|line| line.split("//").next().unwrap_or(line))
}

#[test]
fn the_walk_finds_the_sources() {
    assert!(source_files().len() > 20);
    for name in OTHER_CRATES {
        assert!(!files_of(&repository_file(name).join("src")).is_empty(), "{name}");
    }
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for (file, text) in source_files() {
        let Some(row) = layer(module_of(&file)) else { continue };
        for line in code_lines(&text) {
            for import in line.split("crate::").skip(1) {
                let target = import.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                let target = target.unwrap_or_default();
                // A file's dtype sizes are the one thing that gguf knows of kernels.
                let allowed = target == module_of(&file)
                    || (target == "config" && row >= 4)
                    || layer(target).is_some_and(|below| below < row);
                if !allowed && (layer(target).is_some() || target == "config") {
                    wrong.push(format!("{file}: imports `{target}`, which is not below it"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let has = |text: &str| {
        code_lines(text).any(|line| line.contains("unsafe ") && !line.contains("unsafe_"))
    };
    let mut wrong = Vec::new();
    for (file, text) in source_files() {
        if has(&text) && !UNSAFE_FILES.contains(&file.as_str()) {
            wrong.push(file);
        }
    }
    for name in OTHER_CRATES {
        for (file, text) in files_of(&repository_file(name).join("src")) {
            let file = format!("{name}/src/{file}");
            if has(&text) && !OTHER_UNSAFE_FILES.contains(&file.as_str()) {
                wrong.push(file);
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside the list: {}", wrong.join(", "));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<_> = source_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "no module comment: {}", silent.join(", "));
}
