//! Unsigned integers of 256 bits: what a sum or a product of two numbers needs before it is rounded.

use std::cmp::Ordering;

/// An integer, its lowest 64 bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide([u64; 4]);

impl Wide {
    pub(super) fn product(a: u128, b: u128) -> Wide {
        Wide::from(a).times(low(b)).plus(Wide::from(a).times(high(b)).shifted())
    }

    /// Times 2^64.
    fn shifted(self) -> Wide {
        let [a, b, c, _] = self.0;
        Wide([0, a, b, c])
    }

    /// What does not fit in 256 bits is lost; the callers' numbers do.
    fn times(self, factor: u64) -> Wide {
        let mut carry = 0_u128;
        Wide(self.0.map(|limb| {
            let product = u128::from(limb) * u128::from(factor) + carry;
            carry = product >> 64;
            low(product)
        }))
    }

    pub(super) fn plus(self, other: Wide) -> Wide {
        let mut carry = false;
        let mut sum = self;
        for (limb, added) in sum.0.iter_mut().zip(other.0) {
            let (first, a) = limb.overflowing_add(added);
            let (second, b) = first.overflowing_add(carry.into());
            (*limb, carry) = (second, a || b);
        }
        sum
    }

    /// The difference of a number and one that is not larger.
    pub(super) fn minus(self, other: Wide) -> Wide {
        let mut borrow = false;
        let mut difference = self;
        for (limb, taken) in difference.0.iter_mut().zip(other.0) {
            let (first, a) = limb.overflowing_sub(taken);
            let (second, b) = first.overflowing_sub(borrow.into());
            (*limb, borrow) = (second, a || b);
        }
        difference
    }

    /// Quotient and remainder; `None` for the divisor 0.
    fn divided(self, divisor: u64) -> Option<(Wide, u64)> {
        let mut rest = 0_u64;
        let mut quotient = self;
        for limb in quotient.0.iter_mut().rev() {
            let part = (u128::from(rest) << 64) | u128::from(*limb);
            *limb = low(part.checked_div(divisor.into())?);
            rest = low(part.checked_rem(divisor.into())?);
        }
        Some((quotient, rest))
    }

    /// Its first 37 digits or more as 128 bits, how many digits follow them, and whether any of these is not 0.
    pub(super) fn narrowed(self) -> (u128, i32, bool) {
        let (mut wide, mut dropped, mut is_inexact) = (self, 0, false);
        loop {
            let [a, b, c, d] = wide.0;
            let bits_above = 128 - ((u128::from(d) << 64) | u128::from(c)).leading_zeros();
            if bits_above == 0 {
                return ((u128::from(b) << 64) | u128::from(a), dropped, is_inexact);
            }
            // A decimal digit is 3.32 bits, so 77 digits are a little less than 256 bits: no more is dropped than is too much.
            let count = (bits_above * 77 / 256 + 1).min(19);
            let (quotient, rest) = wide.divided(10_u64.pow(count)).expect("a power of ten is not 0");
            is_inexact |= rest > 0;
            dropped += count as i32;
            wide = quotient;
        }
    }
}

fn low(wide: u128) -> u64 {
    wide as u64
}

fn high(wide: u128) -> u64 {
    (wide >> 64) as u64
}

impl From<u128> for Wide {
    fn from(narrow: u128) -> Wide {
        Wide([low(narrow), high(narrow), 0, 0])
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Wide) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Wide) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
