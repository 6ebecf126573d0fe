//! Decimals of 34 digits: the numbers of the language. `0.1 + 0.2` is `0.3`.
//!
//! A number is `coefficient * 10^exponent`, kept in one form only, so that equal numbers are equal field by field:
//! - a whole number of up to 34 digits has the exponent 0; only these are *Int*, all others are *Decimal*, so `10.0` is the Int 10
//! - a fraction has a negative exponent, and a coefficient that does not end with 0
//! - a larger number has a positive exponent, and a coefficient of 34 digits.
//!
//! What has more than 34 digits is rounded half to even. What is not 0 is between 1E-999 and 9.999..E999 in size: beyond that there is no
//! result, below it the result is 0. There is no negative zero, and nothing that is not a number.

mod arithmetic;
mod wide;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

/// Digits that a number has at most.
pub const DIGITS_MAX: u32 = 34;
/// Largest exponent of a number's first digit; its negative is the smallest.
pub const EXPONENT_MAX: i32 = 999;
/// Digits of a text that are looked at; whether one behind them is not 0 is all that matters of the rest.
const PARSED_DIGITS_MAX: u32 = 37;
/// Smaller numbers than this are printed with an exponent.
const PLAIN_EXPONENT_MIN: i32 = -6;
/// Integers up to here, and powers of ten up to 22, are exact as doubles.
const DOUBLE_EXACT_MAX: u128 = 1 << 53;

const POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// 10 to this power, up to 38.
fn power_of_ten(exponent: u32) -> Option<u128> {
    POWERS.get(exponent as usize).copied()
}

/// How many digits it has; 0 has none.
fn digits(magnitude: u128) -> u32 {
    let narrow = u64::try_from(magnitude).map(u64::checked_ilog10);
    narrow.unwrap_or_else(|_| magnitude.checked_ilog10()).map_or(0, |log| log + 1)
}

/// How a fraction becomes a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
    /// Towards zero.
    Cut,
    /// To the nearest, from the middle away from zero.
    Nearest,
}

/// A decimal number of up to 34 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    coefficient: i128,
    exponent: i16,
}

impl Number {
    /// 0.
    pub const ZERO: Number = Number { coefficient: 0, exponent: 0 };

    /// The number from its parts, in its one form and rounded; `is_inexact` if there were digits behind these that are not all 0, which
    /// needs a magnitude of more than 34 digits. `None` if it is too large.
    fn rounded(is_negative: bool, magnitude: u128, exponent: i32, is_inexact: bool) -> Option<Number> {
        if exponent == 0 && magnitude < POWERS[34] {
            return Some(Number::from_parts(is_negative, magnitude, 0));
        }
        let count = digits(magnitude);
        debug_assert!(!is_inexact || count > DIGITS_MAX, "what follows the last digit decides how it is rounded");
        let (mut magnitude, mut exponent) = (magnitude, exponent);
        if let Some(unit) = count.checked_sub(DIGITS_MAX).filter(|surplus| *surplus > 0).and_then(power_of_ten) {
            let (kept, rest) = (magnitude / unit, magnitude % unit);
            let is_up = match rest.cmp(&(unit / 2)) {
                Ordering::Less => false,
                Ordering::Equal => is_inexact || kept % 2 == 1,
                Ordering::Greater => true,
            };
            magnitude = kept + u128::from(is_up);
            exponent += (count - DIGITS_MAX) as i32;
            if magnitude == POWERS[34] {
                (magnitude, exponent) = (POWERS[33], exponent + 1);
            }
        }
        let first_digit_exponent = exponent + digits(magnitude) as i32 - 1;
        match magnitude {
            0 => return Some(Number::ZERO),
            _ if first_digit_exponent < -EXPONENT_MAX => return Some(Number::ZERO),
            _ if first_digit_exponent > EXPONENT_MAX => return None,
            _ => {}
        }
        let (magnitude, exponent) = match exponent {
            ..0 => without_zeros(magnitude, exponent),
            _ => {
                let room = DIGITS_MAX.saturating_sub(digits(magnitude)).min(exponent as u32);
                (magnitude * power_of_ten(room).unwrap_or(1), exponent - room as i32)
            }
        };
        Some(Number::from_parts(is_negative, magnitude, exponent as i16))
    }

    fn from_parts(is_negative: bool, magnitude: u128, exponent: i16) -> Number {
        let coefficient = magnitude as i128;
        Number { coefficient: if is_negative { -coefficient } else { coefficient }, exponent }
    }

    fn magnitude(self) -> u128 {
        self.coefficient.unsigned_abs()
    }

