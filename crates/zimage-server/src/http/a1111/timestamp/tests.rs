use super::of;

#[test]
fn times_are_written_as_the_web_ui_writes_them() {
    assert_eq!(of(0), "19700101000000");
    assert_eq!(of(951_782_400_000), "20000229000000");
    assert_eq!(of(1_735_689_599_999), "20241231235959");
    assert_eq!(of(1_795_591_689_000), "20261125072809");
}
