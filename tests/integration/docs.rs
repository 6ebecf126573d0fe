//! What the documents say of tests is true.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rows of the tables in a document whose last column names no test, or one that does not exist.
fn rows_without_a_test(document: &str, root: &Path) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| held by |"));
    let is_held = |row: &str| {
        let held_by = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        held_by.split("`, `").all(|name| {
            let Some((file, function)) = name.trim_matches('`').split_once(": ") else { return false };
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            source.contains(&format!("fn {function}()")) || source.contains(&format!("def {function}("))
        })
    };
    rows.filter(|row| !is_held(row)).map(str::to_owned).collect()
}

#[test]
fn each_row_of_what_happens_when_names_its_test() {
    let document = std::fs::read_to_string(root().join("docs/FAILURES.md")).unwrap();
    assert!(document.matches("\n| ").count() > 25, "the tables are found");
    assert_eq!(rows_without_a_test(&document, &root()), Vec::<String>::new());
    let row = document.lines().find(|line| line.starts_with("| A sector or")).unwrap();
    for broken in [row.replace("main.rs: what", "main.rs: that"), row.replace("`tests/damage/main.rs: ", "`")] {
        assert_eq!(rows_without_a_test(&broken, &root()).len(), 1, "the control: {broken}");
    }
}