    fn first_digit_exponent(self) -> i32 {
        i32::from(self.exponent) + digits(self.magnitude()) as i32 - 1
    }

    /// The number from an integer of any size, rounded to 34 digits.
    pub fn from_int(int: i128) -> Option<Number> {
        Number::rounded(int < 0, int.unsigned_abs(), 0, false)
    }

    /// Whether it is an Int: whole, and of at most 34 digits.
    pub fn is_int(self) -> bool {
        self.exponent == 0
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.coefficient == 0
    }

    /// 1, 0 or -1.
    pub fn sign(self) -> Number {
        Number { coefficient: self.coefficient.signum(), exponent: 0 }
    }

    /// Without its sign.
    pub fn abs(self) -> Number {
        Number { coefficient: self.coefficient.abs(), ..self }
    }

    /// The integer, if it is an Int.
    pub fn as_int(self) -> Option<i128> {
        self.is_int().then_some(self.coefficient)
    }

    /// The nearest number that 64 bits hold; a fraction is rounded as said.
    pub fn clamped(self, rounding: Rounding) -> i64 {
        let whole = self.to_whole(rounding);
        let is_negative = whole.coefficient < 0;
        let narrow = whole.as_int().and_then(|int| i64::try_from(int).ok());
        narrow.unwrap_or(if is_negative { i64::MIN } else { i64::MAX })
    }

    /// The whole number next to it.
    pub fn to_whole(self, rounding: Rounding) -> Number {
        let Some(places) = u32::try_from(-i32::from(self.exponent)).ok().filter(|places| *places > 0) else {
            return self;
        };
        // With more places than that there are only zeros before the point, and the first digit behind it is less than 5.
        let unit = power_of_ten(places).unwrap_or(u128::MAX);
        let (whole, rest) = (self.magnitude() / unit, self.magnitude() % unit);
        let is_negative = self.coefficient < 0;
        let is_away = match rounding {
            Rounding::Cut => false,
            Rounding::Floor => is_negative && rest > 0,
            Rounding::Ceil => !is_negative && rest > 0,
            Rounding::Nearest => rest >= unit - unit / 2,
        };
        Number::from_parts(is_negative, whole + u128::from(is_away), 0)
    }

    /// With no more than so many places behind the point, the others cut off.
    pub fn cut_to_places(self, places: u32) -> Number {
        let surplus = u32::try_from(-i32::from(self.exponent)).unwrap_or(0).saturating_sub(places);
        if surplus == 0 {
            return self;
        }
        let kept = power_of_ten(surplus).map_or(0, |unit| self.magnitude() / unit);
        Number::rounded(self.coefficient < 0, kept, -(places as i32), false).unwrap_or(Number::ZERO)
    }

    /// A text that is a number as the reference has it, `-?\d+(\.\d+)?([eE]-?\d+)?`, and nothing else: no `+5`, `5.` or blank.
    pub fn from_text(text: &str) -> Option<Number> {
        Number::parse(text.as_bytes(), false)
    }

    /// A number as it stands in JSON, where an exponent may have a plus sign.
    pub fn from_json(text: &str) -> Option<Number> {
        Number::parse(text.as_bytes(), true)
    }

