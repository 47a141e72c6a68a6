use super::*;

#[test]
fn exp_is_within_two_units_in_the_last_place() {
    let mut worst = 0.0f64;
    let mut x = -87.0f32;
    while x < 88.7 {
        let expected = f64::from(x).exp();
        let unit = f64::from((expected as f32).next_up()) - f64::from(expected as f32);
        worst = worst.max((f64::from(exp(x)) - expected).abs() / unit);
        x += 0.000_37;
    }
    assert!(worst <= 2.0, "worst error {worst} units");
}

#[test]
fn exp_at_its_ends() {
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-0.0), 1.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    assert_eq!(exp(88.8), f32::INFINITY);
    assert_eq!(exp(-1e30), 0.0);
    assert!(exp(f32::NAN).is_nan());
    let subnormal = f64::from(exp(-95.0)) / (-95.0f64).exp();
    assert!((subnormal - 1.0).abs() < 1e-3, "{subnormal}");
}

#[test]
fn silu_at_its_ends() {
    assert_eq!(silu(0.0), 0.0);
    assert_eq!(silu(100.0), 100.0);
    assert_eq!(silu(-200.0), 0.0);
    assert!(silu(f32::NAN).is_nan());
}
