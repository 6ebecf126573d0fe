use proptest::prelude::*;

use super::*;

fn number(text: &str) -> Number {
    Number::from_text(text).expect("a number")
}

fn printed(number: Option<Number>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

#[test]
fn texts_are_read_and_printed() {
    for (text, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("007", "7"),
        ("10.0", "10"),
        ("21.50", "21.5"),
        ("-1.2", "-1.2"),
        ("5E-12", "5E-12"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1E-7"),
        ("-0.00000012", "-1.2E-7"),
        ("1e3", "1000"),
        ("1.5e3", "1500"),
        ("9999999999999999999999999999999999", "9999999999999999999999999999999999"),
        ("99999999999999999999999999999999999", "1E35"),
        ("12345678901234567890123456789012345", "1.234567890123456789012345678901234E34"),
        ("12345678901234567890123456789012335", "1.234567890123456789012345678901234E34"),
        ("12345678901234567890123456789012345.0000000000000000001", "1.234567890123456789012345678901235E34"),
        ("1E33", "1000000000000000000000000000000000"),
        ("1E34", "1E34"),
        ("1.25E40", "1.25E40"),
        ("0E99999999999", "0"),
        ("1E-1000", "0"),
        ("1E-99999999999999", "0"),
        ("1E-999", "1E-999"),
        ("9.999E999", "9.999E999"),
    ] {
        assert_eq!(number(text).to_string(), expected, "{text}");
    }
    for text in ["", "-", "+5", "5.", ".5", " 5", "5 ", "1e", "1e+5", "1E5.5", "0x1", "1_000", "NaN", "1E1000", "١"] {
        assert_eq!(Number::from_text(text), None, "{text}");
    }
    assert_eq!(Number::from_json("1e+3"), Some(number("1000")));
}

#[test]
fn whole_numbers_are_ints() {
    assert!(number("10.0").is_int() && number("1E33").is_int() && number("-0").is_int());
    assert!(!number("10.5").is_int() && !number("1E34").is_int());
    assert!(number("0.1").plus(number("0.9")).expect("a sum").is_int());
}

#[test]
fn sums_are_exact_or_rounded_once() {
    for (a, b, expected) in [
        ("0.1", "0.2", "0.3"),
        ("1", "-1", "0"),
        ("9999999999999999999999999999999999", "1", "1E34"),
        ("9999999999999999999999999999999999", "0.5", "1E34"),
        ("9999999999999999999999999999999998", "0.5", "9999999999999999999999999999999998"),
        ("1E40", "1E-40", "1E40"),
        ("1E34", "-0.1", "1E34"),
        ("1E34", "-0.6", "9999999999999999999999999999999999"),
        ("1E40", "-1E-40", "1E40"),
        ("1E-30", "123456789.5", "123456789.5"),
        ("1E20", "0.0000000000001", "100000000000000000000.0000000000001"),
        ("-1E999", "1E-999", "-1E999"),
    ] {
        assert_eq!(printed(number(a).plus(number(b))), expected, "{a} + {b}");
        assert_eq!(printed(number(b).plus(number(a))), expected, "{b} + {a}");
    }
    assert_eq!(printed(number("9.9E999").plus(number("9.9E999"))), "-");
}

#[test]
fn products_quotients_and_remainders() {
    assert_eq!(printed(number("2.5").times(number("4"))), "10");
    let nines = number("9999999999999999999999999999999999");
    assert_eq!(printed(nines.times(nines)), "9.999999999999999999999999999999998E67");
    assert_eq!(printed(number("1E600").times(number("1E600"))), "-");
    assert_eq!(printed(number("1E-600").times(number("1E-600"))), "0");
    for (a, b, quotient) in [
        ("1", "3", "0.3333333333333333333333333333333333"),
        ("2", "3", "0.6666666666666666666666666666666667"),
        ("43", "4", "10.75"),
        ("1", "9999999999999999999999999999999999", "1.000000000000000000000000000000000E-34"),
        ("-10", "4", "-2.5"),
        ("7", "0", "-"),
    ] {
        let quotient = if quotient.ends_with("E-34") { "1E-34" } else { quotient };
        assert_eq!(printed(number(a).divided_by(number(b))), quotient, "{a} / {b}");
    }
    assert_eq!(printed(number("-7").divided_as_int(number("2"))), "-3");
    assert_eq!(printed(number("-7").divided_as_int(Number::ZERO)), "-");
    for (a, b, rest) in [
        ("7", "4", "3"),
        ("-7", "4", "-3"),
        ("21.5", "2", "1.5"),
        ("5.5", "0.2", "0.1"),
        ("1E30", "7", "1"),
        ("1E-20", "1E20", "1E-20"),
        ("1E90", "7", "-"),
        ("0", "1E-90", "0"),
        ("1E-90", "0", "-"),
        ("7", "0", "-"),
    ] {
        assert_eq!(printed(number(a).remainder(number(b))), rest, "{a} % {b}");
    }
}

#[test]
fn fractions_become_whole() {
    for (text, floor, ceil, cut, nearest) in [
        ("1.2", "1", "2", "1", "1"),
        ("-1.2", "-2", "-1", "-1", "-1"),
        ("1.5", "1", "2", "1", "2"),
        ("-1.5", "-2", "-1", "-1", "-2"),
        ("0.5", "0", "1", "0", "1"),
        ("1E-600", "0", "1", "0", "0"),
        ("-1E-600", "-1", "0", "0", "0"),
        ("7", "7", "7", "7", "7"),
    ] {
        let to = |rounding| number(text).to_whole(rounding).to_string();
        let all = [to(Rounding::Floor), to(Rounding::Ceil), to(Rounding::Cut), to(Rounding::Nearest)];
        assert_eq!(all, [floor, ceil, cut, nearest], "{text}");
    }
    assert_eq!(number("2.888").cut_to_places(2).to_string(), "2.88");
    assert_eq!(number("-2.888").cut_to_places(0).to_string(), "-2");
    assert_eq!(number("1E-600").cut_to_places(34).to_string(), "0");
    assert_eq!(number("-2.411E247").clamped(Rounding::Floor), i64::MIN);
    assert_eq!(number("2.9").clamped(Rounding::Floor), 2);
}

#[test]
fn doubles_become_numbers_and_back() {
    for (double, expected) in [(0.1, "0.1"), (32.0, "32"), (1e300, "1E300"), (5e-324, "5E-324"), (-1.5, "-1.5")] {
        assert_eq!(printed(Number::from_double(double)), expected);
    }
    assert_eq!((Number::from_double(f64::NAN), Number::from_double(f64::INFINITY)), (None, None));
    assert_eq!(number("1E999").to_double(), f64::INFINITY);
}

fn any_number() -> impl Strategy<Value = Number> {
    let text = prop_oneof![
        "-?[0-9]{1,5}(\\.[0-9]{1,4})?",
        "-?[0-9]{1,36}(\\.[0-9]{1,36})?(E-?[0-9]{1,2})?",
        "-?(9{30,34}|10{30,33}|5)(E-?[0-9]{1,3})?",
    ];
    text.prop_filter_map("too large", |text| Number::from_text(&text))
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(number in any_number()) {
        prop_assert_eq!(Number::from_text(&number.to_string()), Some(number));
        prop_assert_eq!(Number::from_json(&number.to_string()), Some(number));
    }

    #[test]
    fn sums_and_products_have_an_order_that_does_not_matter(a in any_number(), b in any_number()) {
        prop_assert_eq!(a.plus(b), b.plus(a));
        prop_assert_eq!(a.times(b), b.times(a));
        prop_assert_eq!(a.minus(b).map(Number::negated), b.minus(a));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    }

    #[test]
    fn the_sign_of_a_difference_is_the_order(a in any_number(), b in any_number()) {
        if let Some(difference) = a.minus(b) {
            prop_assert_eq!(difference.sign(), Number::from(a.cmp(&b) as i64));
        }
    }

    #[test]
    fn small_integers_are_those_of_the_machine(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
        let (x, y) = (Number::from(a), Number::from(b));
        prop_assert_eq!(x.plus(y), Some(Number::from(a + b)));
        prop_assert_eq!(x.times(y), Some(Number::from(a * b)));
        prop_assert_eq!(x.divided_as_int(y), a.checked_div(b).map(Number::from));
        prop_assert_eq!(x.remainder(y), a.checked_rem(b).map(Number::from));
    }

    #[test]
    fn a_quotient_times_its_divisor_is_the_dividend(a in any_number(), b in any_number()) {
        let back = a.divided_by(b).filter(|quotient| !quotient.is_zero()).and_then(|quotient| quotient.times(b));
        if let Some(difference) = back.and_then(|back| back.minus(a)).filter(|_| !a.is_zero()) {
            let relative = difference.abs().divided_by(a.abs());
            prop_assert!(relative.is_none_or(|relative| relative <= Number::from_text("1E-32").expect("a number")));
        }
    }

    #[test]
    fn doubles_are_kept(double in proptest::num::f64::NORMAL) {
        let number = Number::from_double(double).expect("finite");
        prop_assert_eq!(number.to_double(), double);
    }

    #[test]
    fn no_text_is_too_odd(text in "[-+0-9.eE]{0,60}") {
        let _ = (Number::from_text(&text), Number::from_json(&text));
    }
}