    fn parse(text: &[u8], may_have_plus: bool) -> Option<Number> {
        let (is_negative, unsigned) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let mut parsed = Parsed::default();
        let rest = parsed.push_digits(unsigned)?;
        let (rest, places) = match rest.split_first() {
            Some((b'.', fraction)) => {
                let rest = parsed.push_digits(fraction)?;
                (rest, fraction.len() - rest.len())
            }
            _ => (rest, 0),
        };
        let stated = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', exponent)) => parse_exponent(exponent, may_have_plus)?,
            Some(_) => return None,
        };
        let places = i32::try_from(places).unwrap_or(i32::MAX);
        let exponent = stated.saturating_sub(places).saturating_add(parsed.dropped);
        if parsed.magnitude == 0 {
            return Some(Number::ZERO);
        }
        Number::rounded(is_negative, parsed.magnitude, exponent, parsed.is_inexact)
    }

    /// The shortest decimal that stands for the double. `None` if that is infinite or no number.
    pub fn from_double(double: f64) -> Option<Number> {
        let whole = double as i64;
        if whole as f64 == double && whole.unsigned_abs() < 1 << 53 {
            return Some(Number::from(whole));
        }
        let text = double.is_finite().then(|| ryu::Buffer::new().format_finite(double).to_owned())?;
        Number::from_json(&text)
    }

    /// The double that is nearest; infinite if no double is that large.
    pub fn to_double(self) -> f64 {
        const EXACT: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
            1e19, 1e20, 1e21, 1e22,
        ];
        let power = EXACT.get(usize::from(self.exponent.unsigned_abs()));
        match power.filter(|_| self.magnitude() <= DOUBLE_EXACT_MAX) {
            Some(power) if self.exponent < 0 => self.coefficient as f64 / power,
            Some(power) => self.coefficient as f64 * power,
            None => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// Appends it as it is printed, which JSON takes for a number.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.exponent == 0 {
            out.extend_from_slice(itoa::Buffer::new().format(self.coefficient).as_bytes());
            return;
        }
        if self.coefficient < 0 {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let all = buffer.format(self.magnitude()).as_bytes();
        let first = self.first_digit_exponent();
        match usize::try_from(first) {
            Ok(whole) if self.exponent < 0 => {
                let (whole, fraction) = all.split_at((whole + 1).min(all.len()));
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            Err(_) if first >= PLAIN_EXPONENT_MIN => {
                out.extend_from_slice(b"0.");
                out.extend((first + 1..0).map(|_| b'0'));
                out.extend_from_slice(all);
            }
            _ => {
                let significant = all.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
                let (lead, rest) = all[..significant].split_at(1);
                out.extend_from_slice(lead);
                if !rest.is_empty() {
                    out.push(b'.');
                    out.extend_from_slice(rest);
                }
                out.push(b'E');
                out.extend_from_slice(itoa::Buffer::new().format(first).as_bytes());
            }
        }
    }
}

/// Digits of a text, as far as they matter.
#[derive(Default)]
struct Parsed {
    magnitude: u128,
    count: u32,
    /// Digits that were left out; they count for the exponent.
    dropped: i32,
    is_inexact: bool,
}

impl Parsed {
    /// Takes the digits at the beginning, of which there must be one. Returns what follows them.
    fn push_digits<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = text.split_at(len);
        for byte in digits {
            let digit = u128::from(byte - b'0');
            if self.count < PARSED_DIGITS_MAX {
                self.magnitude = self.magnitude * 10 + digit;
                self.count += u32::from(self.magnitude > 0);
            } else {
                self.dropped = self.dropped.saturating_add(1);
                self.is_inexact |= digit > 0;
            }
        }
        (len > 0).then_some(rest)
    }
}

/// An exponent of any length; beyond all numbers it is only large.
fn parse_exponent(text: &[u8], may_have_plus: bool) -> Option<i32> {
    const LARGE: i32 = 1 << 28;
    let (is_negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) if may_have_plus => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0_i32, |size, digit| (size * 10 + i32::from(digit - b'0')).min(LARGE / 16));
    Some(if is_negative { -size } else { size })
}

/// Takes zeros off the end, as long as the exponent is below 0.
fn without_zeros(magnitude: u128, exponent: i32) -> (u128, i32) {
    if let Ok(mut narrow) = u64::try_from(magnitude) {
        let mut exponent = exponent;
        while exponent < 0 && narrow % 10 == 0 {
            narrow /= 10;
            exponent += 1;
        }
        return (narrow.into(), exponent);
    }
    let (mut magnitude, mut exponent) = (magnitude, exponent);
    for count in [16_u32, 8, 4, 2, 1] {
        let unit = POWERS[count as usize];
        while exponent <= -(count as i32) && magnitude % unit == 0 {
            magnitude /= unit;
            exponent += count as i32;
        }
    }
    (magnitude, exponent)
}

impl From<i64> for Number {
    fn from(int: i64) -> Number {
        Number { coefficient: int.into(), exponent: 0 }
    }
}

impl From<usize> for Number {
    fn from(int: usize) -> Number {
        Number { coefficient: int as i128, exponent: 0 }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        if self.exponent == other.exponent || self.coefficient.signum() != other.coefficient.signum() {
            return self.coefficient.cmp(&other.coefficient);
        }
        // Both have the same sign, and neither is 0.
        let by_size = self.first_digit_exponent().cmp(&other.first_digit_exponent()).then_with(|| {
            let scaled = |number: &Number, by: i32| {
                let power = u32::try_from(by).ok().and_then(power_of_ten).unwrap_or(1);
                number.magnitude().saturating_mul(power)
            };
            let apart = i32::from(self.exponent) - i32::from(other.exponent);
            scaled(self, apart).cmp(&scaled(other, -apart))
        });
        if self.coefficient < 0 { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As it is printed, which both JSON and [`Number::from_text`] read.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(48);
        self.write(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
