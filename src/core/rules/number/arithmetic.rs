//! Sums, products, quotients and remainders. Each is what the exact result would be, rounded once.

use super::wide::Wide;
use super::{DIGITS_MAX, Number, POWERS, digits, power_of_ten};

/// Digits of two numbers side by side that 256 bits hold for certain.
const EXACT_DIGITS_MAX: u32 = 75;
/// Digits of a quotient that are calculated: enough to round it.
const QUOTIENT_DIGITS: u32 = 36;
const NARROW_MAX: u128 = u64::MAX as u128;

impl Number {
    /// The sum. `None` if it is too large for a number.
    pub fn plus(self, other: Number) -> Option<Number> {
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let apart = u32::try_from(i32::from(high.exponent) - i32::from(low.exponent)).unwrap_or(0);
        let scaled = match apart {
            0 => Some(high.coefficient),
            1..=18 if high.magnitude() <= POWERS[18] => Some(high.coefficient * POWERS[apart as usize] as i128),
            _ => None,
        };
        if let Some(scaled) = scaled {
            let sum = scaled + low.coefficient;
            return Number::rounded(sum < 0, sum.unsigned_abs(), low.exponent.into(), false);
        }
        match (high.is_zero(), low.is_zero()) {
            (true, _) => Some(low),
            (_, true) => Some(high),
            _ if digits(high.magnitude()) + apart <= EXACT_DIGITS_MAX => high.plus_exactly(low, apart),
            _ => high.plus_tiny(low.coefficient < 0),
        }
    }

    /// The sum with a number whose exponent is lower by `apart`.
    fn plus_exactly(self, low: Number, apart: u32) -> Option<Number> {
        let (first, second) = (apart.min(38), apart.saturating_sub(38));
        let factor = |count| power_of_ten(count).unwrap_or(1);
        // With more than 38 places the coefficient is short, so that its product with the second factor is too.
        let high = Wide::product(self.magnitude() * factor(second), factor(first));
        let (low_wide, is_negative) = (Wide::from(low.magnitude()), self.coefficient < 0);
        let (sum, is_negative) = match is_negative == (low.coefficient < 0) {
            true => (high.plus(low_wide), is_negative),
            false if high >= low_wide => (high.minus(low_wide), is_negative),
            false => (low_wide.minus(high), !is_negative),
        };
        Number::from_wide(is_negative, sum, low.exponent.into())
    }

    /// The sum with a number that is too small to change more than how this one is rounded.
    fn plus_tiny(self, is_negative: bool) -> Option<Number> {
        let room = 37 - digits(self.magnitude());
        let scaled = self.magnitude() * power_of_ten(room)? * 10;
        let towards_zero = is_negative != (self.coefficient < 0);
        let sum = if towards_zero { scaled - 1 } else { scaled + 1 };
        Number::rounded(self.coefficient < 0, sum, i32::from(self.exponent) - room as i32 - 1, false)
    }

    fn from_wide(is_negative: bool, wide: Wide, exponent: i32) -> Option<Number> {
        let (magnitude, dropped, is_inexact) = wide.narrowed();
        Number::rounded(is_negative, magnitude, exponent + dropped, is_inexact)
    }

    /// The number with the other sign.
    pub fn negated(self) -> Number {
        Number { coefficient: -self.coefficient, ..self }
    }

    /// The difference. `None` if it is too large for a number.
    pub fn minus(self, other: Number) -> Option<Number> {
        self.plus(other.negated())
    }

    /// The product. `None` if it is too large for a number.
    pub fn times(self, other: Number) -> Option<Number> {
        let is_negative = (self.coefficient < 0) != (other.coefficient < 0);
        let exponent = i32::from(self.exponent) + i32::from(other.exponent);
        let (a, b) = (self.magnitude(), other.magnitude());
        if a <= NARROW_MAX && b <= NARROW_MAX {
            return Number::rounded(is_negative, a * b, exponent, false);
        }
        Number::from_wide(is_negative, Wide::product(a, b), exponent)
    }

    /// The quotient, to 34 digits. `None` if the divisor is 0 or the quotient too large for a number.
    pub fn divided_by(self, divisor: Number) -> Option<Number> {
        let is_negative = (self.coefficient < 0) != (divisor.coefficient < 0);
        let mut exponent = i32::from(self.exponent) - i32::from(divisor.exponent);
        let by = divisor.magnitude();
        let mut quotient = self.magnitude().checked_div(by)?;
        let mut rest = self.magnitude().checked_rem(by)?;
        while rest > 0 && digits(quotient) < QUOTIENT_DIGITS {
            let count = step_digits(by).min(38 - digits(quotient));
            let unit = POWERS[count as usize];
            quotient = quotient * unit + rest * unit / by;
            rest = rest * unit % by;
            exponent -= count as i32;
        }
        Number::rounded(is_negative, quotient, exponent, rest > 0)
    }

    /// The quotient of two Ints as an Int, its fraction cut off. `None` if one is no Int or the divisor is 0.
    pub fn divided_as_int(self, divisor: Number) -> Option<Number> {
        let coefficient = self.as_int()?.checked_div(divisor.as_int()?)?;
        Some(Number { coefficient, exponent: 0 })
    }

    /// What is left of the number when the divisor is taken off as often as possible; it has the sign of the number. `None` if the
    /// divisor is 0, or fits in more often than a number of 34 digits can say.
    pub fn remainder(self, divisor: Number) -> Option<Number> {
        if divisor.is_zero() {
            return None;
        }
        if self.is_zero() {
            return Some(Number::ZERO);
        }
        let is_negative = self.coefficient < 0;
        let apart = i32::from(self.exponent) - i32::from(divisor.exponent);
        if apart < 0 {
            let unit = power_of_ten(apart.unsigned_abs());
            return match unit.and_then(|unit| divisor.magnitude().checked_mul(unit)) {
                Some(by) => {
                    let rest = self.magnitude().checked_rem(by)?;
                    Number::rounded(is_negative, rest, self.exponent.into(), false)
                }
                None => Some(self),
            };
        }
        let by = divisor.magnitude();
        let mut rest = self.magnitude().checked_rem(by)?;
        if self.first_digit_exponent() - divisor.first_digit_exponent() > DIGITS_MAX as i32 {
            return None;
        }
        let mut left = apart.unsigned_abs();
        while left > 0 {
            let count = step_digits(by).min(left);
            rest = rest * POWERS[count as usize] % by;
            left -= count;
        }
        Number::rounded(is_negative, rest, divisor.exponent.into(), false)
    }
}

/// How many digits a rest of the division by this may be moved at once without leaving 128 bits.
fn step_digits(divisor: u128) -> u32 {
    if divisor <= NARROW_MAX { 19 } else { 4 }
}
