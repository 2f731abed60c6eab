//! The few functions of numbers that `core` does not have, by the same arithmetic on every machine.
//! A rule that needs more takes the crate `libm`, which is what a replay on another machine asks for.

/// Largest whole number that is not above `x`. Beyond 2^52 every number is whole.
#[must_use]
pub fn floor(x: f64) -> f64 {
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    if !x.is_finite() || x.abs() >= WHOLE {
        return x;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "below 2^52")]
    let cut = x as i64 as f64;
    if cut > x { cut - 1.0 } else { cut }
}

/// Nearest whole number, halves away from zero.
#[must_use]
pub fn round(x: f64) -> f64 {
    if x < 0.0 { -floor(-x + 0.5) } else { floor(x + 0.5) }
}

/// Square root, by Newton's steps from a halved exponent; NaN below zero.
#[must_use]
pub fn sqrt(x: f64) -> f64 {
    if x < 0.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == 0.0 || x.is_infinite() {
        return x;
    }
    let mut guess = f64::from_bits((x.to_bits() >> 1) + (0x3ff0_0000_0000_0000 >> 1));
    for _ in 0..6 {
        guess = 0.5 * (guess + x / guess);
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_agree_with_the_standard_library(x in -1e15_f64..1e15) {
            prop_assert_eq!(floor(x), x.floor());
            prop_assert_eq!(round(x), x.round());
            let error = (sqrt(x.abs()) - x.abs().sqrt()).abs();
            prop_assert!(error <= x.abs().sqrt() * 1e-15);
        }
    }
}
