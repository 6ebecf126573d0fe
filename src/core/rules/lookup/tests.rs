use proptest::prelude::*;

use super::*;

fn shown(value: &Value<'_>) -> String {
    let mut out = Vec::new();
    value.write_json(&mut out, usize::MAX).expect("a small value");
    String::from_utf8(out).expect("text")
}

fn row(table: &Table, key: &str) -> String {
    shown(&table.get(key))
}

fn csv(text: &str) -> Table {
    Table::from_csv(text, "id").expect("a table")
}

fn csv_refusal(text: &str) -> String {
    Table::from_csv(text, "id").map(|table| table.len()).expect_err("refused").to_string()
}

fn json_refusal(text: &str, key_column: Option<&str>) -> String {
    Table::from_json(text, key_column).map(|table| table.len()).expect_err("refused").to_string()
}

#[test]
fn rows_of_csv_are_found_by_their_key() {
    let table = csv("id,plate,limit\r\n7, B-X 1 ,90\r\n007,\"a \"\"b\"\", c\",\n\n\"x,y\",\" two\r\nlines \",true\r");
    assert_eq!(table.len(), 3);
    assert_eq!(row(&table, "7"), r#"{"id":7,"plate":"B-X 1","limit":90}"#);
    assert_eq!(row(&table, "007"), r#"{"id":"007","plate":"a \"b\", c","limit":null}"#);
    assert_eq!(row(&table, "x,y"), r#"{"id":"x,y","plate":" two\r\nlines ","limit":true}"#);
    assert!(table.get("8").is_undefined() && table.get("").is_undefined() && table.get("id").is_undefined());
    assert_eq!(shown(&table.get("7").member("limit")), "90");
    assert_eq!(csv("\u{feff}id\n").len(), 0);
}

#[test]
fn cells_become_what_they_certainly_are() {
    let cells = "id,a,b,c,d,e,f,g\n1,-0.50,1.5e-3,1e-3,2.0E6,1234567890123456789012345678901234,false,0\n";
    let expected =
        r#"{"id":1,"a":-0.5,"b":0.0015,"c":0.001,"d":2000000,"e":1234567890123456789012345678901234,"f":false,"g":0}"#;
    assert_eq!(row(&csv(cells), "1"), expected);
    let texts = [
        "007",
        "+49",
        "1.",
        ".5",
        "-",
        "12E4",
        "1e5",
        "1e",
        "1e+-5",
        "1.5e",
        "True",
        "null",
        "NaN",
        "0x1f",
        "--1",
        "1 000",
        "1.2.3",
        "00",
        "-01",
        "12345678901234567890123456789012345",
        "1.0e9999",
        "١",
        "1e++1",
    ];
    for text in texts {
        let table = csv(&format!("id,v\nk,{text}\n"));
        assert_eq!(shown(&table.get("k").member("v")), format!("\"{text}\""));
    }
    let table = csv("id,v\nk,\"12\"\nl,\"\"\n");
    assert_eq!((shown(&table.get("k").member("v")), shown(&table.get("l").member("v"))), ("12".into(), "null".into()));
}

#[test]
fn csv_that_is_not_certain_is_refused_with_its_line() {
    assert_eq!(csv_refusal(""), "the first line, which names the columns, is missing");
    assert_eq!(csv_refusal("id,,c\n"), "column 2 has no name");
    assert_eq!(csv_refusal("id,a,a\n"), "two columns are called a");
    assert_eq!(csv_refusal("key,a\n"), "there is no column id; the columns are key, a");
    assert_eq!(csv_refusal("id;a\n1;2\n"), "there is no column id; the columns are id;a (the separator is the comma)");
    assert_eq!(csv_refusal("id,a\n1,2\n3\n"), "line 3: 1 cells where the first line names 2 columns");
    assert_eq!(csv_refusal("id,a\n1,2,3\n"), "line 2: 3 cells where the first line names 2 columns");
    assert_eq!(csv_refusal("id,a\n1,\"x\ny\r\nz\"\n\n,4\n"), "line 6: the row has no id, which is its key");
    assert_eq!(csv_refusal("id,a\n5,x\n1,x\n5,y\n1,z\n"), "line 4: the key 5 is that of line 2, too");
    assert_eq!(csv_refusal("id,a\n1,\"x\n"), "line 2: a quote is not closed");
    assert_eq!(csv_refusal("id,a\n1,x\"y\n"), "line 2: a quote is inside of a cell that does not begin with one");
    assert_eq!(csv_refusal("id,a\n1,\"x\"y\n"), "line 2: something follows a closing quote");
}

#[test]
fn tables_are_bounded() {
    let rows = |count: usize| (0..count).fold("id\n".to_owned(), |text, at| text + &format!("k{at}\n"));
    assert_eq!(csv(&rows(ROWS_MAX)).len(), ROWS_MAX);
    assert_eq!(csv_refusal(&rows(ROWS_MAX + 1)), "more than 200000 rows");
    assert_eq!(csv_refusal(&"\n".repeat(TABLE_BYTES_MAX + 1)), "longer than 16777216 bytes");
    let long = "x".repeat(ROW_BYTES_MAX);
    assert_eq!(csv_refusal(&format!("id,a\n1,{long}\n")), "line 2: the row has more than 65536 bytes");
    assert_eq!(
        csv_refusal(&format!("{}id\n", "a,".repeat(ROW_BYTES_MAX))),
        "line 1: the row has more than 65536 bytes"
    );
    assert_eq!(
        json_refusal(&format!("{{\"a\":1,\n\"k\":\"{long}\"}}"), None),
        "line 2: the row has more than 65536 bytes"
    );
    assert_eq!(json_refusal(&" ".repeat(TABLE_BYTES_MAX + 1), None), "longer than 16777216 bytes");
}

#[test]
fn rows_of_an_object_are_found_by_its_names() {
    let text = "\u{feff} {\"a\\u0062\": {\"v\": 1.50, \"list\": [1, {\"x\": null}]},\n \"7\" :\"plain\", \"n\": 12345678901234567890.5,\"z\":null } ";
    let table = Table::from_json(text, None).expect("a table");
    assert_eq!(row(&table, "ab"), r#"{"v":1.5,"list":[1,{"x":null}]}"#);
    assert_eq!(row(&table, "7"), "\"plain\"");
    assert_eq!(row(&table, "n"), "12345678901234567890.5");
    assert_eq!(row(&table, "z"), "null");
    assert!(table.get("a").is_undefined());
    assert_eq!(Table::from_json("{}", None).expect("a table").len(), 0);
}

#[test]
fn rows_of_a_list_are_found_by_a_member() {
    let text = "[{\"id\":\"a\",\"v\":1},\n{\"id\":7.0,\"v\":[true]}, {\"v\":2,\"id\":false}]";
    let table = Table::from_json(text, Some("id")).expect("a table");
    assert_eq!(table.len(), 3);
    assert_eq!(row(&table, "a"), r#"{"id":"a","v":1}"#);
    assert_eq!(row(&table, "7"), r#"{"id":7,"v":[true]}"#);
    assert_eq!(row(&table, "false"), r#"{"v":2,"id":false}"#);
}

#[test]
fn json_that_is_no_table_is_refused_with_its_line() {
    assert_eq!(json_refusal("7", None), "an object of rows is expected, or a list of them");
    assert_eq!(json_refusal("", Some("id")), "an object of rows is expected, or a list of them");
    assert_eq!(json_refusal("[]", None), "a list of rows needs the name of the column that is the key");
    assert!(json_refusal("{}", Some("id")).starts_with("the rows of an object are found by the names"));
    assert_eq!(json_refusal("[{\"id\":1},\n\n7]", Some("id")), "line 3: an element of the list is no object");
    assert_eq!(json_refusal("[{\"id\":1},\n{\"v\":1}]", Some("id")), "line 2: the row has no id, which is its key");
    assert_eq!(json_refusal("[{\"id\":null}]", Some("id")), "line 1: the row has no id, which is its key");
    assert_eq!(json_refusal("[{\"id\":1},\n{\"id\":\"1\"}]", Some("id")), "line 2: the key 1 is that of line 1, too");
    assert_eq!(json_refusal("{\"a\":1,\n\"a\":2}", None), "line 2: the key a is that of line 1, too");
    assert_eq!(json_refusal("{\"a\":1\n\"b\":2}", None), "line 2: , is expected");
    assert_eq!(json_refusal("{\"a\" 1}", None), "line 1: : is expected");
    assert_eq!(json_refusal("{a:1}", None), "line 1: the name of a row is expected, in quotes");
    assert_eq!(json_refusal("{\"a\":1}\n}", None), "line 2: something follows the table");
    assert!(json_refusal("{\"a\":1,\n\"b\":tru}", None).starts_with("line 2: expected ident"));
    assert!(json_refusal("[{\"id\":1},", Some("id")).starts_with("line 1: "));
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(json_refusal(&nested, None), "line 1: nested too deeply, or too many values in a row");
}

/// As any program writes it: in quotes where that is needed, or always.
fn written(cell: &str, is_quoted: bool) -> String {
    let needs_quotes = cell.contains(['"', ',', '\n', '\r', ' ', '\t']);
    if is_quoted || needs_quotes { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

proptest! {
    #[test]
    fn cells_are_read_as_they_were_written(
        cells in prop::collection::vec(("[a\" ,\n\r\tü]{1,6}", any::<bool>()), 1..20),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let mut text = format!("v,\"id\"{line_end}");
        for (at, (cell, is_quoted)) in cells.iter().enumerate() {
            text += &format!("{},k{at}{line_end}", written(cell, *is_quoted));
        }
        let table = csv(&text);
        prop_assert_eq!(table.len(), cells.len());
        for (at, (cell, _)) in cells.iter().enumerate() {
            let value = table.get(&format!("k{at}")).member("v");
            prop_assert_eq!(shown(&value), shown(&Value::Text(cell.into())));
        }
    }

    #[test]
    fn objects_are_read_as_others_read_them(text in r#"\{"a":[\[\]{}:,"a0-9.e\- ]{0,12}[,}] ?"b":[0-9]\}"#) {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (Table::from_json(&text, None), theirs) {
            (Ok(table), Ok(theirs)) => {
                for (key, theirs) in theirs.as_object().expect("an object") {
                    let ours = table.get(key);
                    prop_assert_eq!(ours.is_array(), theirs.is_array(), "{}", text);
                    prop_assert_eq!(ours.is_object(), theirs.is_object(), "{}", text);
                    prop_assert_eq!(ours.count(), theirs.as_array().map_or(ours.count() * usize::from(theirs.is_object()), Vec::len), "{}", text);
                }
                prop_assert_eq!(table.len(), theirs.as_object().expect("an object").len());
            }
            (Err(TableError::SameKey { .. }), Ok(_)) => {}
            // A number may be too large for a double.
            (Ok(_), Err(error)) if error.to_string().contains("range") => {}
            (ours, theirs) => prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", text),
        }
    }

    #[test]
    fn no_text_is_too_odd(text in "[id,\"\r\n{}\\[\\]:1e. ü]{0,40}") {
        for text in [text.clone(), format!("id,v\n{text}"), format!("{{\"a\":{text}")] {
            for table in [Table::from_csv(&text, "id"), Table::from_json(&text, None), Table::from_json(&text, Some("id"))].into_iter().flatten() {
                let _ = (table.get("i"), table.get("1"));
            }
        }
    }
}
