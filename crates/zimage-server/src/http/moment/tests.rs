use super::Moment;

fn check(ms: u64, expected: (u64, u8, u8, u8, u8, u8)) {
    let Moment { year, month, day, hour, minute, second } = Moment::of(ms);
    assert_eq!((year, month, day, hour, minute, second), expected, "{ms}");
}

#[test]
fn milliseconds_become_days_of_the_calendar() {
    check(0, (1970, 1, 1, 0, 0, 0));
    check(951_782_400_000, (2000, 2, 29, 0, 0, 0));
    check(951_868_799_999, (2000, 2, 29, 23, 59, 59));
    check(1_709_251_199_000, (2024, 2, 29, 23, 59, 59));
    check(1_735_689_599_000, (2024, 12, 31, 23, 59, 59));
    check(4_107_542_400_000, (2100, 3, 1, 0, 0, 0));
}
